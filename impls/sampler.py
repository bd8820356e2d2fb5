"""The half of sampling that knows no framework: which timesteps a chain visits, and what noise it takes from where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.backend import Arrays, BackendInfo, Images, Mark, OnStep
from impls.errors import UsageError
from impls.pictures.images import require_finite, to_uint8
from impls.recipe import randomness
from impls.recipe.config import ExperimentConfig, Method, Spacing
from impls.recipe.schedule import Schedule, steps_down
from impls.store.diffusers import require_same
from messages import tell

STEPS = 50
# The framework's own.
Tensor = Any


class BaseSampler(ABC):
    """See `impls.backend.Sampler`: DDPM (Ho et al. 2020, algorithm 2) and DDIM (Song et al. 2021, equation 12).

    Attributes:
        network: what predicts the noise: the framework's own `network.Network`.
        no_grad: a block in which no gradients are kept.
        ddpm_step: of the framework's `diffusion`.
        ddim_step: of the framework's `diffusion`.
        latest: the images after the latest call of `step` or `enqueue`.
        predicted: sum of the noise predicted by the latest chain, which shows what clipping hides.
        mark: told of every phase's end while a step is cut; None while none is.
    """

    network: Any
    no_grad: Callable[[], AbstractContextManager[Any]]
    ddpm_step: Callable[..., Tensor]
    ddim_step: Callable[..., Tensor]

    def __init__(self, config: ExperimentConfig, info: BackendInfo) -> None:
        self.config, self.info = config, info
        self.schedule = Schedule.from_config(config.diffusion)
        self.endless = self.walk()
        self.latest: Tensor | None = None
        self.predicted: Tensor | None = None
        self.mark: Mark | None = None

    @property
    def parameter_count(self) -> int:
        """Trainable scalars of the network."""
        return self.network.parameter_count

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights by state-dict name."""
        return self.network.shapes

    def load(self, params: Arrays) -> None:
        """Use these weights, by state-dict name.

        Raises:
            CheckpointError: names or shapes differ from the network's, or values are not finite.
        """
        require_same("weights", params, self.network.shapes)
        self.network.load(params)

    def sample(self, n: int, seed: int, method: Method = "ddpm", steps: int | None = None, eta: float = 0.0,
               on_step: OnStep | None = None, *, spacing: Spacing = "uniform", first: int = 0) -> Images:
        """Images number `first` to `first + n - 1` of a seed: uint8 (n, H, W, C); see `impls.backend.Sampler`."""
        for calls, x in enumerate(self.chain(n, seed, method, steps, eta, spacing, first), start=1):
            if on_step is not None:
                on_step(calls, partial(self.images, x, self.predicted, first,
                                       tell(" after network call {number}", number=calls)))
        return self.images(x, self.predicted, first, tell(" after {count} network calls", count=calls) if calls > 1
                           else tell(" after {count} network call", count=calls))

    def chain(self, n: int, seed: int, method: Method, steps: int | None, eta: float, spacing: Spacing,
              first: int = 0, launch: bool = True) -> Iterator[Tensor]:
        """The images (n, C, H, W) after every network call; nothing waits for the device.

        Raises:
            UsageError: a number is outside its range, or DDPM is given other steps than T.
        """
        if n < 1 or first < 0 or not 0 <= eta < float("inf"):
            raise UsageError(tell("sampling needs at least one image, a first number and an eta of 0 or more: got "
                                  "{count} images from number {first} with eta {eta}", count=n, first=first, eta=eta))
        chosen = self.config.sample
        path = steps_down(self.schedule.T, method, steps, spacing, chosen.steps_offset, chosen.set_alpha_to_one)
        visited = [t for t, _ in path]
        # All timesteps at once, so that no step has to copy its own to the device.
        t_rows = self.to_device(np.repeat(np.array(visited, np.int64)[:, None], n, axis=1))
        draw = self.noise(n, seed, first)
        with self.no_grad():
            x, predicted = draw(self.schedule.T), None
        for row, (t, t_prev) in enumerate(path):
            with self.no_grad():
                eps = self.network(x, t_rows[row])
                self.phase_ends("network", [eps])
                # Clipping makes ordinary numbers of infinity and, in kernels that assume there is none, of NaN.
                predicted = eps if predicted is None else predicted + eps
                if method == "ddpm":
                    noise = draw(t) if t > 0 else None
                    x = self.ddpm_step(self.schedule, x, eps, t, noise, self.config.diffusion.variance, chosen.clip,
                                       clip_range=chosen.clip_range)
                else:
                    noise = draw(t) if eta > 0 and t_prev >= 0 else None
                    x = self.ddim_step(self.schedule, x, eps, t, t_prev, eta, noise, chosen.clip,
                                       clip_range=chosen.clip_range, recompute_eps=chosen.recompute_eps)
            if launch:
                self.launch([x, predicted])
            self.phase_ends("update", [x, predicted])
            self.predicted = predicted
            yield x

    def images(self, x: Tensor, predicted: Tensor, first: int, when: str) -> Images:
        """Images (n, C, H, W) in [-1, 1] as uint8 (n, H, W, C) on the host; waits for the device.

        Raises:
            UsageError: they, or the noise predicted on their way, are not finite.
        """
        require_finite(self.to_host(predicted), first, when)
        return to_uint8(self.to_host(x), first, when)

    def noise(self, n: int, seed: int, first: int) -> Callable[[int], Tensor]:
        """What draws standard normal noise (n, C, H, W): for the start at T, then for the step down from t."""
        model = self.config.model
        shape = (model.image_channels, model.image_size, model.image_size)
        if self.config.sample.randomness == "matched":
            numbers = range(first, first + n)
            return lambda t: self.to_device(randomness.image_noise(seed, numbers, t, shape))
        start = int(randomness.stream(seed, "framework sampling", first).integers(2**31))  # English
        return self.native_noise((n, *shape), start)

    def walk(self) -> Iterator[Tensor]:
        """The endless chain that `step` goes along: DDIM with the configured settings, again and again."""
        chosen = self.config.sample
        steps = chosen.steps or min(STEPS, self.schedule.T)
        while True:
            yield from self.chain(chosen.batch_size, self.config.seed, "ddim", steps, chosen.eta, chosen.spacing)

    def step(self) -> None:
        """Enqueue one network call and the step down that follows from it."""
        self.latest = next(self.endless)

    def step_in_phases(self, mark: Mark) -> None:
        """One step as `step` does it, but waiting for the device at the end of its network call and of its update."""
        self.mark = mark
        try:
            self.step()
        finally:
            self.mark = None

    def phase_ends(self, phase: str, tensors: Sequence[Tensor]) -> None:
        """While a step is cut, wait for what a phase has computed and tell its end."""
        if self.mark is not None:
            self.finish(tensors)
            self.mark(phase)

    @abstractmethod
    def finish(self, tensors: Sequence[Tensor]) -> None:
        """Return only when these are computed."""

    def enqueue(self, n: int, seed: int, steps: int) -> None:
        """Ask for a DDIM chain without launching or waiting for anything: what careless timing measures."""
        chosen = self.config.sample
        chain = self.chain(n, seed, "ddim", steps, chosen.eta, chosen.spacing, launch=False)
        self.latest = deque(chain, maxlen=1).pop()

    def launch(self, tensors: list[Tensor]) -> None:  # noqa: B027 - an eager framework has nothing to do
        """Start what computes these, where the framework would only note it down."""

    @abstractmethod
    def native_noise(self, shape: tuple[int, ...], seed: int) -> Callable[[int], Tensor]:
        """What draws standard normal noise of `shape` from the framework's own generator, started from `seed`."""

    @abstractmethod
    def to_device(self, array: NDArray[Any]) -> Tensor:
        """A tensor of the array on the device."""

    @abstractmethod
    def to_host(self, x: Tensor) -> NDArray[np.float32]:
        """The tensor's values; waits for the device."""

    def close(self) -> None:
        """Release device memory."""
        del self.endless, self.latest, self.predicted, self.network
