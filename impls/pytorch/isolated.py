"""One operator of the network alone: as the network runs it, on inputs of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from impls.pytorch.network import as_run, cast_weights
from impls.pytorch.ops import Operators
from impls.pytorch.unet import Attention, GroupNorm
from impls.recipe.isolated import Spec


class Isolated:
    """See `impls.backend.Isolated`.

    Args:
        call: the operator.
        inputs: what it reads.
        weights: what else has a gradient.
        training: with its backward pass.
    """

    def __init__(self, call: Callable[..., Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor],
                 training: bool) -> None:
        self.call, self.inputs, self.training = call, inputs, training
        self.wanted = [one for one in (*inputs, *weights) if one.requires_grad]
        self.above = torch.randn_like(self.forward())

    def run(self, times: int) -> None:
        """Run it so many times and wait for all that it computes: outputs and, in training, gradients."""
        for _ in range(times):
            out = self.forward()
            if self.training:
                torch.autograd.grad(out, self.wanted, self.above)
        if self.above.is_cuda:
            torch.cuda.synchronize(self.above.device)

    def forward(self) -> Tensor:
        """What it computes."""
        with torch.set_grad_enabled(self.training):
            return self.call(*self.inputs)


def isolated(spec: Spec, batch: int, training: bool, device: torch.device, options: frozenset[str],
             operators: Operators) -> Isolated | None:
    """See `impls.backend.Isolating.operator`."""
    if "compile" in options:
        # Compiled code has the network's loops fused in its own way.
        return None
    call, weights = layer(spec, operators), []
    layout = torch.channels_last if "channels_last" in options else torch.contiguous_format
    if isinstance(call, nn.Module):
        call.to(device).to(memory_format=layout).train(training).requires_grad_(training)
        if not training:
            cast_weights(call, options)
        weights = list(call.parameters())
    inputs = []
    for place, shape in enumerate(spec.inputs):
        x = held((batch, *shape), device)
        # The network adds into a convolution's output, whose gradient then is that of the sum.
        differentiated = training and not spec.first and not (spec.kind == "add" and place == 0)
        inputs.append((x.contiguous(memory_format=layout) if x.ndim == 4 else x).requires_grad_(differentiated))
    return Isolated(as_run(call, device, options), inputs, weights, training)


def held(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Random numbers in memory."""
    return torch.randn(shape, device=device)


def layer(spec: Spec, operators: Operators) -> Callable[..., Tensor]:
    """What the network calls: a module of its own, or a function."""
    functions: dict[str, Callable[..., Tensor]] = {
        "silu": nn.functional.silu, "add": _add, "multiply": _multiply, "concat": _concat,
        "upsample": operators.upsample, "pad": partial(nn.functional.pad, pad=(0, 1, 0, 1))}
    if spec.kind == "attention":
        return Attention(spec.width, 0, spec.config, operators).mix
    return functions[spec.kind] if spec.kind in functions else _module(spec, operators)


def _module(spec: Spec, operators: Operators) -> nn.Module:
    made: nn.Module
    width, shape = spec.inputs[0][0], spec.weight
    if spec.kind == "linear":
        made = nn.Linear(spec.inputs[0][-1], spec.width)
    elif spec.kind == "dropout":
        made = nn.Dropout(spec.rate)
    elif spec.kind == "conv_transpose2d":
        made = nn.ConvTranspose2d(width, spec.width, 4, stride=2, padding=1)
    elif shape is not None and spec.kind == "conv2d":
        made = nn.Conv2d(width, spec.width, shape[2], spec.stride, spec.padding)
    else:
        made = GroupNorm(width, spec.groups, spec.config, operators, silu=spec.kind == "group_norm_silu")
    return made


def _add(x: Tensor, y: Tensor) -> Tensor:
    return x.detach().add_(_over(x, y))


def _multiply(x: Tensor, y: Tensor) -> Tensor:
    return x * _over(x, y)


def _over(x: Tensor, y: Tensor) -> Tensor:
    """A value for each channel, at every pixel."""
    return y if y.ndim == x.ndim else y[:, :, None, None]


def _concat(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], dim=1)
