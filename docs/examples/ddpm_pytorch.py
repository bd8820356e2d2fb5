"""DDPM in PyTorch, whole and plain: training (Ho et al. 2020, algorithm 1), then sampling by DDIM (Song et al. 2021).

    python docs/examples/ddpm_pytorch.py --steps 500 --images 16 --out samples.png

On the CPU, with the network and the equations of `impls`, and nothing around them: no options, checkpoints or clocks.
The same in Jittor lies beside it: `diff -y docs/examples/ddpm_pytorch.py docs/examples/ddpm_jittor.py`.
A test shows that it loses what `impls.pytorch.trainer.Trainer` loses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.data import datasets
from impls.pictures.images import save_grid, to_uint8
from impls.pytorch.diffusion import ddim_step, q_sample
from impls.pytorch.unet import UNet
from impls.recipe import randomness
from impls.recipe.config import ExperimentConfig, merged, preset
from impls.recipe.schedule import Schedule, ddim_timesteps


def batch(config: ExperimentConfig, images: NDArray[np.uint8], step: int) -> Tensor:
    """The clean images x_0 (B, C, H, W) of a step, in [-1, 1], each mirrored with probability one half.

    Which images, which of them mirrored, and below which timesteps and which noise, depends on (seed, step) alone:
    random streams keyed by their purpose give every framework the same numbers.
    """
    size = config.train.batch_size
    x = images[randomness.batch_indices(config.seed, step, size, len(images))]
    mirrored = randomness.flips(config.seed, step, size)
    x[mirrored] = x[mirrored, :, ::-1]
    return torch.tensor(x.transpose(0, 3, 1, 2)).float() / 127.5 - 1


def loss_of(unet: UNet, config: ExperimentConfig, x0: Tensor, step: int) -> Tensor:
    """How wrong the network's guess of the noise is: the simple loss (Ho et al. 2020, equation 14).

    A noisy image x_t can be drawn from x_0 in one go (equation 4), so that a step of training needs no chain.
    """
    schedule = Schedule.from_config(config.diffusion)
    t = torch.tensor(randomness.timesteps(config.seed, step, len(x0), schedule.T))
    noise = torch.tensor(randomness.noise(config.seed, step, tuple(x0.shape)))
    x_t = q_sample(schedule, x0, t, noise)
    return nn.functional.mse_loss(unet(x_t, t), noise)


def optimiser_of(unet: UNet) -> torch.optim.Adam:
    """Adam (Kingma and Ba 2015); its rate is set at every step."""
    return torch.optim.Adam(unet.parameters(), fused=True)


def train(unet: UNet, config: ExperimentConfig, images: NDArray[np.uint8], steps: int
          ) -> tuple[dict[str, Tensor], list[float]]:
    """Train in place.

    Args:
        unet: the network.
        config: the recipe, one with clipping and averaged weights.
        images: uint8 (N, H, W, C).
        steps: optimisation steps.

    Returns:
        The averaged weights by name, from which DDPM samples, and the loss of every step.
    """
    unet.train()
    params = dict(unet.named_parameters())
    average = {name: p.detach().clone() for name, p in params.items()}
    adam, losses = optimiser_of(unet), []
    for step in range(steps):
        loss = loss_of(unet, config, batch(config, images, step), step)

        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params.values(), config.train.grad_clip)
        adam.param_groups[0]["lr"] = config.train.learning_rate(step)
        adam.step()
        with torch.no_grad():
            for name, mean in average.items():
                mean.lerp_(params[name], 1 - config.train.ema_decay)

        # Reading a number waits for the device: with every step's loss that costs time on CUDA.
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step}: loss {losses[-1]:.4f}")
    return average, losses


@torch.no_grad()
def sample(unet: UNet, config: ExperimentConfig, count: int, calls: int, seed: int) -> NDArray[np.uint8]:
    """Draw images by DDIM with eta 0 (Song et al. 2021, equation 12): from noise down, with few network calls.

    Args:
        unet: the network, with the weights to sample from.
        config: the recipe that it was trained by.
        count: how many images.
        calls: network calls of the chain, at most T.
        seed: seed of the noise that the chain starts from.

    Returns:
        uint8 (count, H, W, C).
    """
    unet.eval()
    schedule = Schedule.from_config(config.diffusion)
    shape = (config.model.image_channels, config.model.image_size, config.model.image_size)
    x = torch.tensor(randomness.image_noise(seed, range(count), schedule.T, shape))
    timesteps = ddim_timesteps(schedule.T, calls, "uniform")[::-1].tolist()
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        eps = unet(x, torch.full((count,), t))
        x = ddim_step(schedule, x, eps, t, t_prev, eta=0.0, noise=None)
    return to_uint8(x.numpy())


def main() -> None:
    """Train on the first data set that is there, and draw a grid of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="auto", choices=datasets.NAMES)
    parser.add_argument("--steps", type=int, default=500, help="optimisation steps")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=16, help="images to draw")
    parser.add_argument("--out", type=Path, default=Path("samples.png"))
    asked = parser.parse_args()

    images = datasets.prepare(asked.dataset).open()
    config = merged(preset("tiny"), {"model": {"image_channels": images.shape[3]},
                                     "train": {"batch_size": asked.batch_size}}, "command line")
    torch.manual_seed(config.seed)
    unet = UNet(config.model)
    average, losses = train(unet, config, images, asked.steps)
    print(f"loss {np.mean(losses[:50]):.4f} at first, {np.mean(losses[-50:]):.4f} at last")
    unet.load_state_dict(average)
    save_grid(asked.out, sample(unet, config, asked.images, calls=50, seed=0))
    print(asked.out)


if __name__ == "__main__":
    main()
