"""Do two recipes train alike? Their loss curves, several seeds of each, told apart by what the seeds scatter.

A run is one observation, because the steps of a run are not independent: its curve becomes the means of the logarithm
of its loss over few windows, each twice as long as the one before, so that early and late differences count alike.
Under one recipe every run has the same distribution, hence one variance for both recipes. Runs that share their batches
are judged pair by pair, which takes out what a pair has in common.

Two tests share alpha. One looks at each window by Student's t under Bonferroni, and finds a difference of some stage.
The other takes all windows together: their sum, each over the root of its sum of squares, to which Student's t applies
exactly however few runs there are (Laeuter, Glimm & Kropf 1996), and finds a small difference that lasts. Where a
recipe differs is told by the same tests over the first windows alone, fewer and fewer while they reject: as a sequence
fixed beforehand it needs no further share of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Word = Literal["same", "differs", "cannot be told"]

MOST_WINDOWS = 8
# Relative differences: within the first everywhere is the same; up to the second is rounding, whatever its sign.
MARGIN, FLOOR = 0.05, 0.002
MOST_SEEDS = 1000
# Batches in common show in the steps' own noise: independent runs have none.
SHARED = 0.5
FEWEST_POINTS = 8
MOST_SHIFTS = 5
# Below the 5 % that are promised, because means of logarithms are only nearly normal.
LEVEL = 0.04
# Of alpha, for windows by themselves; the rest is for all of them together.
ALONE = 0.5
# That all runs of one recipe diverge and none of the other is rarer than alpha by chance from so many on: 2 / C(2n, n).
DIVERGED = 4


@dataclass(frozen=True)
class Curve:
    """One run's loss over its steps.

    Attributes:
        steps: ascending, each once.
        losses: as many; not finite where the run had diverged.
    """

    steps: Ints
    losses: Floats


@dataclass(frozen=True)
class Window:
    """The difference of two recipes over some steps.

    Attributes:
        first: its first step.
        last: its last step.
        difference: mean of log loss B - log loss A; NaN where one of them is not finite throughout.
        half_width: of its interval, which holds in all windows at once; infinite where nothing scatters to judge by.
        spread: between runs, or between the differences of pairs.
        differs: whether it is told apart by itself.
    """

    first: int
    last: int
    difference: float
    half_width: float
    spread: float
    differs: bool


@dataclass(frozen=True)
class Alignment:
    """What can be said of two recipes.

    Attributes:
        word: the verdict.
        from_step: first step of the window by whose end they are told apart; None where they are not.
        seeds: runs of each recipe that would be enough; None where those there are do, or no number up to 1000 would.
        windows: every window, early ones first.
        paired: whether it is judged pair by pair.
        shared: correlation of the steps' noise within pairs; None where there are no pairs, or too few points.
        logarithm: whether losses are compared by their ratio; else by their difference over their typical size.
        margin: relative difference that counts as the same.
    """

    word: Word
    from_step: int | None
    seeds: int | None
    windows: tuple[Window, ...]
    paired: bool
    shared: float | None
    logarithm: bool
    margin: float


def align(steps: Ints, a: Floats, b: Floats, margin: float = MARGIN, alpha: float = LEVEL) -> Alignment:
    """The verdict on two recipes.

    Args:
        steps: (P,) steps at which all runs have a loss.
        a: (n, P) losses of the first recipe, a run each.
        b: (m, P) losses of the second; where m is n, run i may share its batches with run i of the first.
        margin: relative difference that counts as the same.
        alpha: chance of a false difference.

    Raises:
        ValueError: fewer points than can be judged, or shapes that do not fit.
    """
    if a.ndim != 2 or b.ndim != 2 or not a.shape[1] == b.shape[1] == steps.size or steps.size < FEWEST_POINTS:
        raise ValueError(f"expected (n, P) and (m, P) losses of P >= {FEWEST_POINTS} steps, got {a.shape}, {b.shape}")
    logarithm, (x, y) = comparable(a, b)
    shared = noise_in_common(x, y)
    paired = shared is not None and shared > SHARED
    places = windows(steps.size)
    level = 1 - ALONE * alpha / (2 * len(places))
    left, right = (np.array([one[:, low:high].mean(axis=1) for low, high in places]).T for one in (x, y))
    found = [_window(int(steps[low]), int(steps[high - 1]), left[:, number], right[:, number], paired, level)
             for number, (low, high) in enumerate(places)]
    from_step = _from_step(found, left, right, paired, (1 - ALONE) * alpha)
    if from_step is not None:
        word: Word = "differs"
    else:
        inside = all(abs(one.difference) + one.half_width <= margin for one in found)
        word = "same" if inside else "cannot be told"  # English
    unsure = word not in ("same", "differs")
    needed = [_needed(one, paired, level, margin) for one in found] if unsure else [None]
    seeds = None if None in needed else max(n for n in needed if n is not None)
    return Alignment(word, from_step, seeds, tuple(found), paired, shared, logarithm, margin)


def comparable(a: Floats, b: Floats) -> tuple[bool, tuple[Floats, Floats]]:
    """Losses so that their differences are relative: logarithms, or, where some are not positive, over their size."""
    both = np.concatenate([a.ravel(), b.ravel()])
    known = both[np.isfinite(both)]
    if known.size and known.min() > 0:
        with np.errstate(invalid="ignore", divide="ignore"):
            return True, tuple(np.where(np.isfinite(one), np.log(one), np.nan) for one in (a, b))  # type: ignore[return-value]
    size = float(np.median(np.abs(known))) if known.size else 1.0
    return False, tuple(np.where(np.isfinite(one), one, np.nan) / (size or 1.0) for one in (a, b))  # type: ignore[return-value]


def windows(points: int) -> list[tuple[int, int]]:
    """Places of the windows, early ones first: the later half, the later half of the rest, and so on."""
    found: list[tuple[int, int]] = []
    end = points
    while end > 0 and len(found) < MOST_WINDOWS:
        start = 0 if len(found) == MOST_WINDOWS - 1 else end // 2
        found.append((start, end))
        end = start
    return found[::-1]


def noise_in_common(x: Floats, y: Floats) -> float | None:
    """Correlation of what the steps' losses jump, between runs of one pair; None where nothing pairs them."""
    if x.shape != y.shape:
        return None
    jumps = [np.diff(one, axis=1) for one in (x, y)]
    known = np.isfinite(jumps[0]) & np.isfinite(jumps[1])
    if known.sum() < FEWEST_POINTS:
        return None
    # What all runs jump together, such as a rate that falls, pairs nothing.
    left, right = (np.where(known, one - _mean(one), np.nan) if len(one) > 1 else one for one in jumps)
    return _correlation(left[known], right[known])


