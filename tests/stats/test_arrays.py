"""How far two arrays are apart, looked at in pieces: what the definition says of them as a whole."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from harness.stats.arrays import PIECE, Apart, error


def defined(a, b):
    """The same by its definition, all numbers at once."""
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, x - y))
        norms = [float(np.sqrt((one * one).sum())) for one in (x, y, apart)]
        product = float((x * y).sum())
    largest, scale = float(apart.max(initial=0.0)), float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
    if largest == 0:
        return Apart(0.0, 0.0, 0.0, 1.0, scale)
    both = norms[0] * norms[1]
    cosine = product / both if both and math.isfinite(both) else math.nan
    rel = (largest / scale, norms[2] / norms[0]) if scale and norms[0] else (math.nan, math.nan)
    return Apart(largest, *rel, cosine, scale)


SPOILED = {"sound": {}, "nan": {3: (math.nan, 1.0)}, "both nan": {3: (math.nan, math.nan)},
           "theirs": {-1: (1.0, math.nan)}, "inf": {0: (math.inf, 1.0)}, "both inf": {0: (-math.inf, -math.inf)},
           "signs": {0: (math.inf, -math.inf)}}


@pytest.mark.parametrize("size", [1, 7, PIECE, 2 * PIECE + 5])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_pieces_say_what_the_whole_does(size, spoiled):
    rng = np.random.default_rng(size)
    a = rng.standard_normal(size, np.float32)
    for b in (a + np.float32(1e-3) * rng.standard_normal(size, np.float32), a.copy(), np.zeros_like(a)):
        mine, theirs = a.copy(), b.copy()
        for place, (one, other) in SPOILED[spoiled].items():
            if place < size:
                mine[place], theirs[place] = one, other
        for one, other in ((mine, theirs), (theirs, mine)):
            assert astuple(error(one, other)) == pytest.approx(astuple(defined(one, other)), rel=1e-9, nan_ok=True)


def test_whole_numbers_nothing_and_what_overflows():
    assert error(np.arange(5), np.arange(5) + 2).max_abs == 2
    assert error(np.ones(3, bool), np.zeros(3, bool)).max_abs == 1
    assert error(np.zeros((0, 3)), np.zeros((0, 3))) == Apart(0.0, 0.0, 0.0, 1.0, 0.0)
    huge = np.array([1e200, 1.0])
    assert error(huge, -huge).max_abs == 2e200 and error(huge, huge).max_abs == 0
