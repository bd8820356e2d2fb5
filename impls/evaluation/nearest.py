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
    # Its import takes a second that only those who want neighbours wait for.
    from sklearn.neighbors import NearestNeighbors

    real = np.asarray(real, np.float64)
    index = NearestNeighbors(algorithm="brute").fit(real)
    distances, rows = index.kneighbors(np.asarray(drawn, np.float64), NEIGHBOURS)
    probes = real[np.unique(np.linspace(0, len(real) - 1, PROBES).astype(np.int64))]
    # The nearest of all is the probe itself.
    others = index.kneighbors(probes, 2)[0][:, 1]
    return Nearest(rows, distances[:, 0], float(np.median(others)))


def picture(drawn: Images, neighbours: NDArray[np.uint8]) -> Images:
    """One row per drawn image (K, H, W, 3): itself, a wide gap, then its neighbours (K, 3, H, W, 3)."""
    first = np.pad(drawn, ((0, 0), (GAP, 0), (GAP, 4 * GAP), (0, 0)), constant_values=GAP_VALUE)
    others = np.pad(neighbours, ((0, 0), (0, 0), (GAP, 0), (0, GAP), (0, 0)), constant_values=GAP_VALUE)
    rows = [np.hstack([image, *near]) for image, near in zip(first, others, strict=True)]
    return np.pad(np.vstack(rows), ((0, GAP), (0, 0), (0, 0)), constant_values=GAP_VALUE)
