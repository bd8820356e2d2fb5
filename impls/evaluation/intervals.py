"""How sure a figure is: delete-a-group jackknife over images, and the distance that infinitely many would have.

The reference is taken as given: an interval is for the mean figure of sets of this size against these very real images.
In simulations of Gaussians (4 to 64 features, 100 to 500 images) the 95 % intervals of the distance held its mean in 94
to 96 % of the sets, those of a difference in 94 to 98 %, of the KID in 94 %. Those of the extrapolation, of recall and
of the Inception Score are wider than they need be (99 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from impls.evaluation.distances import Array, Rows, Sample, Sums

LEVEL = 0.95
# Groups per quarter, and from how many images on.
GROUPS = ((64, 4), (16, 2))
# Two images in every quarter.
LADDER_LEAST = 8


@dataclass(frozen=True)
class Partition:
    """A random division of n images into quarters, and of each quarter into groups of equal size.

    Attributes:
        quarters: row numbers of each; their sizes differ by at most one.
        groups: (row numbers, number of the quarter) of each group; none where there are too few images. The few
            images that equal sizes leave over belong to none.
    """

    quarters: tuple[Rows, ...]
    groups: tuple[tuple[Rows, int], ...]

    @property
    def everything(self) -> Rows:
        """All row numbers."""
        return np.concatenate(self.quarters)

    def without(self, group: int) -> Rows:
        """All row numbers but those of one group."""
        return np.setdiff1d(self.everything, self.groups[group][0], assume_unique=True)


def partition(n: int, seed: int) -> Partition:
    """The same for every set of n images, so that the left-out images of two sets belong together."""
    order = np.random.default_rng(seed).permutation(n)
    quarters = tuple(np.array_split(order, 4))
    per_quarter = next((count for least, count in GROUPS if n >= least), 0)
    size = n // 4 // per_quarter if per_quarter else 0
    groups = tuple((quarter[i * size : (i + 1) * size], number)
                   for number, quarter in enumerate(quarters) for i in range(per_quarter))
    return Partition(quarters, groups)


@dataclass(frozen=True)
class Interval:
    """A figure's 95 % interval; None where it cannot be told."""

    low: float | None
    high: float | None


NONE = Interval(None, None)


def jackknife(value: float, left_out: Array, more_variance: float = 0.0) -> Interval:
    """Around `value`, ± t(G - 1) standard errors, from the figure without each of G equal groups (Shao and Tu 1995).

    Args:
        value: the figure over all images.
        left_out: (G,) the figure without each group.
        more_variance: of another source, to be added.
    """
    groups = len(left_out)
    if groups < 2:
        return NONE
    variance = (groups - 1) / groups * float(((left_out - left_out.mean()) ** 2).sum()) + more_variance
    half = float(stats.t.ppf((1 + LEVEL) / 2, groups - 1)) * math.sqrt(variance)
    return Interval(value - half, value + half)


def wilson(share: float, n: int) -> Interval:
    """Wilson's interval of a share of n independent images."""
    found = stats.binomtest(round(share * n), n).proportion_ci(LEVEL, "wilson")
    return Interval(float(found.low), float(found.high))


@dataclass(frozen=True)
class Study:
    """The Fréchet distance of one sample, of parts of it, and of what remains without each group.

    Attributes:
        value: of all images.
        left_out: (G,) without each group.
        ladder: (images, mean distance of disjoint subsets of that size), smallest first.
        extrapolated: at infinitely many images; None where there are too few for a ladder.
        extrapolated_left_out: (G,) the same without each group.
    """

    value: float
    left_out: Array
    ladder: tuple[tuple[int, float], ...]
    extrapolated: float | None
    extrapolated_left_out: Array


# All images, halves, quarters: by the quarters they consist of, of which the first ones are the larger.
_PARTS = ((0, 1, 2, 3), (0, 2), (1, 3), (0,), (1,), (2,), (3,))
_RUNGS = (slice(3, 7), slice(1, 3), slice(0, 1))


