"""DDPM in Jittor, whole and plain: training (Ho et al. 2020, algorithm 1), then sampling by DDIM (Song et al. 2021).

    python docs/examples/ddpm_jittor.py --steps 500 --images 16 --out samples.png

On the CPU, with the network and the equations of `impls`, and nothing around them: no options, checkpoints or clocks.
The same in PyTorch lies beside it: `diff -y docs/examples/ddpm_pytorch.py docs/examples/ddpm_jittor.py`.
A test shows that it loses what `impls.jittor.trainer.Trainer` loses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impls.jittor import runtime

runtime.prepare("cpu")  # Sets what the import of Jittor reads.
import jittor as jt  # noqa: E402
from jittor import Var, nn  # noqa: E402

from impls.data import datasets  # noqa: E402
from impls.jittor.diffusion import ddim_step, q_sample  # noqa: E402
from impls.jittor.unet import UNet  # noqa: E402
from impls.pictures.images import save_grid, to_uint8  # noqa: E402
from impls.recipe import randomness  # noqa: E402
from impls.recipe.config import ExperimentConfig, merged, preset  # noqa: E402
from impls.recipe.schedule import Schedule, ddim_timesteps  # noqa: E402


def batch(config: ExperimentConfig, images: NDArray[np.uint8], step: int) -> Var:
    """The clean images x_0 (B, C, H, W) of a step, in [-1, 1], each mirrored with probability one half.

    Which images, which of them mirrored, and below which timesteps and which noise, depends on (seed, step) alone:
    random streams keyed by their purpose give every framework the same numbers.
    """
    size = config.train.batch_size
    x = images[randomness.batch_indices(config.seed, step, size, len(images))]
    mirrored = randomness.flips(config.seed, step, size)
    x[mirrored] = x[mirrored, :, ::-1]
    return jt.array(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float32() / 127.5 - 1


def loss_of(unet: UNet, config: ExperimentConfig, x0: Var, step: int) -> Var:
    """How wrong the network's guess of the noise is: the simple loss (Ho et al. 2020, equation 14).

    A noisy image x_t can be drawn from x_0 in one go (equation 4), so that a step of training needs no chain.
    """
    schedule = Schedule.from_config(config.diffusion)
    t = jt.array(randomness.timesteps(config.seed, step, len(x0), schedule.T))
    noise = jt.array(randomness.noise(config.seed, step, tuple(x0.shape)))
    x_t = q_sample(schedule, x0, t, noise)
    return nn.mse_loss(unet(x_t, t), noise)


class Adam(jt.optim.AdamW):
    """Jittor's Adam puts epsilon inside the bias correction; its AdamW without decay is Adam, but for the root.

    Jittor compiles with -Ofast, where the root of a number below 2^-126 may be NaN; some second moments are that small.
    """

    def step(self) -> None:
        """Move every parameter by the gradients of `backward`."""
        self.pre_step(None)
        group, (beta1, beta2), n = self.param_groups[0], self.betas, float(self.n_step)
        for p, g, v, m in zip(group["params"], group["grads"], group["values"], group["m"], strict=True):
            m.update(beta1 * m + (1 - beta1) * g)
            v.update(beta2 * v + (1 - beta2) * g * g)
            root = jt.sqrt(jt.maximum(v, 2.0**-126)) / jt.sqrt(1 - beta2**n) + self.eps
            p.update(p - self.lr / (1 - beta1**n) * m / root)
        self.post_step()


def optimiser_of(unet: UNet) -> Adam:
    """Adam (Kingma and Ba 2015); its rate is set at every step."""
    return Adam(list(unet.parameters()), lr=0.0, weight_decay=0)


def train(unet: UNet, config: ExperimentConfig, images: NDArray[np.uint8], steps: int
          ) -> tuple[dict[str, Var], list[float]]:
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
    average = {name: p.detach().copy().stop_grad() for name, p in params.items()}
    adam, losses = optimiser_of(unet), []
    for step in range(steps):
        loss = loss_of(unet, config, batch(config, images, step), step)

        adam.zero_grad()
        adam.backward(loss)
        adam.clip_grad_norm(config.train.grad_clip)
        adam.lr = config.train.learning_rate(step)
        adam.step()
        for name, mean in average.items():
            mean.update(mean + (params[name].detach() - mean) * (1 - config.train.ema_decay))
        # Jittor only notes down what is to be computed: without this the averages would hold every step's graph.
        jt.sync([*params.values(), *average.values()])

        # Reading a number waits for the device: with every step's loss that costs time on CUDA.
        losses.append(float(loss.item()))
        if step % 50 == 0:
            print(f"step {step}: loss {losses[-1]:.4f}")
    return average, losses


@jt.no_grad()
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
    x = jt.array(randomness.image_noise(seed, range(count), schedule.T, shape))
    timesteps = ddim_timesteps(schedule.T, calls, "uniform")[::-1].tolist()
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        eps = unet(x, jt.full((count,), t, dtype="int32"))
        x = ddim_step(schedule, x, eps, t, t_prev, eta=0.0, noise=None)
        # Else the noted graph would grow over all calls.
        jt.sync([x])
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
    jt.set_global_seed(config.seed)
    unet = UNet(config.model)
    average, losses = train(unet, config, images, asked.steps)
    print(f"loss {np.mean(losses[:50]):.4f} at first, {np.mean(losses[-50:]):.4f} at last")
    for name, p in unet.named_parameters():
        p.update(average[name])
    save_grid(asked.out, sample(unet, config, asked.images, calls=50, seed=0))
    print(asked.out)


if __name__ == "__main__":
    main()
