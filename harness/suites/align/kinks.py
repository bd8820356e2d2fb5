"""Gradients that differ because a number lies on the two sides of a kink, by rounding, and what lies behind; pure.

Where a function bends (ReLU at 0, a clamp at its bounds, a maximum of two numbers that are almost equal) its two
gradients are both right. Such a difference is no fault if few elements have it, each of them is seen to lie on another
side of the kink in each arm, and every module agrees when it is fed alike. All gradients behind it differ then, too:
those are held to a multiple of its share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.record.events import Difference
from harness.stats.arrays import error
from harness.suites.align.compare import FACTOR, Layer, Traces, by_norm, title
from harness.suites.align.culprit import ABOVE, GRADIENT, Tree
from messages import recorded

Array = NDArray[Any]
# Of a gradient's elements so many at most, or a pair: one number is at a kink by chance, not a tenth of them.
ISOLATED, PAIR = 0.01, 2
# So many are held against each other, at most.
PAIRED = 1000
# A gradient that is not there at all differs by 1, in norm: it is behind no kink.
MOST = 0.5


@dataclass(frozen=True)
class Kinks:
    """What kinks explain.

    Attributes:
        layers: with what they explain agreeing.
        found: each kink, in words.
        share: by how much of its norm what lies behind them may differ; 0 where there is none.
    """

    layers: list[Layer]
    found: tuple[str, ...] = ()
    share: float = 0.0


@dataclass(frozen=True)
class Kink:
    """One gradient that differs at a kink alone.

    Attributes:
        count: elements that differ by more than rounding.
        size: all of them.
        share: the norm of the difference over that of the gradient.
    """

    count: int
    size: int
    share: float


def at_kinks(layers: list[Layer], traces: Traces) -> Kinks:
    """Look for kinks from the end to the beginning, up to the first difference that none explains."""
    if any(not one.agrees and not one.place.startswith(GRADIENT) for layer in layers for one in layer.differences):
        return Kinks(layers)
    tree = Tree(layers)
    known = dict(tree.layers)
    found: list[str] = []
    share, holding = 0.0, set[int]()
    for layer in reversed(tree.ends()):
        for one in layer.differences:
            if one.agrees or one.fed or not one.place.startswith(ABOVE):
                continue
            told = _behind(layer, one, traces, share) if found else one
            kink = None if told.agrees else _kink(layer, one, tree, traces)
            if kink is not None:
                found.append(recorded(
                    "the gradient of what {module} gives differs at {count} of {size} elements, at a kink, as of ReLU "
                    "or max-pool: rounding takes a number there to its other side", module=title(layer.call),
                    count=kink.count, size=kink.size))
                share = min(share + FACTOR * kink.share, MOST)
                holding.update(tree.around(layer))
                told = one.model_copy(update={"agrees": True, "reason": found[-1]})
            if not told.agrees:
                return _fed(known, holding, found, share, traces)
            known[layer.call.number] = _with(known[layer.call.number], one, told)
    return _fed(known, holding, found, share, traces)


def _fed(known: dict[int, Layer], holding: set[int], found: Sequence[str], share: float, traces: Traces) -> Kinks:
    """The same for calls that hold a kink, which have it when they are fed, too."""
    for number in holding:
        layer = known[number]
        for one in layer.differences:
            if one.fed and not one.agrees:
                known[number] = _with(known[number], one, _behind(layer, one, traces, share))
    return Kinks(list(known.values()), tuple(found), share)


def _kink(layer: Layer, one: Difference, tree: Tree, traces: Traces) -> Kink | None:
    """What differs, if it is at kinks alone."""
    gradients = _pair(layer, "back", one.place, traces)
    apart = error(*gradients) if gradients is not None else None
    if gradients is None or apart is None or not math.isfinite(apart.max_abs) or one.tolerance is None:
        return None
    shape, size = gradients[0].shape, gradients[0].size
    mine, theirs = (gradient.reshape(-1).astype(np.float64) for gradient in gradients)
    places = np.flatnonzero(np.abs(mine - theirs) > one.tolerance)
    if not 0 < len(places) <= max(PAIR, ISOLATED * size):
        return None
    # What is taken from one number is given to the other.
    moved = abs(float((mine - theirs)[places].sum())) <= len(places) * one.tolerance
    for number, pair in enumerate(_forward(layer, one, tree, traces)):
        # Rounding changes no whole number and no mask.
        if (pair is not None and pair[0].shape == shape and pair[1].size == size
                and all(array.dtype.kind == "f" for array in pair)):
            x, y = (array.reshape(-1) for array in pair)
            # A maximum takes what the module itself gives.
            if on_other_sides(x, y, places) or (number == 0 and moved and exchanged(x, y, places)):
                return Kink(len(places), size, apart.norm_rel)
    return None


def on_other_sides(x: Array, y: Array, places: NDArray[np.int64]) -> bool:
    """Whether each of these has another sign in each arm, or is at a bound that both have in one of them alone."""
    apart = np.sign(x) != np.sign(y)
    for bound in (np.max, np.min):
        if (at := bound(x)) == bound(y):
            apart |= (x == at) != (y == at)
    return bool(apart[places].all())


def exchanged(x: Array, y: Array, places: NDArray[np.int64]) -> bool:
    """Whether each of these is larger than another one of them in one arm alone: a maximum takes another one then."""
    if not 1 < len(places) <= PAIRED:
        return False
    mine, theirs = (np.sign(one[places][:, None] - one[places]) for one in (x, y))
    return bool((mine != theirs).any(1).all())


def _forward(layer: Layer, one: Difference, tree: Tree, traces: Traces) -> Iterator[tuple[Array, Array] | None]:
    """What may show the kink: what the call gives, what later ones beside it take and give, what all together give."""
    yield _pair(layer, "out", one.place.removeprefix(GRADIENT), traces)
    seen = [(tree.layers[number], group) for number in tree.within[layer.call.within] if number > layer.call.number
            for group in ("run", "out")]
    if layer.call.within is not None:
        seen.append((tree.layers[layer.call.within], "out"))
    for beside, group in seen:
        for place in traces.reference.read(f"{group} {beside.call.number}"):
            if place.startswith(("input", "output")):
                yield _pair(beside, group, place, traces)


def _behind(layer: Layer, one: Difference, traces: Traces, share: float) -> Difference:
    pair = _pair(layer, "fed" if one.fed else "back", one.place, traces)
    return one if pair is None else by_norm(one, *pair, share)


def _pair(layer: Layer, group: str, place: str, traces: Traces) -> tuple[Array, Array] | None:
    """An array of both arms, where both have it."""
    if layer.other is None:
        return None
    mine, theirs = (traces.reference.read(f"{group} {layer.call.number}").get(place),
                    traces.other.read(f"{group} {layer.other.number}").get(place))
    return None if mine is None or theirs is None else (mine, theirs)


def _with(layer: Layer, one: Difference, told: Difference) -> Layer:
    return replace(layer, differences=tuple(told if each is one else each for each in layer.differences))
