"""The U-Net as an arm runs it: with the arm's options around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.backend import Arrays, BackendInfo, MemoryReading
from impls.errors import UnavailableError
from impls.pytorch.data import to_numpy
from impls.pytorch.ops import Operators, called
from impls.pytorch.trace import Traced
from impls.pytorch.unet import Attention, UNet, parameter_count
from impls.recipe.config import ModelConfig
from impls.recipe.operators import operators as listed
from impls.recipe.precision import half
from impls.recipe.trace import Twin
from messages import recorded, tell


class Network:
    """eps(x_t, t) in float32, whatever the options do inside.

    Args:
        config: the network's shape.
        device: where it computes.
        options: of the arm.
        operators: the primitives that it is made of.
        training: dropout on and gradients wanted, or neither.
    """

    def __init__(self, config: ModelConfig, device: torch.device, options: frozenset[str], operators: Operators,
                 training: bool) -> None:
        self.config, self.device, self.options = config, device, options
        self.unet = UNet(config, operators).to(device).train(training).requires_grad_(training)
        if "channels_last" in options:
            self.unet = self.unet.to(memory_format=torch.channels_last)
        self.memory_format = torch.channels_last if "channels_last" in options else torch.contiguous_format
        self.frozen = "freeze" in options and not training
        self.computed: Callable[..., Tensor] = self.unet
        if "compile" in options:
            self.computed = torch.compile(self.unet, options=_compiler_settings(options, device, training))
        self.forward = as_run(self.computed, device, options)
        if not training:
            cast_weights(self.unet, options)
        self.params = dict(self.unet.named_parameters())

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The predicted noise of x_t (N, C, H, W) at t (N,); half precision, where chosen, stays inside."""
        return self.forward(x_t.contiguous(memory_format=self.memory_format), t).float()

    @property
    def parameter_count(self) -> int:
        """Trainable scalars."""
        return parameter_count(self.unet)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes by name."""
        return {name: tuple(p.shape) for name, p in self.params.items()}

    def switch_dropout(self, on: bool) -> None:
        """Switch dropout on or off."""
        self.unet.train(on)

    @torch.no_grad()
    def load(self, params: Arrays) -> None:
        """Take over weights that fit, by name."""
        for name, p in self.params.items():
            p.copy_(torch.tensor(params[name]))
        if self.frozen:
            # What was compiled before holds copies of other weights.
            torch.compiler.reset()

    def told(self, info: BackendInfo, batch: int) -> BackendInfo:
        """`info` with the kernels of attention: PyTorch chooses among several, by strides, sizes and number types.

        Each attention of a shape of its own computes zeros once, below PyTorch's dispatcher, which tells what it ran.

        Raises:
            UnavailableError: an option asks for a kernel that PyTorch has not for these heads on this device.
        """
        if "compile" in self.options:
            # Compiled code chooses for itself, when it is first called.
            return info
        shapes = {one.inputs[0]: one.module for one in listed(self.config) if one.name.endswith(".attention.add_input")}
        modules = dict(self.unet.named_modules())
        kernels: set[str] = set()
        for shape, name in shapes.items():
            module = modules.get(name)
            if isinstance(module, Attention):
                # Two images stand for more; of a single one the strides say less.
                x = torch.zeros(min(batch, 2), *shape, device=self.device).contiguous(memory_format=self.memory_format)
                try:
                    names = called(partial(as_run(module, self.device, self.options), x))
                except RuntimeError as error:
                    if "No available kernel" not in str(error):  # English
                        raise
                    raise UnavailableError(tell("option attention=fused: PyTorch has no fused kernel for {name} on "
                                                "{device}: leave the option out", name=name,
                                                device=self.device.type)) from error
                fused = {kernel for kernel in names if "scaled_dot_product" in kernel}
                kernels |= fused or {recorded("products and softmax apart (math)")}
        if not kernels:
            return info
        chosen = f"{info.operators['attention']}: {' and '.join(sorted(kernels))}"
        return replace(info, operators={**info.operators, "attention": chosen})

    def traced(self, twin: Twin) -> Traced:
        """The network as it is looked into."""
        # Compiled code cannot be: it is seen from outside. Its twins, by which its rounding is known, are not compiled.
        outside = {"": (self, "forward")} if "compile" in self.options and twin == "plain" else {}
        return Traced(self.unet, outside, partial(_autocast, self.device, self.options))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights by name."""
        return to_numpy(self.params)


def _compiler_settings(options: Collection[str], device: torch.device, training: bool) -> dict[str, Any]:
    """What an arm's options ask of inductor."""
    found: dict[str, Any] = {}
    if device.type == "cuda" and not training:
        # Without gradients the calls are all alike, so that a graph of the kernels can be replayed.
        found["triton.cudagraphs"] = True
    if "autotune" in options:
        found |= {"max_autotune": True, "coordinate_descent_tuning": True}
    if "freeze" in options and not training:
        # In a training they change: what is computed in it without gradients would be of old ones.
        found["freezing"] = True
    return found


def as_run(module: Callable[..., Tensor], device: torch.device, options: Collection[str]) -> Callable[..., Tensor]:
    """The network, or a part of it, as an arm with these options runs it: under the autocast that they ask for."""
    if half(options) is None:
        return module

    def call(*inputs: Tensor) -> Tensor:
        with _autocast(device, options):
            return module(*inputs)

    return call


def cast_weights(unet: nn.Module, options: Collection[str]) -> None:
    """Cast once, for calls without gradients, what half precision casts: an autocast would do so at every call."""
    dtype = half(options)
    if dtype is None:
        return
    for layer in unet.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            layer.to(getattr(torch, dtype))


class OnDevice:
    """What everything that computes on a device has: waiting for it, and its memory."""

    device: torch.device

    def synchronize(self) -> None:
        """Return only when all enqueued work is finished; on the CPU it always is."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def finish(self, tensors: Sequence[Tensor]) -> None:
        """Return only when these are computed."""
        self.synchronize()

    def pending_work(self) -> int | None:
        """None: PyTorch does not tell how much is enqueued on CUDA, and enqueues nothing on the CPU."""
        return None

    def memory(self) -> MemoryReading:
        """Device memory as PyTorch's CUDA allocator reports it."""
        if self.device.type != "cuda":
            return MemoryReading(reason=recorded("PyTorch keeps no count of the CPU memory its tensors hold"))
        peak_bytes = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return MemoryReading(torch.cuda.memory_allocated(self.device), peak_bytes,
                             torch.cuda.memory_reserved(self.device))


def _autocast(device: torch.device, options: Collection[str]) -> AbstractContextManager[Any]:
    """What an arm with these options computes under."""
    dtype = half(options)
    return nullcontext() if dtype is None else torch.autocast(device.type, getattr(torch, dtype))
