"""Confidence intervals, and how many blocks would narrow them: scipy's, asked in one place.

scipy is loaded by the first interval, not with this file, because the command line names the margin and must not wait.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Fixed before anything is measured: ratios that differ from 1 by less count as equal; 1 - level of the intervals.
MARGIN = 0.01
ALPHA = 0.05
MOST_FURTHER_BLOCKS = 1000


class Interval(NamedTuple):
    """A mean with its two-sided confidence limits."""

    mean: float
    low: float
    high: float


def finite(values: Sequence[float]) -> NDArray[np.float64]:
    """The values as an array.

    Raises:
        ValueError: one is not finite.
    """
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or not np.isfinite(data).all():
        raise ValueError(f"expected finite numbers, got {list(values)}")
    return data


def t_interval(values: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Student's t interval for the mean of independent values, with n - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    from scipy.stats import ttest_1samp

    data = finite(values)
    if data.size < 2:
        raise ValueError(f"a t interval needs at least two values, got {data.size}")
    with _alike():
        return _interval(float(data.mean()), ttest_1samp(data, 0.0), alpha)


def factor_interval(values: Sequence[float], groups: Sequence[int], alpha: float = ALPHA) -> Interval:
    """The mean of all values with the spread within groups (hosts) alone: n - groups degrees of freedom.

    That is the analysis of variance with the group as a fixed factor (Scheffe 1959, 3.2): a difference between groups
    is no noise. It is also less than what an interval over all values counts, so the wider one of both is given: groups
    that differ must not look more certain than groups that do not.

    Raises:
        ValueError: fewer than two values, one that is not finite, or not a group for each.
    """
    from scipy.stats import t

    whole, data, of = t_interval(values, alpha), finite(values), np.asarray(groups)
    if of.shape != data.shape:
        raise ValueError(f"{data.size} values but {of.size} groups")
    names = np.unique(of)
    left = data.size - names.size
    if names.size < 2 or left < 1:
        return whole
    within = sum(float(((data[of == one] - data[of == one].mean()) ** 2).sum()) for one in names)
    half = float(t.ppf(1 - alpha / 2, left)) * math.sqrt(within / left / data.size)
    return whole if half <= whole.high - whole.mean else Interval(whole.mean, whole.mean - half, whole.mean + half)


def welch_interval(before: Sequence[float], after: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Interval for mean(after) - mean(before) of independent values whose variances may differ (Welch 1947).

    Raises:
        ValueError: fewer than two values on a side, or one that is not finite.
    """
    from scipy.stats import ttest_ind

    x, y = finite(before), finite(after)
    if min(x.size, y.size) < 2:
        raise ValueError(f"Welch's interval needs two values on each side, got {x.size} and {y.size}")
    with _alike():
        return _interval(float(y.mean() - x.mean()), ttest_ind(y, x, equal_var=False), alpha)


def pooled_interval(before: Sequence[float], after: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Interval for mean(after) - mean(before) of independent values of one variance: Student's, exact for normal ones.

    Raises:
        ValueError: no value on a side, fewer than three in all, or one that is not finite.
    """
    from scipy.stats import ttest_ind

    x, y = finite(before), finite(after)
    if min(x.size, y.size) < 1 or x.size + y.size < 3:
        raise ValueError(f"an interval with a common variance needs three values, got {x.size} and {y.size}")
    with _alike():
        return _interval(float(y.mean() - x.mean()), ttest_ind(y, x, equal_var=True), alpha)


def welch_p(before: Sequence[float], after: Sequence[float], difference: float) -> float:
    """Two-sided p-value of mean(after) - mean(before) being `difference`."""
    from scipy.stats import ttest_ind

    with _alike():
        return float(ttest_ind(finite(after) - difference, finite(before), equal_var=False).pvalue)


def median_interval(values: Sequence[float], alpha: float = ALPHA) -> tuple[float, float] | None:
    """The sign test's interval for the median: exact, free of assumptions about the noise (Conover 1999, 3.2).

    Returns:
        None where the values are too few for one at this level.
    """
    from scipy.stats import quantile_test

    low, high = quantile_test(finite(values)).confidence_interval(1 - alpha)
    return None if math.isnan(low) or math.isnan(high) else (float(low), float(high))


def blocks_for(spread: float, target: float, among: range, alpha: float = ALPHA) -> int | None:
    """The fewest blocks of this spread whose t interval is +- `target`: t(n-1) s / sqrt(n) <= target; None if none."""
    from scipy.stats import t

    n = np.asarray(among)
    enough = np.flatnonzero(t.ppf(1 - alpha / 2, n - 1) * spread / np.sqrt(n) <= target)
    return int(n[enough[0]]) if enough.size else None


def _interval(mean: float, test: Any, alpha: float) -> Interval:
    low, high = test.confidence_interval(1 - alpha)
    return Interval(mean, float(low), float(high))


@contextmanager
def _alike() -> Iterator[None]:
    """Values that are all alike have an interval of no width, of which scipy warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
