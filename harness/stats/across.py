"""The same arm in two runs: has it become slower? Blocks of different runs are not paired, so Welch's t interval.

The block stays the unit of replication. What differs between the runs for all their blocks alike (a warmer machine,
another neighbour) is part of the ratio and not of the interval: only a control, an arm of both runs, can take it out.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats.compare import Place, Reason, against_margin, refuse_levels, without_disturbance
from harness.stats.interval import ALPHA, MARGIN, MOST_FURTHER_BLOCKS, finite, welch_interval, welch_p
from messages import recorded

ChangeWord = Literal["slower", "faster", "equivalent", "inconclusive"]

WORDS: dict[Place, ChangeWord] = {
    "above": "slower", "below": "faster", "inside": "equivalent", "across": "inconclusive"}


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


def p_beyond(before: BlockLogs, after: BlockLogs, margin: float = MARGIN) -> float:
    """The smallest alpha at which the interval lies outside the margin: what Holm's step-down orders by; 1 if none."""
    if min(len(before.values), len(after.values)) < 2:
        return 1.0
    difference, bound = float(np.mean(after.values) - np.mean(before.values)), math.log1p(margin)
    return welch_p(before.values, after.values, math.copysign(bound, difference)) if abs(difference) > bound else 1.0


def judge_change(before: BlockLogs, after: BlockLogs, margin: float = MARGIN, alpha: float = ALPHA) -> Change:
    """The verdict over all blocks, withdrawn when it depends on the blocks during which the machine was disturbed.

    The interval lies above log(1 + margin): `slower`; below -log(1 + margin): `faster`; between: `equivalent`; else
    `inconclusive`.

    Raises:
        ValueError: a value is not finite, or margin or alpha is out of range.
    """
    refuse_levels(margin, alpha)
    everything = _judge(before.values, after.values, margin, alpha)
    dirty = (*before.dirty, *after.dirty)
    if not any(dirty):
        return everything
    clean = _judge(before.clean, after.clean, margin, alpha)
    if clean.word == everything.word:
        return everything
    return replace(everything, word="inconclusive", reason="machine",
                   next_action=without_disturbance(dirty, everything.word, clean.word))


def judge_changes(pairs: Sequence[tuple[BlockLogs, BlockLogs]], margin: float = MARGIN,
                  alpha: float = ALPHA) -> list[Change]:
    """Several verdicts at once under Holm's step-down: the clearest of m at alpha / m, the next at alpha / (m - 1), ...

    From the first on that shows no difference beyond the margin, all stay at the level reached. In the order given.
    """
    p = [p_beyond(*pair, margin) for pair in pairs]
    left, found = len(pairs), {}
    for i in sorted(range(len(pairs)), key=p.__getitem__):
        found[i] = judge_change(*pairs[i], margin, alpha / left)
        if p[i] <= alpha / left:
            left = max(1, left - 1)
    return [found[i] for i in range(len(pairs))]


def _judge(before: Sequence[float], after: Sequence[float], margin: float, alpha: float) -> Change:
    x, y = finite(before), finite(after)
    if min(x.size, y.size) < 2:
        ratio = math.exp(float(y.mean() - x.mean())) if min(x.size, y.size) else None
        return Change("inconclusive", ratio, None, None, x.size, y.size, alpha, "too-few-blocks",
                      recorded("measure at least two blocks in each run: one block has no spread to judge by"))
    found = welch_interval(before, after, alpha)
    outcome = against_margin(found, margin, lambda half: further_blocks(x, y, half, alpha), each_run=True)
    return Change(WORDS[outcome.place], math.exp(found.mean), math.exp(found.low), math.exp(found.high), x.size, y.size,
                  alpha, outcome.reason, outcome.next_action)


def further_blocks(before: NDArray[np.float64], after: NDArray[np.float64], target: float, alpha: float) -> int | None:
    """Blocks to add to both runs until the interval is +- `target` wide at the spread seen; None above 1000."""
    from scipy.stats import ttest_ind_from_stats

    def narrow(more: int) -> bool:
        # An interval is that narrow where a difference of just its half-width would be significant.
        test = ttest_ind_from_stats(target, after.std(ddof=1), after.size + more, 0.0, before.std(ddof=1),
                                    before.size + more, equal_var=False)
        return bool(test.pvalue <= alpha)

    more = 1 + bisect.bisect_left(range(1, MOST_FURTHER_BLOCKS + 1), True, key=narrow)
    return more if more <= MOST_FURTHER_BLOCKS else None
