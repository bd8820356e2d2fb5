"""Sampling facts sorted for the report: cells, whole batches, time as a line over network calls, the sweep of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.record.events import Window
from harness.stats import interval
from messages import marked, tell
from reports.text import Floats
from reports.view.run import ArmView, RunView
from reports.view.windows import spent_ns
from reports.view.words import is_ddim

NO_BATCH = marked("no batch of this cell was measured")
NO_SWEEP = marked("no other batch size was measured")


@dataclass(frozen=True)
class Interval:
    """A mean with its t interval; `low` and `high` are None where one block alone has no spread."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """Time of a batch over its network calls, as a line: fitted in every block, then averaged over blocks.

    Attributes:
        intercept_ns: time of a batch outside the network.
        slope_ns: time per network call.
        blocks: blocks with a fit.
        calls: the numbers of network calls that carry it.
    """

    intercept_ns: Interval
    slope_ns: Interval
    blocks: int
    calls: tuple[int, ...]


def images_of(view: RunView, window: Window) -> int | None:
    """Images in a window's batch."""
    return window.images or view.batch_size


def of_cell(arm: ArmView, cell: str) -> list[Window]:
    """All whole batches of one cell, in journal order."""
    return [window for window in arm.windows("sample") if window.cell == cell and spent_ns(window) > 0]


def in_whole_blocks(arm: ArmView, cell: str) -> list[Window]:
    """Batches of one cell from the blocks in which the arm measured all its cells; from any where there is none.

    A run that was cut off ends in a block of few cells, which would set these apart from the others.
    """
    measured: dict[int, set[str | None]] = {}
    for window in arm.windows("sample"):
        measured.setdefault(window.block, set()).add(window.cell)
    every = set().union(*measured.values())
    whole = {block for block, found in measured.items() if found == every} or set(measured)
    return [window for window in of_cell(arm, cell) if window.block in whole]


def times_ns(windows: Sequence[Window]) -> Floats:
    """Durations of whole batches."""
    return np.array([spent_ns(window) for window in windows], dtype=np.float64)


def block_medians(windows: Sequence[Window]) -> dict[int, float]:
    """Block -> median time of a batch in it."""
    groups: dict[int, list[int]] = {}
    for window in windows:
        groups.setdefault(window.block, []).append(spent_ns(window))
    return {block: float(np.median(found)) for block, found in sorted(groups.items())}


def images_per_s(view: RunView, windows: Sequence[Window]) -> float | None:
    """All images over all time."""
    images, total_ns = [images_of(view, window) for window in windows], float(times_ns(windows).sum())
    known = [n for n in images if n is not None]
    return sum(known) / total_ns * 1e9 if known and len(known) == len(images) and total_ns > 0 else None


def flop_per_s(view: RunView, windows: Sequence[Window]) -> float | None:
    """Analytic cost of the network calls over the whole time of their batches."""
    total_ns = float(times_ns(windows).sum())
    images = [images_of(view, window) for window in windows]
    if not view.cost or not view.cost.forward_flop_per_image or total_ns <= 0 or any(n is None for n in images):
        return None
    calls = sum(window.steps * (n or 0) for window, n in zip(windows, images, strict=True))
    return view.cost.forward_flop_per_image * calls / total_ns * 1e9


def t_interval(values: Sequence[float], alpha: float) -> Interval:
    """Mean of independent values with its t interval."""
    if len(values) < 2 or not np.isfinite(values).all():
        return Interval(float(np.mean(values)), None, None)
    return Interval(*interval.t_interval(values, alpha))


def alpha_of(view: RunView) -> float:
    """The declared significance."""
    declared = view.declared("alpha")
    return declared if isinstance(declared, float) and 0 < declared < 1 else interval.ALPHA


def line(view: RunView, arm: ArmView) -> Line | str:
    """Intercept and slope of an arm's time over network calls, or why there is none.

    Every block is fitted to the medians of its DDIM cells, each residual weighed by 1 / time: the noise of a batch is a
    share of its time, and unweighted the longest batch alone would decide the intercept.
    """
    points: dict[int, list[tuple[int, float]]] = {}
    for cell in view.cells:
        windows = in_whole_blocks(arm, cell) if is_ddim(cell) else []
        for block, median_ns in block_medians(windows).items():
            calls = next(window.steps for window in windows if window.block == block)
            points.setdefault(block, []).append((calls, median_ns))
    fits, used = [], set()
    for found in points.values():
        x, y = (np.array(axis, dtype=np.float64) for axis in zip(*found, strict=True))
        if len(set(x)) >= 2:
            slope, intercept = np.polyfit(x, y, 1, w=1 / y)
            fits.append((float(intercept), float(slope)))
            used |= {int(calls) for calls in x}
    if not fits:
        return tell("a line needs two DDIM cells with different numbers of network calls")
    alpha = alpha_of(view)
    intercepts, slopes = zip(*fits, strict=True)
    return Line(t_interval(intercepts, alpha), t_interval(slopes, alpha), len(fits), tuple(sorted(used)))


def sweep_sizes(view: RunView) -> list[int]:
    """All batch sizes of the sweep."""
    return sorted({window.images for arm in view.arms for window in arm.windows("sweep") if window.images})


def sweep_cell(view: RunView) -> str | None:
    """The cell that the sweep measures."""
    declared = view.declared("sweep", "cell")
    if isinstance(declared, str):
        return declared
    return next((window.cell for arm in view.arms for window in arm.windows("sweep") if window.cell), None)


def swept(arm: ArmView, images: int) -> list[Window]:
    """An arm's batches of one size of the sweep."""
    return [window for window in arm.windows("sweep") if window.images == images and spent_ns(window) > 0]
