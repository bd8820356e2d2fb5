"""The same arm in two runs: has it become slower? Blocks of different runs are not paired, so Welch's t interval.

The block stays the unit of replication. What differs between the runs for all their blocks alike (a warmer machine,
another neighbour) is part of the ratio and not of the interval: only a control, an arm of both runs, can take it out.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.stats.compare import ALPHA, MARGIN, MOST_FURTHER_BLOCKS, Interval, Reason

ChangeWord = Literal["slower", "faster", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class BlockLogs:
    """One logarithm per block of one run: of the arm's step time, or of its ratio to a control.

    Attributes:
        values: block logarithms.
        dirty: whether the machine was disturbed, per block.
    """

    values: tuple[float, ...]
    dirty: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.dirty):
            raise ValueError(f"{len(self.values)} blocks but {len(self.dirty)} flags")

    @property
    def clean(self) -> tuple[float, ...]:
        """The values of undisturbed blocks."""
        return tuple(value for value, bad in zip(self.values, self.dirty, strict=True) if not bad)


@dataclass(frozen=True)
class Change:
    """A verdict on one arm across two runs. `ratio` is time after / time before, so above 1 means slower.

    Attributes:
        word: the verdict.
        ratio: exp of the difference of mean block logarithms; None where a run has no block.
        ci_low: lower confidence limit of `ratio`; None where a run has fewer than two blocks.
        ci_high: upper confidence limit of `ratio`.
        blocks_before: blocks of the earlier run.
        blocks_after: blocks of the later run.
        alpha: 1 - level of the interval.
        reason: why the word is not decisive; None when it is.
        next_action: what the reader should do; None when nothing is needed.
    """

    word: ChangeWord
    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    blocks_before: int
    blocks_after: int
    alpha: float
    reason: Reason | None = None
    next_action: str | None = None


class Spread(NamedTuple):
    """Standard error of a difference of two means, with Welch's degrees of freedom."""

    error: float
    freedom: float


def welch(variance_x: float, n_x: int, variance_y: float, n_y: int) -> Spread:
    """Error of mean(y) - mean(x) of independent samples whose variances may differ (Welch 1947)."""
    part_x, part_y = variance_x / n_x, variance_y / n_y
    squares = part_x**2 / (n_x - 1) + part_y**2 / (n_y - 1)
    # Without any spread, or with one too small to be squared, the degrees of freedom are 0/0.
    freedom = (part_x + part_y) ** 2 / squares if squares > 0 else float(n_x + n_y - 2)
    return Spread(math.sqrt(part_x + part_y), freedom)


def contrast(before: Sequence[float], after: Sequence[float]) -> tuple[float, Spread]:
    """mean(after) - mean(before), with its error.

    Raises:
        ValueError: fewer than two values on a side, or one that is not finite.
    """
    x, y = _finite(before), _finite(after)
    if min(x.size, y.size) < 2:
        raise ValueError(f"Welch's interval needs two values on each side, got {x.size} and {y.size}")
    return float(y.mean() - x.mean()), welch(float(x.var(ddof=1)), x.size, float(y.var(ddof=1)), y.size)