def offset(a: Sequence[Curve], b: Sequence[Curve]) -> int:
    """What to add to the steps of `b` so that they are those of `a`; 0 where nothing speaks for another number.

    Runs that share batches tell it by their noise; else counts that begin at 0 and at 1 are told by their beginning.
    """
    first, second = a[0], b[0]
    spacing = int(min(np.median(np.diff(one.steps)) if one.steps.size > 1 else 1 for one in (first, second))) or 1
    begins = int(first.steps[0] - second.steps[0])
    candidates = dict.fromkeys([0, begins, *(sign * n * spacing for n in range(1, MOST_SHIFTS + 1) for sign in (1, -1)),
                                1, -1])
    if abs(begins) > MOST_SHIFTS * spacing:
        # One of them starts later: its numbers may well be right.
        del candidates[begins]
    fits = {shift: fit for shift in candidates if (fit := _fit(first, second, shift)) is not None}
    best = max(fits, key=fits.__getitem__, default=0)
    if fits.get(best, 0.0) > SHARED:
        return best
    return begins if 0 < abs(begins) <= spacing else 0


def together(a: Sequence[Curve], b: Sequence[Curve], shift: int) -> tuple[Ints, Floats, Floats]:
    """The steps that all runs have, and the losses there: (P,), (n, P), (m, P).

    Args:
        a: runs of one recipe.
        b: runs of another.
        shift: what is added to the steps of `b`.
    """
    steps = a[0].steps
    for one in a[1:]:
        steps = np.intersect1d(steps, one.steps)
    for one in b:
        steps = np.intersect1d(steps, one.steps + shift)
    return (steps, np.array([one.losses[np.isin(one.steps, steps)] for one in a]).reshape(len(a), -1),
            np.array([one.losses[np.isin(one.steps + shift, steps)] for one in b]).reshape(len(b), -1))


