"""Where a process reaches its steady state: change points of its step times and what kind of start it had.

After Barrett et al. 2017, "Virtual machine warmup blows hot and cold": label outliers, cut the series as PELT does
(Killick et al. 2012), walk back from the last segment, classify. A warm-up is an outcome here, never a setting.

"Within 1 %" under noise. Two segment means count as equal when they differ by at most 1 %, or by at most three standard
errors of their difference: with step times that vary by 10 %, means over 20 steps differ by several per cent by chance
alone, and a bare 1 % rule would then find no steady state in a machine that is perfectly steady. A segment of twenty
steps or more has its own spread, a shorter one that of the whole series. Standard errors allow for the correlation of
neighbouring steps: n steps of an AR(1) series with coefficient rho carry the information of n (1 - rho) / (1 + rho)
independent ones. The price, simulated for a step change half-way with 10 % AR(1) noise (rho 0.5): in 120 steps a change
of 30 % was found always, of 20 % in 78 of 100 runs, of 10 % never; in 60 steps one of 30 % in 74.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.record.events import SteadyClass

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_SEGMENT = 5
PENALTY_PER_LOG_N = 15.0
EQUAL_MEANS = 0.01
STANDARD_ERRORS = 3.0
OWN_SPREAD_SIZE = 20
OUTLIER_WINDOW = 41
OUTLIER_SPREADS = 3.0
LAST_QUARTER = 0.75
# Clock ticks, not the machine, decide about differences below a thousandth of a step.
RELATIVE_SPREAD_FLOOR = 1e-3
# Starts of a last segment that are ruled out together, and of the penalty what a bound must be off by for that.
GROUP, ROOM = 64, 0.1
# Above this the correlation seen is a trend, not noise; believing it would excuse any drift.
MOST_CORRELATION = 0.6


@dataclass(frozen=True)
class SteadyState:
    """The detector's verdict on one process's step times.

    Attributes:
        classification: "flat", "warmup" (what came before was slower), "slowdown" (an earlier phase was faster), or
            "no-steady-state".
        steady_from: index of the first steady step; None without a steady state.
        change_points: first index of every segment but the first.
        outliers: indices of single steps far off their neighbours; labelled only, no mean leaves them out.
    """

    classification: SteadyClass
    steady_from: int | None
    change_points: tuple[int, ...]
    outliers: tuple[int, ...]


@dataclass(frozen=True)
class _Segment:
    """One stretch of the series: `start` in steps, `mean` and `spread` in nanoseconds, `size` without outliers."""

    start: int
    mean: float
    spread: float
    size: int


def detect(step_ns: ArrayLike) -> SteadyState:
    """Find the steady state of one process from all its step times.

    Args:
        step_ns: durations of consecutive steps in nanoseconds, the first step of the process first, shape (n,).

    Returns:
        "no-steady-state" where the last level begins in the last quarter, or with fewer than ten steps.

    Raises:
        ValueError: not one-dimensional, or a duration is not positive and finite.
    """
    steps = np.asarray(step_ns, np.float64)
    if steps.ndim != 1 or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError("step times must be a one-dimensional series of positive, finite numbers")
    if steps.size < 2 * MIN_SEGMENT:
        return SteadyState("no-steady-state", None, (), ())
    outlier = _outliers(steps)
    kept = np.flatnonzero(~outlier)
    series = steps[kept]
    cuts = change_points(series)
    segments = [_Segment(int(kept[a]) if a else 0, float(series[a:b].mean()), float(series[a:b].std(ddof=1)), b - a)
                for a, b in zip((0, *cuts), (*cuts, series.size), strict=True)]
    level = _Level.of(segments, series)
    # Walk back from the last segment while the means stay equal to its mean.
    first = len(segments) - 1
    while first > 0 and level.equals(segments[first - 1]):
        first -= 1
    # Slow outliers at the very start are the compiling steps, too few for a segment of their own.
    leading = int(np.argmin(outlier & (steps > level.last.mean)))
    start = segments[first].start if first else leading
    found = tuple(int(i) for i in np.flatnonzero(outlier))
    points = tuple(segment.start for segment in segments[1:])
    if start > LAST_QUARTER * steps.size:
        return SteadyState("no-steady-state", None, points, found)
    return SteadyState(_classify(steps[:start], segments[:first], level), start, points, found)


def change_points(series: Floats) -> tuple[int, ...]:
    """First index of every segment but the first: PELT's optimum with a normal cost in mean and variance.

    The cost of a segment is n (log of its variance + 1), twice its negative log-likelihood up to a constant; every
    change point costs 15 ln n more; no segment is shorter than five steps (Killick et al. 2012). Exact, like optimal
    partitioning.

    Where nothing changes PELT rules out no start of a last segment, and its time grows with the square of n. So starts
    stand in groups, and one bound rules out a whole group at one end: splitting a segment never costs more, so that
    none of them costs less than the group's cheapest way to its own end and a segment from there.
    """
    n = series.size
    if n < 2 * MIN_SEGMENT:
        return ()
    # Centred and scaled first, because the running sums of squares of raw nanoseconds lose the digits that matter.
    centre = float(np.median(series))
    scaled = (series - centre) / centre
    sums = np.concatenate([[0.0], np.cumsum(scaled)])
    squares = np.concatenate([[0.0], np.cumsum(scaled**2)])
    penalty = PENALTY_PER_LOG_N * math.log(n)
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    previous = np.zeros(n + 1, np.int64)

    def costs(starts: Ints, end: int) -> Floats:
        size = end - starts
        mean = (sums[end] - sums[starts]) / size
        variance = np.maximum((squares[end] - squares[starts]) / size - mean**2, 0.0)
        # The floor is added, not taken as a maximum: so splitting a segment never costs more, as the bound needs it.
        return np.asarray(size * (np.log(variance + RELATIVE_SPREAD_FLOOR**2) + 1))

    ends = np.arange(0, n + 1, GROUP)[1:]
    cheapest = np.full(ends.size, np.inf)
    closed, latest, within = 0, np.array([0]), np.arange(GROUP)
    for end in range(MIN_SEGMENT, n + 1):
        if closed < ends.size and ends[closed] <= end - MIN_SEGMENT + 1:
            starts = ends[closed] - GROUP + within
            cheapest[closed] = (best[starts] + costs(starts, int(ends[closed]))).min()
            closed += 1
        bounds = cheapest[:closed] + costs(ends[:closed], end)
        # What won at the end before is a good guess; the bounds are as inexact as the running sums.
        limit = (best[latest] + costs(latest, end)).item() + ROOM * penalty
        possible = (np.flatnonzero(bounds <= limit)[:, None] * GROUP + within).ravel()
        starts = np.concatenate([possible, np.arange(closed * GROUP, end - MIN_SEGMENT + 1)])
        found = best[starts] + costs(starts, end)
        choice = int(found.argmin())
        latest = starts[choice : choice + 1]
        best[end], previous[end] = found[choice] + penalty, starts[choice]
    cuts: list[int] = []
    end = int(previous[n])
    while end > 0:
        cuts.append(end)
        end = int(previous[end])
    return tuple(reversed(cuts))


def _outliers(steps: Floats) -> NDArray[np.bool_]:
    """Steps farther than 3 x (p90 - p10) from the median of the 41 steps around them (Barrett et al. 2017, 4.1)."""
    half = OUTLIER_WINDOW // 2
    padded = np.pad(steps, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, OUTLIER_WINDOW)
    # Where numbers are missing each window is looked at by itself, which takes long; all others are sorted at once.
    edge = np.isnan(windows).any(axis=1)
    found = np.empty((3, steps.size))
    found[:, ~edge] = np.percentile(windows[~edge], [10, 50, 90], axis=1)
    found[:, edge] = np.nanpercentile(windows[edge], [10, 50, 90], axis=1)
    low, median, high = found
    spread = np.maximum(high - low, RELATIVE_SPREAD_FLOOR * median)
    return np.asarray(np.abs(steps - median) > OUTLIER_SPREADS * spread)


@dataclass(frozen=True)
class _Level:
    """The level that steps are compared with: the last segment, noise of one step (ns), information in one step."""

    last: _Segment
    noise: float
    information: float

    @classmethod
    def of(cls, segments: list[_Segment], series: Floats) -> _Level:
        """Noise and correlation from the residuals around the segment means, scaled to the last segment's level."""
        sizes = [segment.size for segment in segments]
        residual = series / np.repeat([segment.mean for segment in segments], sizes) - 1
        lagged = np.delete(residual[1:] * residual[:-1], np.cumsum(sizes)[:-1] - 1)
        variance = float(np.mean(residual**2))
        rho = float(lagged.mean()) / variance if variance > 0 else 0.0
        rho = min(max(rho, 0.0), MOST_CORRELATION)
        noise = math.sqrt(variance * series.size / max(1, series.size - len(segments))) * segments[-1].mean
        return cls(segments[-1], noise, (1 - rho) / (1 + rho))

    def tolerance(self, segment: _Segment) -> float:
        """The greatest difference to the segment's mean, in nanoseconds, that still counts as none."""
        variance = self._variance_of_mean(segment) + self._variance_of_mean(self.last)
        return max(EQUAL_MEANS * self.last.mean, STANDARD_ERRORS * math.sqrt(variance / self.information))

    def _variance_of_mean(self, segment: _Segment) -> float:
        # A short segment may hold a level change that was too short to be cut, and its own spread would excuse it.
        spread = segment.spread if segment.size >= OWN_SPREAD_SIZE else self.noise
        return spread**2 / segment.size

    def equals(self, segment: _Segment) -> bool:
        return abs(segment.mean - self.last.mean) <= self.tolerance(segment)


def _classify(before: Floats, earlier: list[_Segment], level: _Level) -> SteadyClass:
    """What kind of start led to the steady level."""
    if before.size == 0:
        return "flat"
    if any(segment.mean < level.last.mean - level.tolerance(segment) for segment in earlier):
        return "slowdown"
    return "warmup" if before.mean() > level.last.mean else "slowdown"
