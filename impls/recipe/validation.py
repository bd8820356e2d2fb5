"""Which images can be trained on, which are held out, and the loss on these: one number from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from impls.errors import DataError
from impls.recipe.config import ExperimentConfig
from impls.recipe.randomness import stream
from impls.recipe.schedule import Schedule
from messages import tell

MOST_HELD_OUT = 1024
# Images of a network call at least: forward only, so that they take less memory than a training batch of the paper's.
LEAST_AT_ONCE = 32
Predict = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]


def require_usable(images: NDArray[np.uint8], config: ExperimentConfig) -> None:
    """Refuse images that cannot be trained on.

    Raises:
        DataError: they do not fit the network, or are fewer than a batch.
    """
    model, size = config.model, config.train.batch_size
    wanted = (model.image_size, model.image_size, model.image_channels)
    if images.dtype != np.uint8 or images.shape[1:] != wanted:
        raise DataError(tell("images are {kind} {shape}, the network needs uint8 {wanted}: choose another data set, "
                             "or another model.image_size for a new network", kind=images.dtype,
                             shape=images.shape[1:], wanted=wanted))
    if len(images) < size:
        raise DataError(tell("batch size {size}: the data set has only {images} images: lower it", size=size,
                             images=len(images)))


def held_out(images: int) -> int:
    """How many of a data set's images, its last ones, are never trained on: 5 %, at most 1024."""
    return min(MOST_HELD_OUT, images // 20)


def held_out_loss(predict: Predict, images: NDArray[np.uint8], config: ExperimentConfig) -> float:
    """The mean squared error of the predicted noise (Ho et al. 2020, equation 14) over images (N, H, W, C).

    Timesteps are spread evenly over 0..T-1 and noise belongs to an image's number, so that the value depends on
    (predict, seed, images) alone and differs between two networks by what they do, not by what was drawn. Every call
    has the same shape, the last one filled up with zeros: that of a training batch, which is compiled already where
    a framework compiles, or of more images where that is small.

    Args:
        predict: eps from x_t (B, C, H, W) and t (B,), dropout off.
        images: at least one.
        config: seed, diffusion, and the batch size.
    """
    n, T = len(images), config.diffusion.T
    size = min(n, max(LEAST_AT_ONCE, config.train.batch_size))
    timesteps = stream(config.seed, "validation timesteps").permutation(  # English
        np.arange(n, dtype=np.int64) * T // n)
    alphas_bar = Schedule.from_config(config.diffusion).alphas_bar
    squares = 0.0
    for first in range(0, n, size):
        t = timesteps[first : first + size]
        # Float64 (B, C, H, W) in [-1, 1].
        x0 = images[first : first + size].transpose(0, 3, 1, 2) / 127.5 - 1
        noise = np.stack([stream(config.seed, "validation noise", first + i).standard_normal(x0.shape[1:])  # English
                          for i in range(len(x0))])
        ab = alphas_bar[t].reshape(-1, 1, 1, 1)
        x_t, short = (np.sqrt(ab) * x0 + np.sqrt(1 - ab) * noise).astype(np.float32), size - len(t)
        filled = np.pad(x_t, ((0, short), (0, 0), (0, 0), (0, 0))), np.pad(t, (0, short))
        eps = predict(*filled)[: len(t)]
        squares += float(np.sum((eps - noise) ** 2))
    return squares / images.size
