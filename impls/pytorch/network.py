"""The U-Net as an arm runs it: with the arm's options around it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.backend import Arrays, BackendInfo, MemoryReading
from impls.pytorch.data import to_numpy
from impls.pytorch.ops import Operators, called
from impls.pytorch.unet import Attention, UNet, parameter_count
from impls.recipe.config import ModelConfig
from impls.recipe.operators import operators as listed


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
        self.config, self.device = config, device
        self.unet = UNet(config, operators).to(device).train(training).requires_grad_(training)
        if "channels_last" in options:
            self.unet = self.unet.to(memory_format=torch.channels_last)
        self.memory_format = torch.channels_last if "channels_last" in options else torch.contiguous_format
        # Without gradients the calls are all alike, so that on CUDA a graph of the kernels can be replayed.
        mode = "reduce-overhead" if device.type == "cuda" and not training else None
        self.forward = torch.compile(self.unet, mode=mode) if "compile" in options else self.unet
        self.autocast_dtype = torch.bfloat16 if "bf16" in options else None
        if self.autocast_dtype and not training:
            # An autocast keeps its casts of weights only where they have gradients, else it makes them at every call.
            for module in self.unet.modules():
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                    module.to(self.autocast_dtype)
        self.params = dict(self.unet.named_parameters())

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The predicted noise of x_t (N, C, H, W) at t (N,); half precision, where chosen, stays inside."""
        x_t = x_t.contiguous(memory_format=self.memory_format)
        with self.half():
            eps = self.forward(x_t, t)
        return eps.float()

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

    def told(self, info: BackendInfo, batch: int) -> BackendInfo:
        """`info` with the kernels of attention: PyTorch chooses among several, by strides, sizes and number types.

        Each attention of a shape of its own computes zeros once, below PyTorch's dispatcher, which tells what it ran.
        """
        if self.forward is not self.unet:
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
                with self.half():
                    names = called(partial(module, x))
                fused = {kernel for kernel in names if "scaled_dot_product" in kernel}
                kernels |= fused or {"products and softmax apart (math)"}
        if not kernels:
            return info
        chosen = f"{info.operators['attention']}: {' and '.join(sorted(kernels))}"
        return replace(info, operators={**info.operators, "attention": chosen})

    def half(self) -> AbstractContextManager[Any]:
        """The autocast that the options ask for."""
        return torch.autocast(self.device.type, self.autocast_dtype) if self.autocast_dtype else nullcontext()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights by name."""
        return to_numpy(self.params)


def device_memory(device: torch.device) -> MemoryReading:
    """Device memory as PyTorch's CUDA allocator reports it."""
    if device.type != "cuda":
        return MemoryReading(reason="PyTorch keeps no count of the CPU memory its tensors hold")
    peak_bytes = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return MemoryReading(torch.cuda.memory_allocated(device), peak_bytes, torch.cuda.memory_reserved(device))
