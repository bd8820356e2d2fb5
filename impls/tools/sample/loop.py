"""The framework-neutral loop of sampling: exactly N images, numbered from 0, in batches of any `Sampler`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from impls.backend import Images, Sampler
from impls.errors import CheckpointError, UsageError
from impls.pictures.images import to_uint8
from impls.recipe import randomness
from impls.recipe.config import Method, ModelConfig, Spacing
from impls.recipe.schedule import sampling_timesteps
from impls.store.weights import Weights
from messages import tell


@dataclass(frozen=True)
class Request:
    """Which chain every image comes from.

    Attributes:
        method: "ddpm" over all T timesteps, or "ddim" over `steps` of them.
        steps: timesteps that DDIM visits; None for DDPM.
        eta: DDIM's noise level.
        spacing: which timesteps DDIM visits.
        seed: seed of the noise.
    """

    method: Method
    steps: int | None
    eta: float
    spacing: Spacing
    seed: int

    def nfe(self, T: int, offset: int = 0) -> int:
        """Network calls per image of a process of T steps; `offset` is that of `SampleConfig.steps_offset`.

        Raises:
            UsageError: a number is outside its range, or has no meaning for the method.
        """
        if not 0 <= self.eta < math.inf:
            raise UsageError(tell("eta {eta}: choose a number of 0 or more", eta=self.eta))
        if self.method == "ddpm" and (self.eta != 0 or self.spacing != "uniform"):
            raise UsageError(tell("eta and spacing belong to DDIM: give the number of steps too"))
        return len(sampling_timesteps(T, self.method, self.steps, self.spacing, offset))


@dataclass(frozen=True)
class Batch:
    """What one call of a sampler gave.

    Attributes:
        images: uint8 (n, H, W, C).
        frames: the same images at the moments that were asked for: (moments, n, H, W, C).
        seconds: how long the call took, its waiting for the device included.
    """

    images: Images
    frames: Images
    seconds: float


def load_into(sampler: Sampler, weights: Weights) -> None:
    """Give the sampler its weights.

    Raises:
        CheckpointError: they do not fit its network; the message names the file.
    """
    try:
        sampler.load(weights.params)
    except CheckpointError as error:
        raise CheckpointError(f"{weights.path}: {error}") from error


def moments(nfe: int, frames: int) -> list[int]:
    """Numbers of network calls after which a film shows the images: 0, the start noise, to `nfe`, the final images.

    They are evenly spaced, up to rounding; a chain with fewer moments than `frames` shows every one of them.

    Raises:
        UsageError: a film of fewer than two frames.
    """
    if frames < 2:
        raise UsageError(tell("frames {frames}: choose 2 or more, the start noise and the final images are two",
                              frames=frames))
    return [int(call) for call in np.unique(np.rint(np.linspace(0, nfe, min(frames, nfe + 1))).astype(np.int64))]


def start_images(model: ModelConfig, seed: int, numbers: range, T: int) -> Images:
    """The noise that matched sampling starts from, as images (n, H, W, C)."""
    shape = (model.image_channels, model.image_size, model.image_size)
    return to_uint8(randomness.image_noise(seed, numbers, T, shape))


def draw(sampler: Sampler, request: Request, numbers: range, start: Callable[[range], Images] | None = None,
         film: Collection[int] = (), on_call: Callable[[], None] = lambda: None) -> Batch:
    """The images with these numbers, at once.

    Args:
        sampler: with its weights loaded.
        request: the chain.
        numbers: consecutive image numbers.
        start: the start noise as images, for moment 0 of a film.
        film: moments to keep the images of, see `moments`; the others are not waited for.
        on_call: called after every network call.
    """
    kept: dict[int, Images] = {0: start(numbers)} if start is not None and 0 in film else {}

    def on_step(calls: int, read: Callable[[], Images]) -> None:
        if calls in film:
            kept[calls] = read()
        on_call()

    began = time.perf_counter()
    images = sampler.sample(len(numbers), request.seed, request.method, request.steps, request.eta, on_step,
                            spacing=request.spacing, first=numbers.start)
    seconds = time.perf_counter() - began
    if images.dtype != np.uint8 or len(images) != len(numbers):
        raise UsageError(tell("the sampler returned {count} images of {kind} instead of {wanted} of uint8: the "
                              "backend does not keep its contract", count=len(images), kind=images.dtype,
                              wanted=len(numbers)))
    frames = np.stack([kept[call] for call in sorted(kept)]) if kept else np.empty((0, *images.shape), np.uint8)
    return Batch(images, frames, seconds)


def batches(count: int, size: int) -> Iterator[range]:
    """The numbers 0 to count - 1 in runs of `size`, the last one shorter where it does not divide.

    Raises:
        UsageError: either is not positive.
    """
    if count < 1 or size < 1:
        raise UsageError(tell("{count} images in batches of {size}: both must be at least 1", count=count, size=size))
    return (range(first, min(first + size, count)) for first in range(0, count, size))
