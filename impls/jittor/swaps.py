"""The primitives of an arm: the stock ones, or those that its options put in their place.

With `attention=onednn` and `norm=onednn` the network stays as `impls.jittor.unet` writes it, feature maps (N, C, H, W),
so that such an arm differs from the plain one in this alone. `optimiser=onednn` is the trainer's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

from impls.jittor.onednn import ATTENTION, BF16, NORM, OPTIMISER, WHOLE
from impls.jittor.ops import HALF, STOCK, Operators
from messages import recorded


def chosen(options: Collection[str]) -> Operators:
    """Those of an arm with these options.

    Raises:
        UnavailableError: operators of ours are asked for and cannot be compiled or used here.
    """
    if WHOLE in options:
        from impls.jittor.onednn import unet

        return unet.operators(BF16 in options)
    if "amp" in options:
        return HALF
    return _swapped(options) if {ATTENTION, NORM, OPTIMISER}.intersection(options) else STOCK


def _swapped(options: Collection[str]) -> Operators:
    from impls.jittor.onednn import operators as ours

    ours.load()
    operators = STOCK
    if ATTENTION in options:
        names = {**operators.names, "attention": recorded("own C++ operator over oneDNN's sgemm, fused")}
        operators = replace(operators, attention=ours.attention, names=names)
    if NORM in options:
        names = {**operators.names, "group_norm": recorded("own C++ operator"),
                 "group_norm_silu": recorded("own C++ operator, fused")}
        operators = replace(operators, group_norm=ours.group_norm_planes,
                            group_norm_silu=partial(ours.group_norm_planes, silu=True), names=names)
    return operators
