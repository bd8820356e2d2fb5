"""The real images nearest to drawn ones: has the network learned by heart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.evaluation.inputs import Images
from impls.pictures.images import GAP, GAP_VALUE

NEIGHBOURS = 3
# Real images whose distance to their nearest other one is looked at: their median needs no more.
PROBES = 1000
_CHUNK = 256


@dataclass(frozen=True)
class Nearest:
    """Neighbours of a few drawn images.

    Attributes:
        rows: (K, 3) numbers of the nearest real images, nearest first.
        distances: (K,) distance to the nearest one.
        typical: median distance of a real image to its nearest other one.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]
    typical: float


def nearest(drawn: NDArray[Any], real: NDArray[Any]) -> Nearest:
    """The neighbours of drawn features (K, d) among real ones (m, d), m > 3; Euclidean, in float64."""
    real = np.asarray(real, np.float64)
    squares = _squares(np.asarray(drawn, np.float64), real)
    rows = np.argsort(squares, axis=1, kind="stable")[:, :NEIGHBOURS]
    probes = np.unique(np.linspace(0, len(real) - 1, PROBES).astype(np.int64))
    closest = []
    for start in range(0, len(probes), _CHUNK):
        chunk = probes[start : start + _CHUNK]
        others = _squares(real[chunk], real)
        others[np.arange(len(chunk)), chunk] = np.inf
        closest.append(others.min(1))
    return Nearest(rows, np.sqrt(np.take_along_axis(squares, rows[:, :1], 1)[:, 0]),
                   float(np.median(np.sqrt(np.concatenate(closest)))))


def picture(drawn: Images, neighbours: NDArray[np.uint8]) -> Images:
    """One row per drawn image (K, H, W, 3): itself, a wide gap, then its neighbours (K, 3, H, W, 3)."""
    count, height, width, channels = drawn.shape
    columns = neighbours.shape[1]
    aside = GAP + width + 4 * GAP
    shape = (count * (height + GAP) + GAP, aside + columns * (width + GAP), channels)
    out = np.full(shape, GAP_VALUE, np.uint8)
    for row in range(count):
        top = row * (height + GAP) + GAP
        out[top : top + height, GAP : GAP + width] = drawn[row]
        for column in range(columns):
            left = aside + column * (width + GAP)
            out[top : top + height, left : left + width] = neighbours[row, column]
    return out


def _squares(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    # Cancellation leaves about 1e-15 of the squared length, negative where the two are the same.
    found = (one * one).sum(1)[:, None] + (other * other).sum(1)[None] - 2 * one @ other.T
    result: NDArray[np.float64] = np.maximum(found, 0)
    return result
