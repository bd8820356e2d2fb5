"""The U-Net as an arm runs it: with the arm's options around it."""

from __future__ import annotations

from contextlib import nullcontext

import jittor as jt
import numpy as np
from jittor import Var, nn
from numpy.typing import NDArray

from impls.backend import Arrays, MemoryReading
from impls.jittor.data import to_numpy
from impls.jittor.ops import Operators
from impls.jittor.unet import UNet, parameter_count
from impls.recipe.config import ModelConfig


class Network:
    """eps(x_t, t) in float32, whatever the options do inside.

    Args:
        config: the network's shape.
        options: of the arm.
        operators: the primitives that it is made of.
        training: dropout on and gradients wanted, or neither.
    """

    def __init__(self, config: ModelConfig, options: frozenset[str], operators: Operators, training: bool) -> None:
        self.unet = _unet(config, options, operators)
        if training:
            # Without this, dropout in a new module is off.
            self.unet.train()
        else:
            # Also stops every parameter's gradient for good, which is right for a network that only predicts.
            self.unet.eval()
        self.amp_level = 4 if "amp" in options else 0
        self.params = dict(self.unet.named_parameters())
        # Else the first weights would be drawn at their first use, after whatever else is drawn until then.
        jt.sync(list(self.params.values()))

    def __call__(self, x_t: Var, t: Var) -> Var:
        """The predicted noise of x_t (N, C, H, W) at t (N,); half precision, where chosen, stays inside."""
        half = jt.flag_scope(auto_mixed_precision_level=self.amp_level) if self.amp_level else nullcontext()
        with half:
            eps = self.unet(x_t, t)
        return eps.float32()

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
        # Not Module.eval(): it would also stop every parameter's gradient.
        for module in self.unet.modules():
            if isinstance(module, nn.Dropout):
                module.is_train = on

    def load(self, params: Arrays) -> None:
        """Take over weights that fit, by name."""
        for name, p in self.params.items():
            p.update(jt.array(params[name]))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights by name."""
        return to_numpy(self.params)


def device_memory(device: str) -> MemoryReading:
    """Device memory as Jittor's allocator reports it."""
    reading = jt.core.get_mem_info()
    taken = reading.total_cuda_used if device == "cuda" else reading.total_cpu_used
    return MemoryReading(reserved_bytes=taken, reason="Jittor tells only what its allocator took from the system")


def _unet(config: ModelConfig, options: frozenset[str], operators: Operators) -> UNet:
    """The network of an arm: computed as written, or channels-last by operators of our own."""
    if "onednn" in options:
        from impls.jittor.onednn.unet import OneDNNUNet

        return OneDNNUNet(config)
    return UNet(config, operators)
