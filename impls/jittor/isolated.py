"""One operator of the network alone: as the network runs it, on inputs of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jittor as jt
import numpy as np
from jittor import Var, nn

from impls.jittor.network import as_run, cast_weights
from impls.jittor.onednn import WHOLE
from impls.jittor.ops import Operators
from impls.jittor.unet import Attention, GroupNorm
from impls.recipe.isolated import Spec


class Isolated:
    """See `impls.backend.Isolated`.

    Args:
        call: the operator.
        inputs: what it reads.
        wanted: what of it, and of its weights, has a gradient.
        training: with its backward pass.
    """

    def __init__(self, call: Callable[..., Var], inputs: Sequence[Var], wanted: Sequence[Var], training: bool) -> None:
        self.call, self.inputs, self.wanted, self.training = call, inputs, list(wanted), training
        jt.sync([*inputs, *wanted])
        self.above = held(self.forward().shape)

    def run(self, times: int) -> None:
        """Run it so many times and wait for all that it computes: outputs and, in training, gradients."""
        for _ in range(times):
            out = self.forward()
            grads = jt.grad(_Start(self.above)(out), self.wanted, retain_graph=False) if self.training else []
            # Jittor computes what is asked for, and that alone.
            jt.sync([out, *grads])
        jt.sync_all(True)

    def forward(self) -> Var:
        """What it computes."""
        if self.training:
            return self.call(*self.inputs)
        with jt.no_grad():
            return self.call(*self.inputs)


def isolated(spec: Spec, batch: int, training: bool, options: frozenset[str], operators: Operators) -> Isolated | None:
    """See `impls.backend.Isolating.operator`."""
    if WHOLE in options:
        from impls.jittor.onednn.isolated import isolated as onednn_isolated

        return onednn_isolated(spec, batch, training, options, operators)
    call, weights = layer(spec, operators), []
    if isinstance(call, nn.Module):
        if training:
            call.train()
        else:
            call.eval()
            cast_weights(call, options)
        weights = call.parameters()
        call = as_run(call, options)
    inputs = [held((batch, *shape)) for shape in spec.inputs]
    return Isolated(call, inputs, [*([] if spec.first else inputs), *weights], training)


class _Start(jt.Function):
    """Begins a backward pass at `above`: through a sum Jittor would compute the ones, and their products with it."""

    def __init__(self, above: Var) -> None:
        super().__init__()
        self.above = above

    def execute(self, x: Var) -> Var:
        """A number to differentiate, which nobody computes."""
        return x.sum()

    def grad(self, grad: Var) -> Var:
        """The gradient of the output."""
        return self.above


def held(shape: tuple[int, ...]) -> Var:
    """Random numbers in memory: what is only described would be folded into the operator."""
    x = jt.array(np.random.default_rng(0).standard_normal(shape, np.float32))
    x.sync()
    return x


def layer(spec: Spec, operators: Operators) -> Callable[..., Var]:
    """What the network calls: a module of its own, or a function."""
    functions: dict[str, Callable[..., Var]] = {
        "silu": nn.silu, "add": _add, "multiply": _multiply, "concat": _concat,
        "upsample": operators.upsample, "pad": partial(nn.pad, padding=(0, 1, 0, 1))}
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


def _add(x: Var, y: Var) -> Var:
    return x + _over(x, y)


def _multiply(x: Var, y: Var) -> Var:
    return x * _over(x, y)


def _over(x: Var, y: Var) -> Var:
    """A value for each channel, at every pixel."""
    return y if y.ndim == x.ndim else y.unsqueeze(2).unsqueeze(3)


def _concat(x: Var, y: Var) -> Var:
    return jt.concat([x, y], dim=1)
