"""Whole chains of diffusers' own schedulers, in a process of their own: beside Jittor there is no PyTorch.

    python diffusers_chains.py CASES.json OUT.npz [FOLDER]

A case is `{"config": TEXT, "method": "ddpm" or "ddim", "steps": S, "eta": ETA, "seed": SEED}` with the text of a
`scheduler_config.json`. OUT holds for case i the final images `x{i}` and the scheduler's `alphas_bar{i}`, or neither
where diffusers raises. The network is a closed form, or, with FOLDER, a small UNet2DModel that is saved as FOLDER/unet.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np

from impls.recipe import randomness

SHAPE = (1, 4, 4)
IMAGES = range(2)


def network(alphas_bar, x, t):
    """The best predictor for images around a fixed picture, part of it outside [-1, 1]; float32 numpy or tensors."""
    picture = np.linspace(-1.4, 1.4, 16, dtype=np.float32).reshape(SHAPE)
    ab = float(alphas_bar[t])
    slope = np.float32(np.sqrt(1 - ab) / (ab * 0.25 + 1 - ab))
    return (x - np.float32(np.sqrt(ab)) * picture) * slope


def noise(seed, t, shape=SHAPE):
    """x_T for t = T, else what is added on the way down from t."""
    return randomness.image_noise(seed, IMAGES, t, shape)


def saved_unet(folder):
    """A small network whose every layer is felt, saved in `folder`."""
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1).eval()
    unet.save_pretrained(folder)
    return unet


def chain(case, unet=None):
    """Final images (n, C, H, W) and the table alpha-bar of diffusers' chain."""
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    seed, ddim = case["seed"], case["method"] == "ddim"
    config = json.loads(case["config"])
    if ddim and config.get("beta_schedule") == "sigmoid":
        # Their DDIM cannot name it.
        config["trained_betas"] = DDPMScheduler.from_config(config).betas.tolist()
    # Over all T timesteps there is no room for an offset: theirs would ask for timestep T and stop.
    more = {} if ddim else {"steps_offset": 0}
    scheduler = (DDIMScheduler if ddim else DDPMScheduler).from_config(config, **more)
    T = scheduler.config.num_train_timesteps
    scheduler.set_timesteps(case["steps"] or T)
    alphas_bar = scheduler.alphas_cumprod.numpy().copy()
    shape = SHAPE if unet is None else (3, 16, 16)
    x = torch.from_numpy(noise(seed, T, shape))
    for t in scheduler.timesteps.tolist():
        if t < 0:
            raise IndexError(t)
        with torch.no_grad():
            eps = torch.from_numpy(network(alphas_bar, x.numpy(), t)) if unet is None else unet(x, t).sample
        drawn = torch.from_numpy(noise(seed, t, shape))
        scheduling_ddpm.randn_tensor = lambda *_, drawn=drawn, **__: drawn
        more = {"eta": case["eta"], "variance_noise": drawn,
                "use_clipped_model_output": case.get("recompute_eps", False)} if ddim else {}
        x = scheduler.step(eps, t, x, **more).prev_sample
    return x.numpy(), alphas_bar


def main(cases, out, folder=None):
    """All chains of a file of cases."""
    found = {}
    unet = None if folder is None else saved_unet(folder)
    for number, case in enumerate(cases):
        try:
            x, alphas_bar = chain(case, unet)
        except Exception as error:
            print(f"case {number}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        found |= {f"x{number}": x, f"alphas_bar{number}": alphas_bar}
    np.savez(out, **found)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    from diffusers.utils import logging

    logging.set_verbosity_error()
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file), *sys.argv[2:])
