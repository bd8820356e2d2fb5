"""The ratio as recorded and as figures: block by block, with the verdict's interval and the declared margin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.record.events import Verdict
from reports.chapters.verdicts import comes_in_cells, oriented
from reports.page.blocks import Block, Section, Table, head
from reports.page.data import Data
from reports.page.figures import FigureMaker, numbered
from reports.page.plotting import BAND, GRID, INK, MUTED, PAPER, Drawn, sheet
from reports.text import Floats, Value, missing, number, tag, with_interval
from reports.view.run import RunView, is_self_check, paired_ratios
from reports.view.words import level_words, margin_words, metric_words

HALF = "middle half of its pairs"


def blocks_of(view: RunView, verdict: Verdict, slow: str, fast: str) -> dict[int, tuple[float, float, float]]:
    """Block -> (low quartile, median, high quartile) of the paired ratios slow / fast.

    Where the journal holds no pairs, the recorded block ratios stand alone.
    """
    one, other = view.arm(slow), view.arm(fast)
    pairs: dict[int, Floats] = {}
    if one and other and slow != fast and verdict.kind and not comes_in_cells(view, verdict.kind):
        pairs = paired_ratios(one, other, verdict.kind)
    if pairs:
        return {block: quartiles(ratios) for block, ratios in pairs.items()}
    sign = 1 if slow == verdict.arm_a else -1
    found = [math.exp(sign * value) for value in verdict.block_log_ratios]
    return {block: (ratio, ratio, ratio) for block, ratio in enumerate(found)}


def quartiles(values: Floats) -> tuple[float, float, float]:
    """The 25th, 50th and 75th percentile."""
    low, middle, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return low, middle, high


def ratio_forest(view: RunView, verdict: Verdict, beside: Sequence[float], narrow: bool) -> Drawn | str:
    """The ratio of one comparison, block by block, with the verdict's interval and the declared margin.

    Args:
        view: the run.
        verdict: what is drawn.
        beside: what the axis must show besides, since all comparisons of the same arms share one.
        narrow: for a phone.
    """
    slow, fast, ratio, low, high = oriented(verdict)
    rows = blocks_of(view, verdict, slow, fast)
    if not rows or ratio is None:
        return "no block of this comparison was measured"
    figure, (axis,) = sheet(narrow, 1.25 + 0.24 * (len(rows) + 1))
    data = Data(("of", "ratio", "from", "to", "what the ends are"))
    for y, (block, (left, middle, right)) in enumerate(rows.items()):
        name = f"block {block}{' (disturbed)' if block in view.dirty else ''}"
        # A block whose pairs are not recorded has no middle half.
        half = (number(left, 5), number(right, 5), HALF) if left < right else ("", "", "")
        data.bar(axis, (left, y), (right, y), name, number(middle, 5), *half)
        axis.plot([left, right], [y, y], color=MUTED, linewidth=1.2, solid_capstyle="butt")
        face = PAPER if block in view.dirty else MUTED
        axis.plot(middle, y, "o", markersize=5.5, color=MUTED, markerfacecolor=face, zorder=3)
    bottom = len(rows) + 0.25
    left, right = low or ratio, high or ratio
    axis.plot([left, right], [bottom, bottom], color=INK, linewidth=2.2, solid_capstyle="butt")
    axis.plot(ratio, bottom, "D", color=INK, markersize=6.5)
    level = level_words(verdict.alpha, None) if low is not None and high is not None else ""
    data.bar(axis, (left, bottom), (right, bottom), "all blocks", number(ratio, 5), *told_ends(low, high), level)
    axis.axhline(len(rows) - 0.4, color=GRID, linewidth=0.8)
    ticks = [f"block {block}{' (disturbed)' if block in view.dirty else ''}" for block in rows]
    axis.set_yticks([*range(len(rows)), bottom], [*ticks, "all blocks"])
    axis.set_title(tag(metric_words(verdict.metric, None, verdict.precision), 22 if narrow else 44), loc="right")
    axis.grid(axis="y", visible=False)
    axis.set_ylim(len(rows) + 0.8, -0.6)
    within, note = frame(axis, view, (slow, fast), [*beside, *ends_of(view, verdict)], narrow)
    low_edge, high_edge = min(r[1] for r in rows.values()), max(r[1] for r in rows.values())
    alt = (
        f"Time of {view.label(slow)} divided by time of {view.label(fast)} is {with_interval(ratio, low, high)} over "
        f"all blocks; block medians lie between {number(low_edge)} and {number(high_edge)}."
    )
    hollow = " Hollow: disturbed block." if view.dirty else ""
    return Drawn(
        figure,
        alt,
        "Points: median of the paired ratios of a block; bars: the middle half of its pairs. Diamond: "
        f"the verdict's ratio with its interval over blocks.{within}{hollow}{note}",
        data,
    )


def told_ends(low: float | None, high: float | None) -> tuple[str, str]:
    """An interval for the data of a figure; nothing where it is not known."""
    return ("", "") if low is None or high is None else (number(low, 5), number(high, 5))


def ends_of(view: RunView, verdict: Verdict) -> list[float]:
    """What the axis of a comparison must show."""
    slow, fast, ratio, low, high = oriented(verdict)
    quarters = [value for row in blocks_of(view, verdict, slow, fast).values() for value in row]
    return [*quarters, low or ratio, high or ratio] if ratio is not None and quarters else []


def frame(axis: Axes, view: RunView, slots: tuple[str, str], ends: Sequence[float], narrow: bool) -> tuple[str, str]:
    """The axis of a ratio of two arms' times; returns what to add to the caption: on its band, on its limits."""
    margin = view.declared("margin")
    margin = margin if isinstance(margin, float) else None
    short = [tag(view.label(slot), 24 if narrow else 48) for slot in slots]
    joint = "\n/ " if narrow and len("".join(short)) > 24 else " / "
    axis.set_xlabel(f"time of {short[0]}{joint}time of {short[1]}")
    within = f" The grey band is the declared margin of {margin_words(margin)} around 1." if margin else ""
    return within, frame_ratio(axis, min(ends), max(ends), margin)


