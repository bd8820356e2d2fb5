"""One operator of the option `onednn` alone: its feature maps are (N, H, W, C), as all the way through the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from jittor import Var, nn

from impls.jittor.isolated import Isolated, held, layer
from impls.jittor.network import as_run
from impls.jittor.onednn import operators as onednn
from impls.jittor.onednn.unet import conv, norm, project, transposed
from impls.jittor.ops import STOCK, Operators
from impls.jittor.unet import Attention
from impls.recipe.isolated import Spec


def isolated(spec: Spec, batch: int, training: bool, options: frozenset[str], operators: Operators) -> Isolated | None:
    """See `impls.backend.Isolating.operator`."""
    made = layer(spec, STOCK)
    if isinstance(made, nn.Module):
        made = as_run(made, options)
    call = _call(spec, made, operators)
    if call is None:
        return None
    weights = made.parameters() if isinstance(made, nn.Module) else []
    inputs = [held((batch, *_channels_last(spec, shape))) for shape in spec.inputs]
    return Isolated(call, inputs, [*([] if spec.first else inputs), *weights], training)


def _channels_last(spec: Spec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Pixels before channels; attention's are one axis, those of its linear projections are two."""
    if len(shape) == 3:
        c, height, width = shape
        return (height * width, c) if spec.kind == "attention" else (height, width, c)
    if len(shape) == 2 and spec.kind == "linear":
        side = math.isqrt(shape[0])
        return side, side, shape[1]
    return shape


def _call(spec: Spec, made: Any, operators: Operators) -> Callable[..., Var] | None:
    """What `OneDNNUNet` calls; None for what its GroupNorms and convolutions do in passing."""
    attention = Attention(spec.width, 0, spec.config, operators)
    own: dict[str, Callable[..., Var] | None] = {
        "group_norm": partial(norm, made, silu=False),
        "group_norm_silu": partial(norm, made, silu=True),
        "attention": lambda *qkv: attention.join(attention.attend(*map(attention.split, qkv))),
        # One whose input is padded already has none to add.
        "conv2d": partial(conv, made),
        "conv_transpose2d": partial(transposed, made),
        "concat": onednn.concat,
        "upsample": onednn.upsample,
        "multiply": lambda x, y: x * y.unsqueeze(1).unsqueeze(1),
        "dropout": None,
        "pad": None,
    }
    if spec.kind == "linear" and len(spec.inputs[0]) == 2:
        return partial(project, made)
    if spec.kind == "add" and len(spec.inputs[1]) == 1:
        return None
    return own.get(spec.kind, made)
