"""From paired window times to a verdict: one log-ratio per block, a t interval over blocks, a word with its reason.

The block (one fresh process of each arm) is the unit of replication, because steps inside one process are not
independent: Kalibera & Jones 2013, "Rigorous benchmarking in reasonable time".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.record.events import Word
from harness.stats.interval import ALPHA, MARGIN, MOST_FURTHER_BLOCKS, Interval, blocks_for, factor_interval, finite
from messages import marked, recorded

Reason = Literal["machine", "environment", "noise", "at-the-margin", "too-few-blocks"]
Place = Literal["above", "below", "inside", "across"]

SIGN_FLIP_MIN_BLOCKS = 6
SIGN_FLIP_MAX_BLOCKS = 40
WORDS: dict[Place, Word] = {
    "above": "B-faster", "below": "A-faster", "inside": "equivalent", "across": "inconclusive"}
# What journals of before hold; where somebody reads them, it is found here.
FORMER = (marked("more than {n} further blocks would be needed; quieten the machine first"),)


@dataclass(frozen=True)
class BlockRatio:
    """What one block says about time A / time B.

    Attributes:
        median_log_ratio: median of the log-ratios of the pairs: the typical step; it carries the verdict.
        mean_log_ratio: log of the ratio of mean times: what a job pays, spikes included.
        pairs: number of pairs.
    """

    median_log_ratio: float
    mean_log_ratio: float
    pairs: int

    def disagrees(self, margin: float = MARGIN) -> bool:
        """Whether median and mean differ by more than the margin, so that the tails must be shown."""
        return abs(self.median_log_ratio - self.mean_log_ratio) > math.log1p(margin)


@dataclass(frozen=True)
class Judgement:
    """A verdict over blocks. `ratio` is time A / time B, so above 1 means that B is faster.

    Attributes:
        word: the verdict.
        ratio: exp of the mean block log-ratio (a geometric mean); None without blocks.
        ci_low: lower confidence limit of `ratio`; None with fewer than two blocks.
        ci_high: upper confidence limit of `ratio`.
        blocks: blocks that `ratio` and its limits rest on.
        reason: why the word is not decisive; None when it is.
        next_action: what the reader should do; None when nothing is needed.
        further_blocks: blocks still missing for a decisive interval at the spread seen; None when none or unknowable.
        sign_flip_p: exact two-sided sign-flip p-value of "no difference"; None outside 6 to 40 blocks.
    """

    word: Word
    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    blocks: int
    reason: Reason | None = None
    next_action: str | None = None
    further_blocks: int | None = None
    sign_flip_p: float | None = None


class Outcome(NamedTuple):
    """An interval held against the margin.

    Attributes:
        place: above or below the margin, inside it, or across one of its edges.
        reason: why it decides nothing; None where it does.
        further_blocks: blocks missing for a decision at the spread seen; None where none are, or too many.
        next_action: the same for people.
    """

    place: Place
    reason: Reason | None = None
    further_blocks: int | None = None
    next_action: str | None = None


def block_ratio(a_ns: ArrayLike, b_ns: ArrayLike) -> BlockRatio:
    """The two log-ratios of one block.

    Args:
        a_ns: time per step of arm A's window in each pair, nanoseconds.
        b_ns: the same of arm B, in the same order of pairs.

    Raises:
        ValueError: the lengths differ, there are no pairs, or a time is not positive and finite.
    """
    a, b = np.asarray(a_ns, np.float64), np.asarray(b_ns, np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"a block needs as many windows of A as of B, one at least: got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and (a > 0).all() and (b > 0).all()):
        raise ValueError("window times must be positive and finite")
    return BlockRatio(float(np.median(np.log(a / b))), math.log(a.mean() / b.mean()), int(a.size))


def judge(block_log_ratios: Sequence[float], margin: float = MARGIN, alpha: float = ALPHA,
          hosts: Sequence[int] | None = None) -> Judgement:
    """The verdict over the blocks' log(time A / time B); blocks of several hosts have the host as a factor.

    The interval lies outside +-log(1 + margin): `A-faster` or `B-faster`; inside: `equivalent`; else `inconclusive`.
    The bounds are logarithmic so that swapping the arms swaps the verdict exactly.

    Raises:
        ValueError: a value is not finite, or margin or alpha is out of range.
    """
    refuse_levels(margin, alpha)
    data = finite(block_log_ratios)
    if data.size < 2:
        return Judgement("inconclusive", math.exp(data[0]) if data.size else None, None, None, int(data.size),
                         "too-few-blocks", recorded("run at least two blocks: one block has no spread to judge by"))
    found = factor_interval(block_log_ratios, hosts or [0] * data.size, alpha)
    outcome = against_margin(found, margin, lambda half: further_blocks(block_log_ratios, half, alpha))
    return Judgement(WORDS[outcome.place], math.exp(found.mean), math.exp(found.low), math.exp(found.high),
                     int(data.size), outcome.reason, outcome.next_action, outcome.further_blocks,
                     sign_flip_p(block_log_ratios))


def judge_clean_and_dirty(log_ratios: Sequence[float], dirty: Sequence[bool], margin: float = MARGIN,
                          alpha: float = ALPHA, hosts: Sequence[int] | None = None) -> Judgement:
    """The verdict over all blocks, withdrawn when it depends on the blocks during which the machine was disturbed.

    Dirty blocks are kept, never dropped: the numbers are always those of all blocks.

    Args:
        log_ratios: of the blocks.
        dirty: a flag for each.
        margin: ratios that differ from 1 by less count as equal.
        alpha: 1 - level of the interval.
        hosts: where each block was measured; None for one place.

    Raises:
        ValueError: one flag per log-ratio is needed; or as `judge`.
    """
    if len(log_ratios) != len(dirty):
        raise ValueError(f"{len(log_ratios)} log-ratios but {len(dirty)} flags")
    hosts = hosts or [0] * len(log_ratios)
    everything = judge(log_ratios, margin, alpha, hosts)
    if not any(dirty):
        return everything
    kept = [(value, host) for value, host, bad in zip(log_ratios, hosts, dirty, strict=True) if not bad]
    clean = judge([value for value, _ in kept], margin, alpha, [host for _, host in kept])
    if clean.word == everything.word:
        return everything
    return replace(everything, word="inconclusive", reason="machine", further_blocks=None,
                   next_action=without_disturbance(dirty, everything.word, clean.word))


def without_disturbance(dirty: Sequence[bool], word: str, clean: str) -> str:
    """What to do where the verdict hangs on the blocks during which the machine was disturbed."""
    return recorded(
        "{disturbed} of {blocks} blocks were disturbed (see the findings); with them the verdict is {word}, without "
        "them {clean}: repeat on an idle machine with steady clocks", disturbed=sum(map(bool, dirty)),
        blocks=len(dirty), word=repr(word), clean=repr(clean))


def refuse_levels(margin: float, alpha: float) -> None:
    """Refuse what no verdict can be given at.

    Raises:
        ValueError: margin or alpha is out of range.
    """
    if not 0 < margin < 1 or not 0 < alpha < 1:
        raise ValueError(f"margin and alpha must lie in (0, 1), got {margin} and {alpha}")


def against_margin(found: Interval, margin: float, further: Callable[[float], int | None], each_run: bool = False
                   ) -> Outcome:
    """Where an interval of log-ratios lies; across an edge of the margin, why that is so and what would decide it.

    Args:
        found: the interval.
        margin: ratios that differ from 1 by less count as equal.
        further: blocks to add until the interval is no wider than +- its argument; None where they are too many.
        each_run: whether those blocks are to be added to each of two runs.
    """
    bound = math.log1p(margin)
    if found.low > bound:
        return Outcome("above")
    if found.high < -bound:
        return Outcome("below")
    if -bound <= found.low and found.high <= bound:
        return Outcome("inside")
    half = (found.high - found.low) / 2
    wide = half > bound
    # An interval that is narrow already must become smaller than the distance of the mean from the margin.
    more = further(bound if wide else abs(abs(found.mean) - bound))
    edge = f"{margin:.1%}"
    if wide:
        needed = _needed(more, each_run) or recorded(
            "with as many blocks the spread would have to be {times} times smaller: quieten the machine first",
            times=f"{half / bound:.{0 if half >= 10 * bound else 1}f}")
        return Outcome("across", "noise", more, recorded(
            "the interval is wider than the {margin} margin: {needed}", margin=edge, needed=needed))
    needed = _needed(more, each_run) or recorded(
        "too close to it for blocks to tell on which side: quote the interval as it is")
    return Outcome("across", "at-the-margin", more, recorded(
        "the difference lies at the edge of the {margin} margin: {needed}", margin=edge, needed=needed))


def _needed(more: int | None, each_run: bool) -> str | None:
    """How many blocks would decide; None where they are too many for that to be advice."""
    if more is None:
        return None
    if more == 1:
        return (recorded("about 1 further block in each run would decide at the spread seen so far") if each_run else
                recorded("about 1 further block would decide at the spread seen so far"))
    return (recorded("about {n} further blocks in each run would decide at the spread seen so far", n=more)
            if each_run else recorded("about {n} further blocks would decide at the spread seen so far", n=more))


def further_blocks(values: Sequence[float], target: float, alpha: float = ALPHA) -> int | None:
    """Blocks to add to at least two until the interval is +- `target` wide at the spread seen; None above 1000.

    Raises:
        ValueError: a value is not finite.
    """
    data = finite(values)
    among = range(data.size, data.size + MOST_FURTHER_BLOCKS + 1)
    found = blocks_for(float(data.std(ddof=1)), target, among, alpha)
    return None if found is None else found - data.size


def sign_flip_p(block_log_ratios: Sequence[float]) -> float | None:
    """Exact two-sided p-value: the share of all 2^n sign patterns whose |sum| is at least the one seen (Fisher 1935).

    Returns:
        None with fewer than 6 blocks (p cannot fall below 0.05 there: 2 / 2^5 = 0.0625), or with more than 40 (cost).
    """
    data = finite(block_log_ratios)
    if not SIGN_FLIP_MIN_BLOCKS <= data.size <= SIGN_FLIP_MAX_BLOCKS:
        return None
    # Sums are compared with a tolerance because equal sums of differently ordered floats differ in the last bits.
    seen = abs(float(data.sum())) - 1e-12 * float(np.abs(data).sum())
    left, right = _signed_sums(data[: data.size // 2]), np.sort(_signed_sums(data[data.size // 2 :]))
    at_least = right.size - np.searchsorted(right, seen - left, side="left")
    at_most = np.searchsorted(right, -seen - left, side="right")
    both = at_least + at_most if seen > 0 else np.full(left.size, right.size)
    return float(both.sum()) / float(2**data.size)


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """All 2^n sums of the values with every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
