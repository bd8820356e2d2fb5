"""How far two arrays are apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        # Infinite, or not a number, in both alike is no difference.
        apart = np.abs(np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, x - y))
    max_abs = float(apart.max(initial=0.0))
    known = np.abs(x[np.isfinite(x)])
    scale = float(known.max(initial=0.0))
    if max_abs == 0:
        return Apart(0.0, 0.0, 0.0, 1.0, scale)
    norm, norms = float(np.linalg.norm(x)), float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    cosine = float(x @ y) / norms if norms and np.isfinite(norms) else math.nan
    rel = (max_abs / scale, float(np.linalg.norm(apart)) / norm) if scale and norm else (math.nan, math.nan)
    return Apart(max_abs, *rel, cosine, scale)
