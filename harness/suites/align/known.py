"""Known causes of a layer that differs, each held against the arrays themselves; pure.

A cause is named only where a recomputation bears it out: one way of computing gives the reference's output, the other
way the other arm's, each to a tenth of what lies between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from messages import recorded

Array = NDArray[Any]
# Which part of the difference may stay unexplained.
LEFT = 0.1
# How the hint on a variance that is divided by n begins.
BIASED = "BatchNorm: its running variance"  # English
EPSILONS = (1e-5, 1e-6, 1e-3, 1e-8, 1e-12)


def causes(x: Array, mine: Array, theirs: Array, own: dict[str, Array]) -> Iterator[str]:
    """What is known to make these outputs of one input.

    Args:
        x: the input.
        mine: what the reference makes of it.
        theirs: what the other arm makes of it.
        own: what the module keeps: weights and statistics.
    """
    for cause in (whole_numbers, gelu, norm, borders, resized):
        said = cause(x, mine, theirs, own)
        if said is not None:
            yield said


def explains(mine: Array, theirs: Array, one: Array, other: Array) -> bool:
    """Whether `one` is the reference's output, and `other` the other arm's."""
    if one.shape != mine.shape or other.shape != theirs.shape or mine.shape != theirs.shape:
        return False
    apart = np.abs(mine - theirs).max(initial=0)
    return bool(apart > 0 and np.abs(mine - one).max() <= LEFT * apart and np.abs(theirs - other).max() <= LEFT * apart)


def whole_numbers(_x: Array, mine: Array, theirs: Array, _own: dict[str, Array]) -> str | None:
    """Integers where the reference has fractions, or numbers that went round at 2^31."""
    if mine.shape != theirs.shape:
        return None
    if mine.dtype.kind in "iu" and theirs.dtype.kind in "iu":
        wrapped = np.array_equal(mine.astype(np.int64).astype(np.int32), theirs.astype(np.int64))
        return recorded("integer types: its numbers are the reference's cut to 32 bits") if wrapped else None
    if np.array_equal(theirs, np.trunc(theirs)) and not np.array_equal(mine, np.trunc(mine)):
        for rounding, said in (
                (np.trunc, recorded("integer types: its numbers are the reference's, cut off to whole ones")),
                (np.floor, recorded("integer types: its numbers are the reference's, rounded down to whole ones")),
                (np.round, recorded("integer types: its numbers are the reference's, rounded to whole ones"))):
            if np.array_equal(rounding(mine), theirs):
                return said
    return None


def gelu(x: Array, mine: Array, theirs: Array, _own: dict[str, Array]) -> str | None:
    """GELU by the error function and by its tanh approximation."""
    from scipy.special import erf

    x = x.astype(np.float64)
    exact = x * (1 + erf(x / np.sqrt(2))) / 2
    close = x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
    return _either(mine, theirs, exact, close,
                   recorded("gelu: it has its tanh form, the reference the exact one with the error function"),
                   recorded("gelu: the reference has its tanh form, it the exact one with the error function"))


def norm(x: Array, mine: Array, theirs: Array, own: dict[str, Array]) -> str | None:
    """What normalises, in groups, over layers or batches: epsilon, n - 1, a variance that cancels, scales left out."""
    if x.shape != mine.shape or mine.shape != theirs.shape or x.dtype.kind != "f" or x.ndim < 2:
        return None
    for (split, join, scale), bend in product(_partitions(x, own), (_same, _silu)):
        rows = split(x.astype(np.float64))
        centred = rows - rows.mean(1, keepdims=True)
        variance = (centred**2).mean(1, keepdims=True)

        def made(variance: Array, eps: float, scaled: bool = True, centred: Array = centred, split: Any = split,
                 join: Any = join, scale: Any = scale, bend: Any = bend) -> Array:
            found = join(centred / np.sqrt(variance + eps))
            bent: Array = bend(scale(found) if scaled else found)
            return bent

        for eps in EPSILONS:
            plain = made(variance, eps)
            if np.abs(plain - mine).max() > LEFT * max(np.nanmax(np.abs(mine - theirs), initial=0), 1e-30):
                continue
            ways = {recorded("epsilon: it has {epsilon}, the reference {other}", epsilon=f"{other:g}",
                             other=f"{eps:g}"): made(variance, other)
                    for other in EPSILONS if other != eps}
            size = rows.shape[1]
            if size > 1:
                ways[recorded("variance: it divides by n - 1, the reference by n")] = made(
                    variance * size / (size - 1), eps)
            ways[recorded("scale and shift: it leaves its weights out")] = made(variance, eps, scaled=False)
            for said, way in ways.items():
                if explains(mine, theirs, plain, way):
                    return said
            return _cancelled(rows, variance, split(theirs.astype(np.float64) - mine), size)
    return None


def _cancelled(rows: Array, variance: Array, apart: Array, size: int) -> str | None:
    """Whether differences are as large as E[x^2] - E[x]^2 in float32 makes them, and where the mean is large."""
    ratio = (rows.mean(1) ** 2 / np.maximum(variance[:, 0], 1e-300))
    worst = np.where(np.isfinite(apart).all(1), np.abs(apart).max(1, initial=0), np.inf)
    # Relative error of that variance, of which an output has half; outputs are a few in size.
    expected = ratio * 2.0**-24
    if ratio.max() > 100 and (worst <= 64 * np.sqrt(size) * expected + 1e-6)[np.isfinite(worst)].all() \
            and worst.max() >= 0.01 * expected.max():
        return recorded("variance: E[x^2] - E[x]^2 in float32 cancels; the mean is up to {ratio} times the spread "
                        "here, take it in two passes", ratio=f"{np.sqrt(ratio.max()):.0f}")
    return None


def borders(_x: Array, mine: Array, theirs: Array, _own: dict[str, Array]) -> str | None:
    """Feature maps that differ at their borders alone, or in their size."""
    if mine.ndim < 3 or mine.ndim != theirs.ndim:
        return None
    if mine.shape[:2] == theirs.shape[:2] and mine.shape != theirs.shape:
        return recorded("padding or stride: its maps are {size}, the reference's {other}",
                        size="x".join(map(str, theirs.shape[2:])), other="x".join(map(str, mine.shape[2:])))
    if mine.shape != theirs.shape or min(mine.shape[2:]) < 4:
        return None
    apart = np.abs(mine - theirs).max(axis=(0, 1))
    for width in range(1, min(apart.shape) // 2):
        inner = apart[tuple(slice(width, -width) for _ in apart.shape)]
        if inner.size and inner.max() <= 0.01 * apart.max():
            return recorded("padding: maps differ in a border of {width} alone", width=width)
    return None


def resized(x: Array, mine: Array, theirs: Array, _own: dict[str, Array]) -> str | None:
    """Bilinear interpolation with corners aligned, and without; and the nearest neighbour."""
    if x.ndim != 4 or mine.shape != theirs.shape or mine.ndim != 4 or x.shape[:2] != mine.shape[:2]:
        return None
    size = mine.shape[2:]
    if x.shape[2:] == size:
        return None
    aligned, apart = _bilinear(x, size, True), _bilinear(x, size, False)
    said = _either(mine, theirs, apart, aligned, recorded("align_corners: it has True, the reference False"),
                   recorded("align_corners: the reference has True, it False"))
    if said is not None:
        return said
    rows, columns = (np.arange(n) * old // n for n, old in zip(size, x.shape[2:], strict=True))
    nearest = x[:, :, rows][:, :, :, columns]
    return _either(
        mine, theirs, aligned, nearest,
        recorded("interpolation: it takes the nearest neighbour, the reference is bilinear with aligned corners"),
        recorded("interpolation: the reference takes the nearest neighbour, it is bilinear with aligned corners"),
    ) or _either(
        mine, theirs, apart, nearest,
        recorded("interpolation: it takes the nearest neighbour, the reference is bilinear with corners not aligned"),
        recorded("interpolation: the reference takes the nearest neighbour, it is bilinear with corners not aligned"),
    )


def momentum(x: Array, before: Array, mine: Array, theirs: Array, what: str) -> str | None:
    """A running statistic: which share of it is new in each, and what it divides by."""
    rows = np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1)
    size = rows.shape[1]
    if before.shape != (x.shape[1],) or size < 2:
        return None
    fresh = rows.mean(1) if "mean" in what else rows.var(1, ddof=1)
    shares = [float((after - before) @ (fresh - before)) / float((fresh - before) @ (fresh - before))
              for after in (mine, theirs)]
    ways = [before + share * (fresh - before) for share in shares]
    if explains(mine, theirs, *ways) and abs(shares[0] - shares[1]) > 1e-3:
        return recorded("momentum of BatchNorm: a running statistic takes {share} of the new one, the reference's "
                        "{other}", share=f"{shares[1]:.3g}", other=f"{shares[0]:.3g}")
    biased = before + shares[0] * (rows.var(1) - before)
    if "var" in what and explains(mine, theirs, ways[0], biased):
        return recorded("BatchNorm: its running variance divides by n, the reference's by n - 1")
    return None


def _either(mine: Array, theirs: Array, one: Array, other: Array, said: str, turned: str) -> str | None:
    if explains(mine, theirs, one, other):
        return said
    return turned if explains(mine, theirs, other, one) else None


def _partitions(x: Array, own: dict[str, Array]) -> Iterator[tuple[Callable[[Array], Array], Callable[[Array], Array],
                                                                   Callable[[Array], Array]]]:
    """Ways to take an array apart into rows that are normalised each, to join it again, and to scale it."""
    shape, channels = x.shape, x.shape[1]
    weight, bias = own.get("weight"), own.get("bias")

    def scaled(axis: int) -> Callable[[Array], Array]:
        def scale(z: Array) -> Array:
            if weight is None or weight.ndim != 1 or len(weight) != shape[axis]:
                return z
            along = [1] * len(shape)
            along[axis] = shape[axis]
            found: Array = z * weight.reshape(along) + (0 if bias is None else bias.reshape(along))
            return found
        return scale

    for groups in range(1, channels + 1):
        if channels % groups == 0:
            yield partial(_rows, count=shape[0] * groups), (lambda z: z.reshape(shape)), scaled(1)
    yield (lambda z: z.reshape(-1, shape[-1])), (lambda z: z.reshape(shape)), scaled(-1)
    turned = (channels, shape[0], *shape[2:])
    yield ((lambda z: np.moveaxis(z, 1, 0).reshape(channels, -1)),
           (lambda z: np.moveaxis(z.reshape(turned), 0, 1)), scaled(1))


def _bilinear(x: Array, size: tuple[int, ...], aligned: bool) -> Array:
    made = x.astype(np.float64)
    for axis, new in zip((2, 3), size, strict=True):
        old = made.shape[axis]
        at = np.arange(new) * ((old - 1) / max(new - 1, 1)) if aligned else (np.arange(new) + 0.5) * old / new - 0.5
        at = np.clip(at, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if place == axis else 1 for place in range(4)])
        made = np.take(made, low, axis) * (1 - share) + np.take(made, high, axis) * share
    return made


def _rows(z: Array, count: int) -> Array:
    return z.reshape(count, -1)


def _same(x: Array) -> Array:
    return x


def _silu(x: Array) -> Array:
    found: Array = x / (1 + np.exp(-x))
    return found
