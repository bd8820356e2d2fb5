"""How much of the gap between two arms one cause holds: a ratio of two means over blocks, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.stats.interval import ALPHA, MARGIN, Interval, finite, t_interval
from messages import recorded

# Shares that differ from 0 by less do not explain a gap.
SHARE_MARGIN = 0.05
# Half the width of the gap's interval, of the gap: where it is wider, there is nothing steady to divide up.
MOST_GAP_SPREAD = 0.2

ShareWord = Literal["explains", "does-not-explain", "works-against", "inconclusive"]


class Gap(NamedTuple):
    """Time A less time B of a step, over blocks.

    Attributes:
        interval: in nanoseconds.
        clear: whether one arm is slower, by however much.
        fault: why there is nothing to divide up; None where there is.
    """

    interval: Interval
    clear: bool
    fault: str | None

    @property
    def word(self) -> Literal["no-gap", "inconclusive"]:
        """What is said of a gap with a fault: one that is there, however wide its interval, is not none."""
        return "inconclusive" if self.clear else "no-gap"


def gap_of(a_ns: Sequence[float], b_ns: Sequence[float], alpha: float = ALPHA) -> Gap:
    """The gap between two arms, as on a machine that is as fast in every block as in the mean of all.

    A machine that slows both down in one block stretches the gap, and its parts with it: that widens no share.

    Args:
        a_ns: time of a step of arm A in each block.
        b_ns: the same of arm B.
        alpha: 1 - level of the interval.

    Raises:
        ValueError: fewer than two blocks, not as many of A as of B, or a time that is not finite.
    """
    a, b = finite(a_ns), finite(b_ns)
    if a.shape != b.shape:
        raise ValueError(f"a gap needs as many blocks of A as of B, got {a.size} and {b.size}")
    both = a + b
    found = t_interval(list((a - b) * both.mean() / both), alpha)
    # What a verdict calls equal, or leaves open, has no causes.
    if max(found.low, -found.high) <= MARGIN * min(a.mean(), b.mean()):
        return Gap(found, False, recorded(
            "the interval of the gap is not clear of {margin} of a step", margin=f"{MARGIN:.0%}"))
    if (found.high - found.low) / 2 > MOST_GAP_SPREAD * abs(found.mean):
        return Gap(found, True, recorded(
            "the interval of the gap is wider than +-{spread} of it", spread=f"{MOST_GAP_SPREAD:.0%}"))
    return Gap(found, True, None)


def share_of(differences: Sequence[float], gaps: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Mean difference over mean gap: Student's interval of the jackknife's pseudo-values (Tukey 1958).

    A ratio of means, because a block in which the gap is small by chance would rule a mean of ratios.

    Args:
        differences: what the cause holds of the gap, in each block.
        gaps: the whole gap, in the same order.
        alpha: 1 - level of the interval.

    Raises:
        ValueError: fewer than two blocks, unlike lengths, a value that is not finite, or gaps that add up to nothing.
    """
    parts, wholes = finite(differences), finite(gaps)
    n = parts.size
    if parts.shape != wholes.shape or n < 2:
        raise ValueError(f"a share needs two blocks, and a gap for each: got {n} and {wholes.size}")
    rest = wholes.sum() - wholes
    if not wholes.sum() or not rest.all():
        raise ValueError("gaps that add up to nothing have no shares")
    whole = parts.sum() / wholes.sum()
    pseudo = n * whole - (n - 1) * (parts.sum() - parts) / rest
    found = t_interval(list(pseudo), alpha)
    # The plain ratio: correcting its bias would cost additivity over the causes.
    return Interval(float(whole), float(whole + found.low - found.mean), float(whole + found.high - found.mean))


def ratio_apart(parts: Sequence[float], wholes: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Mean of `parts` over mean of `wholes` that were measured apart: the delta method, with the fewer one's t.

    Args:
        parts: what is asked for, in each of its rounds.
        wholes: what it is a part of, in each of its blocks.
        alpha: 1 - level of the interval.

    Raises:
        ValueError: fewer than two values on a side, one that is not finite, or wholes that add up to nothing.
    """
    from scipy.stats import t

    above, below = finite(parts), finite(wholes)
    fewest = min(above.size, below.size)
    if fewest < 2 or not below.sum():
        raise ValueError(f"a ratio needs two values on each side, and a whole: got {above.size} and {below.size}")
    ratio = above.mean() / below.mean()
    variance = above.var(ddof=1) / above.size + ratio**2 * below.var(ddof=1) / below.size
    half = float(t.ppf(1 - alpha / 2, fewest - 1) * np.sqrt(variance) / abs(below.mean()))
    return Interval(float(ratio), float(ratio) - half, float(ratio) + half)


def word_of(share: Interval, margin: float = SHARE_MARGIN) -> ShareWord:
    """What an interval of a share says."""
    if share.low > margin:
        return "explains"
    if share.high < -margin:
        return "works-against"
    if -margin <= share.low and share.high <= margin:
        return "does-not-explain"
    return "inconclusive"


def midmean(values: Sequence[float]) -> float:
    """The mean of the middle half: nearly additive as a mean is, and as deaf to spikes as a median."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(values, np.float64), 0.25))