def study(sample: Sample, plan: Partition) -> Study:
    """All distances of a sample that its figures, ladder and intervals are made of.

    The extrapolation is the least-squares line of the distance over 1/n at n, n/2 and n/4 images, where the bias is
    nearly proportional to 1/n (Chong and Forsyth 2020). Leaving out a group changes only the parts that hold it.
    """
    n, d = sample.z.shape
    parts = _PARTS if n >= LADDER_LEAST else _PARTS[:1]
    rows = [np.concatenate([plan.quarters[quarter] for quarter in part]) for part in parts]
    sums = [sample.sums(part) if len(part) > d else None for part in rows]
    values = np.array([_distance(sample, part, total) for part, total in zip(rows, sums, strict=True)])
    sizes = np.array([len(part) for part in rows])
    left_out, extrapolated_left_out = [], []
    for group, quarter in plan.groups:
        taken = sample.sums(group) if any(sums) else None
        fewer, smaller = values.copy(), sizes.copy()
        for number, part in enumerate(parts):
            if quarter not in part:
                continue
            rest = np.setdiff1d(rows[number], group, assume_unique=True)
            total = sums[number]
            fewer[number] = _distance(sample, rest, total - taken if total and taken and len(rest) > d else None)
            smaller[number] = len(rest)
        left_out.append(fewer[0])
        extrapolated_left_out.append(_intercept(smaller, fewer))
    if len(parts) == 1:
        return Study(float(values[0]), np.array(left_out), ((n, float(values[0])),), None, np.array([]))
    ladder = tuple((int(sizes[rung].min()), float(values[rung].mean())) for rung in _RUNGS)
    return Study(float(values[0]), np.array(left_out), ladder, _intercept(sizes, values),
                 np.array(extrapolated_left_out))


def _distance(sample: Sample, rows: Rows, sums: Sums | None) -> float:
    return sample.distance(rows) if sums is None else sample.distance_of(sums)


def _intercept(sizes: NDArray[np.int64], values: Array) -> float:
    """Of the straight line over 1/n in which every rung has the same weight, however many subsets it has."""
    weights = np.concatenate([np.full(1, 1.0), np.full(2, 0.5), np.full(4, 0.25)])
    _, intercept = np.polyfit(1 / sizes, values, 1, w=np.sqrt(weights))
    return float(intercept)


def kid_left_out(features: NDArray[Any], reference: NDArray[Any], plan: Partition) -> Array:
    """(G,) the kernel distance without each group, less a constant: unbiased, kernel (x'y / d + 1)^3.

    Only the sums of the kernel over pairs of groups are kept, so memory does not grow with the number of images.
    """
    d = features.shape[1]
    cells = [group for group, _ in plan.groups]
    rest = np.setdiff1d(plan.everything, np.concatenate(cells))
    cells = [*cells, rest] if len(rest) else cells
    counts = np.array([len(cell) for cell in cells])
    within, across = np.zeros((len(cells), len(cells))), np.zeros(len(cells))
    for i, one in enumerate(cells):
        x = np.asarray(features[one], np.float32)
        across[i] = sum(_kernel_sum(x, reference[j : j + 4096], d) for j in range(0, len(reference), 4096))
        for j, other in enumerate(cells[: i + 1]):
            within[i, j] = within[j, i] = _kernel_sum(x, features[other], d)
        within[i, i] -= float((((x * x).sum(1, dtype=np.float64) / d + 1) ** 3).sum())
    found = []
    for group in range(len(plan.groups)):
        n = counts.sum() - counts[group]
        pairs = within.sum() - 2 * within[group].sum() + within[group, group]
        found.append(pairs / (n * (n - 1)) - 2 * (across.sum() - across[group]) / (n * len(reference)))
    return np.array(found)


def _kernel_sum(x: NDArray[Any], y: NDArray[Any], d: int) -> float:
    k = x @ np.asarray(y, np.float32).T / d + 1
    return float((k * k * k).sum(dtype=np.float64))


def left_out(plan: Partition, figure: Callable[[Rows], float]) -> Array:
    """(G,) any figure without each group."""
    return np.array([figure(plan.without(group)) for group in range(len(plan.groups))])
