"""Whole chains step by step beside diffusers, with its schedulers and with a network that it saved."""

from __future__ import annotations

import numpy as np
import pytest
from small_sampling import numpy, oracle, sampler

from impls.recipe import randomness
from impls.store.weights import load_weights
from impls.tools.sample.loop import load_into


@pytest.fixture(autouse=True)
def peer(fw):
    if fw.name != "pytorch":
        pytest.skip("diffusers needs PyTorch, which does not share a process with Jittor")


@pytest.mark.parametrize(("method", "variance", "steps", "eta"), [
    ("ddpm", "fixedlarge", None, 0.0), ("ddpm", "fixedsmall", None, 0.0), ("ddim", "fixedlarge", 20, 0.0),
    ("ddim", "fixedlarge", 50, 0.7)])
def test_chains_agree_with_diffusers_step_by_step(fw, monkeypatch, method, variance, steps, eta):
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler

    T = 200
    subject = sampler(fw, T=T, variance=variance, loaded=False)
    subject.network = oracle(subject.schedule)
    draw = subject.noise(2, 3, 0)
    if method == "ddpm":
        theirs = DDPMScheduler(T, clip_sample=True, variance_type=variance.replace("fixed", "fixed_"))
    else:
        theirs = DDIMScheduler(T, clip_sample=True, set_alpha_to_one=True, timestep_spacing="leading", steps_offset=0)
    theirs.set_timesteps(steps or T)
    x = draw(T)
    for t, ours in zip(theirs.timesteps.tolist(), subject.chain(2, 3, method, steps, eta, "uniform"), strict=True):
        eps = subject.network(x, torch.tensor([t]))
        if method == "ddpm":
            monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, t=t, **__: draw(t))
            x = theirs.step(eps, t, x).prev_sample
        else:
            x = theirs.step(eps, t, x, eta=eta, use_clipped_model_output=True,
                            variance_noise=draw(t)).prev_sample
        # Diffusers keeps its tables in float32; the differences of the steps add up.
        np.testing.assert_allclose(numpy(ours), numpy(x), rtol=0, atol=2e-4, err_msg=f"t = {t}")


def test_a_diffusers_folder_gives_diffusers_images(fw, tmp_path):
    import torch
    from diffusers import DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    theirs = UNet2DModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1).eval()
    scheduler = DDIMScheduler(num_train_timesteps=100, beta_end=0.15, clip_sample=True)
    theirs.save_pretrained(tmp_path / "unet")
    scheduler.save_pretrained(tmp_path / "scheduler")
    found = load_weights(tmp_path)
    subject = fw.backend.create((), "cpu", 1).sampler(found.config)
    load_into(subject, found)
    scheduler.set_timesteps(10)
    x = torch.from_numpy(randomness.image_noise(1, range(2), 100, (3, 16, 16)))
    with torch.no_grad():
        for t, ours in zip(scheduler.timesteps, subject.chain(2, 1, "ddim", 10, 0.0, "uniform"), strict=True):
            x = scheduler.step(theirs(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
            np.testing.assert_allclose(numpy(ours), x.numpy(), rtol=0, atol=1e-3, err_msg=f"t = {t}")
