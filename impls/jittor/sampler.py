"""Sampling: DDPM (Ho et al. 2020, algorithm 2) and DDIM (Song et al. 2021, equation 12) from a trained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.backend import BackendInfo
from impls.jittor.data import Generator, to_device
from impls.jittor.diffusion import ddim_step, ddpm_step
from impls.jittor.network import Network, OnDevice
from impls.jittor.ops import Operators
from impls.jittor.profile import profiled
from impls.recipe.config import ExperimentConfig
from impls.recipe.profile import Profile
from impls.sampler import BaseSampler


class Sampler(OnDevice, BaseSampler):
    """See `impls.sampler.BaseSampler`; here is what Jittor's variables do."""

    no_grad = staticmethod(jt.no_grad)
    ddpm_step = staticmethod(ddpm_step)
    ddim_step = staticmethod(ddim_step)

    def __init__(self, config: ExperimentConfig, info: BackendInfo, options: frozenset[str],
                 operators: Operators) -> None:
        super().__init__(config, info)
        # A training in this process must not notice that there is a sampler.
        with Generator(config.seed).in_use():
            self.network = Network(config.model, options, operators, training=False)
        self.info = self.network.told(info, config.sample.batch_size)

    def launch(self, tensors: list[Var]) -> None:
        """Start what computes these."""
        # Left to itself, the lazy graph would grow over all steps, and its memory with it.
        jt.sync(tensors)

    def native_noise(self, shape: tuple[int, ...], seed: int) -> Callable[[int], Var]:
        """What draws standard normal noise of `shape` from a generator of its own, started from `seed`."""
        generator = Generator(seed)
        return lambda _t: generator.normal(shape)

    def outputs(self) -> list[Var]:
        """The end of a chain that was asked for and is not waited for."""
        return [] if self.latest is None else [self.latest]

    def to_device(self, array: NDArray[Any]) -> Var:
        """A variable of the array, which Jittor copies to the device when it runs."""
        return to_device(array)

    def to_host(self, x: Var) -> NDArray[np.float32]:
        """The variable's values; waits for the device."""
        return x.numpy()

    def profile(self, steps: int) -> Profile:
        """What so many network calls, each with its update, launch; see `impls.backend.Profiling`."""
        return profiled(self.step_in_phases, steps, self.info.device == "cuda")

    def close(self) -> None:
        """Release device memory."""
        super().close()
        jt.gc()