def frame_ratio(axis: Axes, low: float, high: float, margin: float | None) -> str:
    """X limits around the data, with the margin band where it is near; returns what to add to the caption."""
    edge = margin or 0.0
    span = max(high - low, 0.004)
    if low - 3 * span < 1 + edge and high + 3 * span > 1 - edge:
        low, high = min(low, 1 - edge), max(high, 1 + edge)
        span = high - low
        note = ""
    else:
        note = " 1 (equal) lies outside the axis."
        words = "equal (1.0) lies this way"
        left = low > 1
        axis.annotate(
            f"\N{LEFTWARDS ARROW} {words}" if left else f"{words} \N{RIGHTWARDS ARROW}",
            (0.005 if left else 0.995, 1.01),
            xycoords="axes fraction",
            ha="left" if left else "right",
            va="bottom",
            color=MUTED,
            fontsize=8,
        )
    if margin:
        axis.axvspan(1 / (1 + margin), 1 + margin, color=BAND, zorder=0, linewidth=0)
    axis.axvline(1, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
    axis.set_xlim(low - 0.08 * span, high + 0.08 * span)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    return note


def section(seen: RunView, figures: FigureMaker, by_cell: Iterable[Block] = ()) -> Section | None:
    """Every recorded verdict, drawn block by block; `by_cell` are the figures of those that come in cells."""
    found = seen.run.of(Verdict)
    if not found:
        return None
    cells = bool(seen.unit.cell)
    recorded = Table(
        "Verdicts as recorded, time A / time B",
        head("metric", *(("cell",) if cells else ()), "A", "B", "ratio", "ratio of means", "blocks", "word"),
        tuple(recorded_row(seen, one) for one in found),
    )
    drawn = [verdict for verdict in found if worth_drawing(seen, verdict, found)]
    ends: dict[tuple[str, str], list[float]] = {}
    for verdict in drawn:
        ends.setdefault(oriented(verdict)[:2], []).extend(ends_of(seen, verdict))
    by_block = (
        figures.make(numbered("ratio", number), partial(ratio_forest, seen, verdict, ends[oriented(verdict)[:2]]))
        for number, verdict in enumerate(found)
        if verdict in drawn
    )
    title = "The ratio, cell by cell" if cells else "The ratio, block by block"
    return Section("ratio", title, (*by_cell, *by_block, recorded))


def worth_drawing(seen: RunView, verdict: Verdict, found: Sequence[Verdict]) -> bool:
    """All comparisons but those of cells, and of the self-checks the one that the main metric needs."""
    if comes_in_cells(seen, verdict.kind) and any(one.cell is not None for one in found):
        # A figure over cells shows their blocks too.
        return False
    return not is_self_check(verdict) or verdict.kind != "free"


def recorded_row(seen: RunView, verdict: Verdict) -> tuple[Value, ...]:
    """A verdict exactly as the journal holds it."""
    ratio = with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high)
    reason = verdict.reason or "none recorded"
    mean = Value(f"{verdict.mean_ratio:.3f}") if verdict.mean_ratio is not None else missing("none recorded")
    return (
        Value(metric_words(verdict.metric, None, verdict.precision)),
        *((Value(verdict.cell or "all"),) if seen.unit.cell else ()),
        Value(seen.label(verdict.arm_a), slot=verdict.arm_a),
        Value(seen.label(verdict.arm_b), slot=verdict.arm_b),
        Value(ratio) if verdict.ratio is not None else missing(reason),
        mean,
        Value(str(verdict.blocks)),
        Value(verdict.word, verdict.reason),
    )
