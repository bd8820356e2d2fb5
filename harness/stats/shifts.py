"""Where a row of runs changes its level: one logarithm a run, and the run is the unit of replication.

Every split with two runs or more on each side is a t test with a common variance. The split with the largest |t| is
the candidate; its interval has the level alpha over the number of splits, which bounds how often equal runs show any
(Worsley 1979, "On the likelihood ratio test for a shift in location of normal populations"). Where that interval lies
outside the margin there is a step, and both sides are searched in the same way (Scott & Knott 1974).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.stats.compare import refuse_levels
from harness.stats.interval import ALPHA, MARGIN, Interval, finite, pooled_interval

# Runs on each side of a step: one run alone has no spread to tell it from an outlier.
LEAST = 2


@dataclass(frozen=True)
class Shift:
    """One step.

    Attributes:
        at: index of the first run behind it.
        ratio: level behind it / level before it, each up to the next step.
        ci_low: lower confidence limit of `ratio`.
        ci_high: upper confidence limit of `ratio`.
        alpha: 1 - level of the interval: what is allowed in all, over the splits that were looked at.
    """

    at: int
    ratio: float
    ci_low: float
    ci_high: float
    alpha: float


def shifts(values: Sequence[float], margin: float = MARGIN, alpha: float = ALPHA) -> list[Shift]:
    """The steps of a row of logarithms, oldest first.

    Args:
        values: one per run, in the order of the runs.
        margin: levels whose ratio differs from 1 by less count as equal.
        alpha: how often equal runs may show a step.

    Raises:
        ValueError: a value is not finite, or margin or alpha is out of range.
    """
    refuse_levels(margin, alpha)
    data = finite(values)
    found = _found(data, 0, data.size, math.log1p(margin), alpha)
    edges = [0, *(at for at, _ in found), data.size]
    steps = []
    for place, (at, level) in enumerate(found):
        change = _change(data, edges[place], at, edges[place + 2], level)
        steps.append(Shift(at, math.exp(change.mean), math.exp(change.low), math.exp(change.high), level))
    return steps


def _found(data: NDArray[np.float64], first: int, after: int, bound: float, alpha: float) -> list[tuple[int, float]]:
    """Steps between two places, each with the level at which it was found."""
    splits = after - first - 2 * LEAST + 1
    if splits < 1:
        return []
    at, level = first + _best(data[first:after]), alpha / splits
    change = _change(data, first, at, after, level)
    if change.low <= bound and change.high >= -bound:
        return []
    return [*_found(data, first, at, bound, alpha), (at, level), *_found(data, at, after, bound, alpha)]


def _best(part: NDArray[np.float64]) -> int:
    """The split with the largest |t|, which is the one that leaves least squares within both sides."""
    before = np.arange(LEAST, part.size - LEAST + 1)
    sums = np.cumsum(part - part.mean())[before - 1]
    # The total is 0, so that a side's sum tells the other's.
    return int(before[np.argmax(sums**2 / (before * (part.size - before)))])


def _change(data: NDArray[np.float64], first: int, at: int, after: int, alpha: float) -> Interval:
    return pooled_interval(data[first:at].tolist(), data[at:after].tolist(), alpha)
