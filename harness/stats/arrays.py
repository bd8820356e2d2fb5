"""How far two arrays are apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numbers that are looked at at once: what is made of them in float64 stays in a core's cache.
PIECE = 1 << 14


@dataclass(frozen=True)
class Apart:
    """What two arrays of one size differ by.

    Attributes:
        max_abs: largest |a - b|; NaN where one of them is no number and the other is not the same.
        max_rel: that over the largest |a|; NaN where that is 0 and the arrays differ.
        norm_rel: norm of a - b over that of a; NaN where that is 0 and the arrays differ.
        cosine: of the angle between them; NaN where one is 0 everywhere and the other is not.
        scale: largest |a|.
    """

    max_abs: float
    max_rel: float
    norm_rel: float
    cosine: float
    scale: float


def error(a: NDArray[Any], b: NDArray[Any]) -> Apart | None:
    """How far `b` is from `a`; None where their sizes, or the sizes of their axes beside those of 1, differ."""
    if [n for n in a.shape if n != 1] != [n for n in b.shape if n != 1]:
        return None
    left, right = a.reshape(-1), b.reshape(-1)
    largest = scale = squares = own = other = product = 0.0
    # Infinities and what is no number are looked for, and sums may overflow.
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, left.size, PIECE):
            x, y = (one[start : start + PIECE].astype(np.float64) for one in (left, right))
            apart = x - y
            square = float(apart @ apart)
            if math.isfinite(square):
                size = max(float(x.max()), -float(x.min()))
            else:
                # Infinite, or not a number, in both alike is no difference.
                apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, apart)
                square, size = float(apart @ apart), float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
            # NaN stays what is largest.
            largest = float(np.maximum(largest, np.maximum(apart.max(), -apart.min())))
            scale, squares = max(scale, size), squares + square
            own, other, product = own + float(x @ x), other + float(y @ y), product + float(x @ y)
    if largest == 0:
        return Apart(0.0, 0.0, 0.0, 1.0, scale)
    norm, norms = math.sqrt(own), math.sqrt(own) * math.sqrt(other)
    cosine = product / norms if norms and math.isfinite(norms) else math.nan
    rel = (largest / scale, math.sqrt(squares) / norm) if scale and norm else (math.nan, math.nan)
    return Apart(largest, *rel, cosine, scale)
