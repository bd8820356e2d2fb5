"""The U-Net as an arm runs it: with the arm's options around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import jittor as jt
import numpy as np
from jittor import Var, nn
from numpy.typing import NDArray

from impls.backend import Arrays, BackendInfo, MemoryReading
from impls.jittor.data import to_numpy
from impls.jittor.onednn import WHOLE
from impls.jittor.ops import Operators, called, transpose
from impls.jittor.trace import Traced
from impls.jittor.unet import UNet, parameter_count
from impls.recipe.config import ModelConfig
from impls.recipe.precision import half
from impls.recipe.trace import Twin
from messages import recorded

# What Jittor's graph calls an operator of ours in C++.
OURS = "code"


class Network:
    """eps(x_t, t) in float32, whatever the options do inside.

    Args:
        config: the network's shape.
        options: of the arm.
        operators: the primitives that it is made of.
        training: dropout on and gradients wanted, or neither.
    """

    def __init__(self, config: ModelConfig, options: frozenset[str], operators: Operators, training: bool) -> None:
        self.unet, self.operators = _unet(config, options, operators), operators
        if training:
            # Without this, dropout in a new module is off.
            self.unet.train()
        else:
            # Also stops every parameter's gradient for good, which is right for a network that only predicts.
            self.unet.eval()
        self.forward = as_run(self.unet, options)
        if not training:
            cast_weights(self.unet, options)
        self.params = dict(self.unet.named_parameters())
        # Else the first weights would be drawn at their first use, after whatever else is drawn until then.
        jt.sync(list(self.params.values()))

    def __call__(self, x_t: Var, t: Var) -> Var:
        """The predicted noise of x_t (N, C, H, W) at t (N,); half precision, where chosen, stays inside."""
        return self.forward(x_t, t).float32()

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
            p.update(jt.array(params[name]).cast(p.dtype))
        # A lazy array of one element would be written into the kernel that uses it, which then does not compile.
        jt.sync(list(self.params.values()))

    def told(self, info: BackendInfo, batch: int) -> BackendInfo:
        """`info` with the kernels of attention, norm and transposition, which differ between devices and options.

        They are read from the graph of a small case, before it is computed.
        """
        if type(self.unet) is not UNet:
            # Operators of our own: their names say all.
            return info
        x = jt.zeros((min(batch, 2), 2, 2))
        found = called(lambda: self.operators.attention(x, x, x))
        library = sorted(name for name in found if "matmul" in name)
        kernels = " and ".join(library) or (
            f"jittor.{OURS}" if OURS in found else recorded("generated loops (broadcast, multiply, reduce)"))
        turned = " and ".join(sorted(called(lambda: transpose(x)) & {"transpose", "cutt_transpose", "reindex"}))
        names = {**info.operators, "attention": f"{info.operators['attention']}: {kernels}", "transpose": turned}
        maps, scales = jt.zeros((1, 2, 2, 2)), jt.ones((2,))
        for name, norm in (("group_norm", self.operators.group_norm),
                           ("group_norm_silu", self.operators.group_norm_silu)):
            if OURS in called(partial(norm, maps, scales, scales, 2, 1e-5)):
                names[name] = f"{info.operators[name]}: jittor.{OURS}"  # English
        return replace(info, operators=names)

    def traced(self, _twin: Twin) -> Traced:
        """The network as it is looked into; one whose way through its modules is our own is seen from outside."""
        return Traced(self.unet)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights by name."""
        return to_numpy(self.params)


def as_run(module: nn.Module, options: Collection[str]) -> Callable[..., Var]:
    """The network, or a part of it, as an arm with these options runs it: with layers that take half precision.

    They give float32, as under an autocast. Jittor's own, auto_mixed_precision_level 4, cannot compile a convolution on
    CUDA ("Check failed" in var_relay.cc).
    """
    if half(options) is None:
        return module
    if WHOLE in options:
        from impls.jittor.onednn.unet import rounded

        return rounded(module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.execute = partial(_half_convolution, layer)
        elif isinstance(layer, nn.Linear):
            layer.execute = partial(_half_linear, layer)
    return module


def cast_weights(unet: nn.Module, options: Collection[str]) -> None:
    """Cast once, for calls without gradients, what half precision casts: else it would be done at every call.

    Operators of ours cast for themselves.
    """
    if half(options) is None or WHOLE in options:
        return
    for layer in unet.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight = layer.weight.float16().stop_grad()


class OnDevice(ABC):
    """What everything that computes on a device has: waiting for it, and its memory."""

    info: BackendInfo

    @abstractmethod
    def outputs(self) -> list[Var]:
        """What must be asked for so that Jittor's lazy graph is run."""

    def synchronize(self) -> None:
        """Return only when all enqueued work is finished."""
        jt.sync(self.outputs())
        jt.sync_all(True)

    def finish(self, tensors: Sequence[Var]) -> None:
        """Return only when these are computed."""
        jt.sync(list(tensors), True)

    def pending_work(self) -> int | None:
        """Operations that Jittor's graph still holds; more than after `synchronize` means unfinished work."""
        return jt.core.number_of_lived_ops()

    def memory(self) -> MemoryReading:
        """Device memory as Jittor's allocator reports it."""
        reading = jt.core.get_mem_info()
        taken = reading.total_cuda_used if self.info.device == "cuda" else reading.total_cpu_used
        return MemoryReading(reserved_bytes=taken,
                             reason=recorded("Jittor tells only what its allocator took from the system"))


def _half_convolution(layer: nn.Conv2d, x: Var) -> Var:
    y = nn.conv2d(x.float16(), layer.weight.float16(), None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return y.float32() + layer.bias.reshape(1, -1, 1, 1)


def _half_linear(layer: nn.Linear, x: Var) -> Var:
    return nn.matmul_transpose(x.float16(), layer.weight.float16()).float32() + layer.bias


def _unet(config: ModelConfig, options: frozenset[str], operators: Operators) -> UNet:
    """The network of an arm: computed as written, or channels-last by operators of our own."""
    if WHOLE in options:
        from impls.jittor.onednn.unet import OneDNNUNet

        return OneDNNUNet(config, operators)
    return UNet(config, operators)
