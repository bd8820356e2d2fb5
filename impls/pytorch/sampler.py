"""Sampling: DDPM (Ho et al. 2020, algorithm 2) and DDIM (Song et al. 2021, equation 12) from a trained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.backend import BackendInfo
from impls.pytorch.data import Generator, to_device
from impls.pytorch.diffusion import ddim_step, ddpm_step
from impls.pytorch.network import Network, OnDevice
from impls.pytorch.ops import Operators
from impls.pytorch.profile import profiled
from impls.recipe.config import ExperimentConfig
from impls.recipe.profile import Profile
from impls.sampler import BaseSampler


class Sampler(OnDevice, BaseSampler):
    """See `impls.sampler.BaseSampler`; here is what PyTorch's tensors do."""

    no_grad = staticmethod(torch.inference_mode)
    ddpm_step = staticmethod(ddpm_step)
    ddim_step = staticmethod(ddim_step)

    def __init__(self, config: ExperimentConfig, device: torch.device, info: BackendInfo,
                 options: frozenset[str], operators: Operators) -> None:
        super().__init__(config, info)
        self.device = device
        # A training in this process must not notice that there is a sampler.
        with Generator(config.seed, device).in_use():
            self.network = Network(config.model, device, options, operators, training=False)
        self.info = self.network.told(info, config.sample.batch_size)

    def native_noise(self, shape: tuple[int, ...], seed: int) -> Callable[[int], Tensor]:
        """What draws standard normal noise of `shape` from a generator of its own, started from `seed`."""
        generator = Generator(seed, self.device)
        return lambda _t: generator.normal(shape)

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """A tensor of the array on the device."""
        return to_device(array, self.device)

    def to_host(self, x: Tensor) -> NDArray[np.float32]:
        """The tensor's values; waits for the device."""
        return x.cpu().numpy()

    def profile(self, steps: int) -> Profile:
        """What so many network calls, each with its update, launch; see `impls.backend.Profiling`."""
        return profiled(self.step_in_phases, steps, self.device.type == "cuda", "compile" in self.network.options)

    def close(self) -> None:
        """Release device memory."""
        super().close()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