def welch_interval(before: Sequence[float], after: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Two-sided confidence interval of mean(after) - mean(before).

    Raises:
        ValueError: as `contrast`.
    """
    difference, spread = contrast(before, after)
    half = float(stats.t.ppf(1 - alpha / 2, spread.freedom)) * spread.error
    return Interval(difference, difference - half, difference + half)


def p_beyond(before: BlockLogs, after: BlockLogs, margin: float = MARGIN) -> float:
    """The smallest alpha at which the interval lies outside the margin: what Holm's step-down orders by; 1 if none."""
    if min(len(before.values), len(after.values)) < 2:
        return 1.0
    difference, spread = contrast(before.values, after.values)
    beyond = abs(difference) - math.log1p(margin)
    if beyond <= 0:
        return 1.0
    return 2 * float(stats.t.sf(beyond / spread.error, spread.freedom)) if spread.error > 0 else 0.0


def judge_change(before: BlockLogs, after: BlockLogs, margin: float = MARGIN, alpha: float = ALPHA) -> Change:
    """The verdict over all blocks, withdrawn when it depends on the blocks during which the machine was disturbed.

    The interval lies above log(1 + margin): `slower`; below -log(1 + margin): `faster`; between: `equivalent`; else
    `inconclusive`.

    Raises:
        ValueError: a value is not finite, or margin or alpha is out of range.
    """
    if not 0 < margin < 1 or not 0 < alpha < 1:
        raise ValueError(f"margin and alpha must lie in (0, 1), got {margin} and {alpha}")
    everything = _judge(before.values, after.values, margin, alpha)
    if not any(before.dirty) and not any(after.dirty):
        return everything
    clean = _judge(before.clean, after.clean, margin, alpha)
    if clean.word == everything.word:
        return everything
    bad = sum(before.dirty) + sum(after.dirty)
    return replace(
        everything, word="inconclusive", reason="machine",
        next_action=f"{bad} of {len(before.values) + len(after.values)} blocks were disturbed (see the findings of the "
        f"runs); with them the verdict is {everything.word!r}, without them {clean.word!r}: repeat on an idle machine")


def judge_changes(pairs: Sequence[tuple[BlockLogs, BlockLogs]], margin: float = MARGIN,
                  alpha: float = ALPHA) -> list[Change]:
    """Several verdicts at once under Holm's step-down: the clearest of m at alpha / m, the next at alpha / (m - 1), ...

    From the first on that shows no difference beyond the margin, all stay at the level reached. In the order given.
    """
    order = sorted(range(len(pairs)), key=lambda i: p_beyond(*pairs[i], margin))
    left, found = len(pairs), {}
    for i in order:
        found[i] = judge_change(*pairs[i], margin, alpha / left)
        if p_beyond(*pairs[i], margin) <= alpha / left:
            left = max(1, left - 1)
    return [found[i] for i in range(len(pairs))]


def _judge(before: Sequence[float], after: Sequence[float], margin: float, alpha: float) -> Change:
    x, y = _finite(before), _finite(after)
    if min(x.size, y.size) < 2:
        ratio = math.exp(float(y.mean() - x.mean())) if min(x.size, y.size) else None
        return Change("inconclusive", ratio, None, None, x.size, y.size, alpha, "too-few-blocks",
                      "measure at least two blocks in each run: one block has no spread to judge by")
    difference, low, high = welch_interval(before, after, alpha)
    known = Change("inconclusive", math.exp(difference), math.exp(low), math.exp(high), x.size, y.size, alpha)
    bound = math.log1p(margin)
    if low > bound:
        return replace(known, word="slower")
    if high < -bound:
        return replace(known, word="faster")
    if -bound <= low and high <= bound:
        return replace(known, word="equivalent")
    wide = (high - low) / 2 > bound
    reason: Reason = "noise" if wide else "at-the-margin"
    what = (f"the interval is wider than the {margin:.1%} margin" if wide
            else f"the difference lies at the edge of the {margin:.1%} margin")
    target = bound if wide else abs(abs(difference) - bound)
    return replace(known, reason=reason, next_action=f"{what}: {_advice(further_blocks(x, y, target, alpha))}")


def further_blocks(before: NDArray[np.float64], after: NDArray[np.float64], target: float, alpha: float) -> int | None:
    """Blocks to add to both runs until the interval is +- `target` wide at the spread seen; None above 1000."""

    def narrow(more: int) -> bool:
        found = welch(float(before.var(ddof=1)), before.size + more, float(after.var(ddof=1)), after.size + more)
        return float(stats.t.ppf(1 - alpha / 2, found.freedom)) * found.error <= target

    more = 1 + bisect.bisect_left(range(1, MOST_FURTHER_BLOCKS + 1), True, key=narrow)
    return more if more <= MOST_FURTHER_BLOCKS else None


def _advice(further: int | None) -> str:
    if further is None:
        return f"more than {MOST_FURTHER_BLOCKS} further blocks a run would be needed; quieten the machine first"
    blocks = f"{further} further block{'' if further == 1 else 's'}"
    return f"about {blocks} in each run would decide at the spread seen so far"


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or not np.isfinite(data).all():
        raise ValueError(f"expected finite numbers, got {list(values)}")
    return data