def _fit(a: Curve, b: Curve, shift: int) -> float | None:
    """How the noise of two runs goes together at a shift."""
    steps, x, y = together([a], [b], shift)
    return None if steps.size < 2 * FEWEST_POINTS else noise_in_common(*comparable(x, y)[1])


def _window(first: int, last: int, left: Floats, right: Floats, paired: bool, level: float) -> Window:
    """One window, from the means of every run."""
    gone = [~np.isfinite(one) for one in (left, right)]
    if any(one.any() for one in gone):
        apart = gone[0].all() != gone[1].all() and not (gone[0].any() and gone[1].any())
        told = apart and min(left.size, right.size) >= DIVERGED
        return Window(first, last, math.nan, 0.0 if told else math.inf, math.nan, told)
    difference, spread, freedom, scale = _compared(left, right, paired)
    half = _quantile(level, freedom) * spread * scale if freedom else math.inf
    return Window(first, last, difference, half, spread, abs(difference) - FLOOR > half)


def _compared(left: Floats, right: Floats, paired: bool) -> tuple[float, float, int, float]:
    """Difference of means, spread, its degrees of freedom, and the spread's share in the difference's error."""
    difference = float(right.mean() - left.mean())
    if paired:
        freedom, scale = left.size - 1, math.sqrt(1 / left.size)
        spread = float(np.std(right - left, ddof=1)) if freedom else math.inf
    else:
        freedom, scale = left.size + right.size - 2, math.sqrt(1 / left.size + 1 / right.size)
        squares = float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())
        spread = math.sqrt(squares / freedom) if freedom else math.inf
    return difference, spread, freedom, scale


def _from_step(found: Sequence[Window], left: Floats, right: Floats, paired: bool, alpha: float) -> int | None:
    """First step of the last window that the shortest sequence of first windows needs to tell the recipes apart."""
    from_step = None
    for count in range(len(found), 0, -1):
        some = found[:count]
        lasting = any(abs(one.difference) > FLOOR for one in some) and (
            _together_apart(left[:, :count], right[:, :count], paired, alpha))
        if not (lasting or any(one.differs for one in some)):
            break
        from_step = some[-1].first
    return from_step


def _together_apart(left: Floats, right: Floats, paired: bool, alpha: float) -> bool:
    """Whether windows together tell the recipes apart: left (n, K), right (m, K)."""
    known = np.isfinite(left).all(axis=0) & np.isfinite(right).all(axis=0)
    left, right = left[:, known], right[:, known]
    # Sums of squares that do not know which run is of which recipe: only so are the weights fair.
    total = ((right - left) ** 2).sum(axis=0) if paired else np.var(np.concatenate([left, right]), axis=0)
    weights = np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1)), 0)
    difference, spread, freedom, scale = _compared(left @ weights, right @ weights, paired)
    return freedom > 0 and abs(difference) > _quantile(1 - alpha / 2, freedom) * spread * scale


def _needed(window: Window, paired: bool, level: float, margin: float) -> int | None:
    """Runs of each recipe with which this window is decided if all stays as it is; None where no number would do."""
    if not math.isfinite(window.spread):
        # Nothing scatters yet: with fewer no spread can be seen.
        return 3 if math.isfinite(window.difference) else None
    room = max(margin - abs(window.difference), abs(window.difference) - FLOOR)
    for n in range(2, MOST_SEEDS + 1):
        freedom = n - 1 if paired else 2 * n - 2
        if _quantile(level, freedom) * window.spread * math.sqrt((1 if paired else 2) / n) <= room:
            return n
    return None


def _quantile(level: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, level))


def _mean(values: Floats) -> Floats:
    """Mean over runs; NaN where none has a value, of which numpy would warn."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    return np.where(counts, np.where(known, values, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def _correlation(x: Floats, y: Floats) -> float | None:
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 0 else None
