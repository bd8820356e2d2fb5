"""This project's own DDPM (Ho et al. 2020) written as a pair: what the built-in arms train with the preset `tiny`."""

import numpy as np

PRESET, BATCH = "tiny", 2
optimizer = {"name": "Adam", "lr": 2e-4, "grad_clip": 1.0, "ema_decay": 0.995}

def _recipe():
    from impls.recipe.config import preset
    return preset(PRESET)

def torch_model():
    from impls.pytorch.unet import UNet
    return UNet(_recipe().model)

def jittor_model():
    from impls.jittor.unet import UNet
    return UNet(_recipe().model)

def batch(rng):
    """Images, timesteps and noise, with what takes x_0 to x_t in one go (equation 4)."""
    from impls.recipe.schedule import Schedule

    schedule, size = Schedule.from_config(_recipe().diffusion), _recipe().model.image_size
    t = rng.integers(0, schedule.T, BATCH)
    kept = schedule.alphas_bar[t][:, None, None, None].astype(np.float32)
    x0, noise = rng.uniform(-1, 1, (BATCH, 3, size, size)), rng.standard_normal((BATCH, 3, size, size))
    return {"x0": x0, "noise": noise, "t": t, "signal": np.sqrt(kept), "sigma": np.sqrt(1 - kept)}

def _noisy(batch):
    return batch["signal"] * batch["x0"] + batch["sigma"] * batch["noise"]

def torch_loss(model, batch):
    from torch import nn
    return nn.functional.mse_loss(model(_noisy(batch), batch["t"]), batch["noise"])

def jittor_loss(model, batch):
    from jittor import nn
    return nn.mse_loss(model(_noisy(batch), batch["t"]), batch["noise"])

def outputs(model, batch):
    return model(_noisy(batch), batch["t"])
