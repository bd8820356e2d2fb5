"""Whole chains step by step beside diffusers' schedulers."""

from __future__ import annotations

import numpy as np
import pytest
from small_sampling import numpy, oracle, sampler


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
