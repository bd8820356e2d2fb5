"""The Fréchet distance between Gaussians fitted to features, in float64, for many subsets of one sample.

|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)   (Dowson and Landau 1982; Heusel et al. 2017).

With Y = (X - m1) S2^(1/2), the last trace is the sum of Y's singular values over sqrt(n - 1), so that S2^(1/2) is
computed once, and a subset costs the eigenvalues of the smaller of Y Y' and Y' Y: symmetric, real, and cheap where
there are fewer images than features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of a subset: what can be taken away from a larger one.

    Attributes:
        count: rows.
        z: (d,) sum of the features, less the reference's mean.
        squares: sum of their squares.
        y: (d,) sum of the features times S2^(1/2).
        scatter: (d, d) Y' Y.
    """

    count: int
    z: Array
    squares: float
    y: Array
    scatter: Array

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.count - other.count, self.z - other.z, self.squares - other.squares, self.y - other.y,
                    self.scatter - other.scatter)


class Reference:
    """Mean, trace and root of the covariance of the reference's features (m, d), m >= 2."""

    def __init__(self, features: NDArray[Any]) -> None:
        rows = np.asarray(features, np.float64)
        self.mean: Array = rows.mean(0)
        centred = rows - self.mean
        values, vectors = np.linalg.eigh(centred.T @ centred / (len(rows) - 1))
        # Rounding makes zeros slightly negative.
        self._keep(np.maximum(values, 0), vectors)

    @classmethod
    def published(cls, mean: Array, covariance: Array, tolerance: float) -> Reference:
        """The reference with this mean (d,) and symmetric covariance (d, d).

        Raises:
            ValueError: an eigenvalue is negative by more than `tolerance` of the largest.
        """
        values, vectors = np.linalg.eigh(covariance)
        if values[0] < -tolerance * values[-1]:
            raise ValueError(f"has a negative eigenvalue ({values[0]:.3g}, the largest is {values[-1]:.3g})")
        made = cls.__new__(cls)
        made.mean = mean
        made._keep(np.maximum(values, 0), vectors)
        return made

    def _keep(self, values: Array, vectors: Array) -> None:
        self.trace = float(values.sum())
        self.root: Array = (vectors * np.sqrt(values)) @ vectors.T


class Sample:
    """Features (n, d) whose subsets are held against one reference."""

    def __init__(self, features: NDArray[Any], reference: Reference) -> None:
        self.reference = reference
        # About the reference's mean, so that no sum below loses digits.
        self.z: Array = np.asarray(features, np.float64) - reference.mean
        self.y: Array = self.z @ reference.root

    def distance(self, rows: Rows) -> float:
        """The distance of the rows with these numbers, two or more."""
        if len(rows) > self.z.shape[1]:
            return self.distance_of(self.sums(rows))
        z, y = self.z[rows], self.y[rows]
        y = y - y.mean(0)
        return self._distance(len(rows), z.sum(0), float((z * z).sum()), y @ y.T)

    def sums(self, rows: Rows) -> Sums:
        """The sums over these rows."""
        z, y = self.z[rows], self.y[rows]
        return Sums(len(rows), z.sum(0), float((z * z).sum()), y.sum(0), y.T @ y)

    def distance_of(self, sums: Sums) -> float:
        """The distance of the subset with these sums."""
        centred = sums.scatter - np.outer(sums.y, sums.y) / sums.count
        return self._distance(sums.count, sums.z, sums.squares, centred)

    def _distance(self, n: int, z: Array, squares: float, gram: Array) -> float:
        singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0) / (n - 1))
        mean = z / n
        trace = (squares - n * float(mean @ mean)) / (n - 1)
        return float(mean @ mean) + trace + self.reference.trace - 2 * float(singular.sum())
