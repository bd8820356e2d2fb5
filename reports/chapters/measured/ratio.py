"""The ratio as recorded and as figures: block by block, with the verdict's interval and the declared margin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.record.events import Verdict
from messages import marked, shown, tell, words
from reports.chapters.answer.verdicts import comes_in_cells, oriented
from reports.page.blocks import Block, Section, Table, head
from reports.page.data import Data
from reports.page.figures import FigureMaker, numbered
from reports.page.plotting import BAND, GRID, INK, MUTED, PAPER, Drawn, sheet
from reports.text import Floats, Value, missing, number, sentences, tag, with_interval
from reports.view.run import RunView, is_self_check, paired_ratios
from reports.view.words import level_words, margin_words, metric_words

HALF = marked("middle half of its pairs")


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
        return tell("no block of this comparison was measured")
    figure, (axis,) = sheet(narrow, 1.25 + 0.24 * (len(rows) + 1))
    data = Data(words("of", "ratio", "from", "to", "what the ends are"))
    for y, (block, (left, middle, right)) in enumerate(rows.items()):
        # A block whose pairs are not recorded has no middle half.
        half = (number(left, 5), number(right, 5), tell(HALF)) if left < right else ("", "", "")
        data.bar(axis, (left, y), (right, y), block_name(view, block), number(middle, 5), *half)
        axis.plot([left, right], [y, y], color=MUTED, linewidth=1.2, solid_capstyle="butt")
        face = PAPER if block in view.dirty else MUTED
        axis.plot(middle, y, "o", markersize=5.5, color=MUTED, markerfacecolor=face, zorder=3)
    bottom = len(rows) + 0.25
    left, right = low or ratio, high or ratio
    axis.plot([left, right], [bottom, bottom], color=INK, linewidth=2.2, solid_capstyle="butt")
    axis.plot(ratio, bottom, "D", color=INK, markersize=6.5)
    level = level_words(verdict.alpha, None) if low is not None and high is not None else ""
    data.bar(axis, (left, bottom), (right, bottom), tell("all blocks"), number(ratio, 5), *told_ends(low, high), level)
    axis.axhline(len(rows) - 0.4, color=GRID, linewidth=0.8)
    ticks = [block_name(view, block) for block in rows]
    axis.set_yticks([*range(len(rows)), bottom], [*ticks, tell("all blocks")])
    axis.set_title(tag(metric_words(verdict.metric, None, verdict.precision), 22 if narrow else 44), loc="right")
    axis.grid(axis="y", visible=False)
    axis.set_ylim(len(rows) + 0.8, -0.6)
    within, note = frame(axis, view, (slow, fast), [*beside, *ends_of(view, verdict)], narrow)
    low_edge, high_edge = min(r[1] for r in rows.values()), max(r[1] for r in rows.values())
    alt = tell(
        "Time of {slow} divided by time of {fast} is {ratio} over all blocks; block medians lie between {low} and "
        "{high}.", slow=view.label(slow), fast=view.label(fast), ratio=with_interval(ratio, low, high),
        low=number(low_edge), high=number(high_edge),
    )  # fmt: skip
    hollow = tell("Hollow: disturbed block.") if view.dirty else ""
    return Drawn(
        figure,
        alt,
        sentences(
            tell("Points: median of the paired ratios of a block; bars: the middle half of its pairs. Diamond: the "
                 "verdict's ratio with its interval over blocks."), within, hollow, note,
        ),
        data,
    )  # fmt: skip


def block_name(view: RunView, block: int) -> str:
    """A block, and whether it was disturbed."""
    if block in view.dirty:
        return tell("block {block} (disturbed)", block=block)
    return tell("block {block}", block=block)


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
    if narrow and len("".join(short)) > 24:
        axis.set_xlabel(tell("time of {one}\n/ time of {other}", one=short[0], other=short[1]))
    else:
        axis.set_xlabel(tell("time of {one} / time of {other}", one=short[0], other=short[1]))
    band = tell("The grey band is the declared margin of {margin} around 1.", margin=margin_words(margin or 0))
    within = band if margin else ""
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
        note = tell("1 (equal) lies outside the axis.")
        left = low > 1
        axis.annotate(
            tell("\N{LEFTWARDS ARROW} equal (1.0) lies this way") if left
            else tell("equal (1.0) lies this way \N{RIGHTWARDS ARROW}"),
            (0.005 if left else 0.995, 1.01),
            xycoords="axes fraction",  # English
            ha="left" if left else "right",
            va="bottom",
            color=MUTED,
            fontsize=8,
        )  # fmt: skip
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
        tell("Verdicts as recorded, time A / time B"),
        head(tell("metric"), *(words("cell") if cells else ()), "A", "B",
             *words("ratio", "ratio of means", "blocks", "word")),
        tuple(recorded_row(seen, one) for one in found),
    )  # fmt: skip
    drawn = [verdict for verdict in found if worth_drawing(seen, verdict, found)]
    ends: dict[tuple[str, str], list[float]] = {}
    for verdict in drawn:
        ends.setdefault(oriented(verdict)[:2], []).extend(ends_of(seen, verdict))
    by_block = (
        figures.make(numbered("ratio", number), partial(ratio_forest, seen, verdict, ends[oriented(verdict)[:2]]))
        for number, verdict in enumerate(found)
        if verdict in drawn
    )
    title = tell("The ratio, cell by cell") if cells else tell("The ratio, block by block")
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
    reason = shown(verdict.reason) if verdict.reason else tell("none recorded")
    mean = Value(f"{verdict.mean_ratio:.3f}") if verdict.mean_ratio is not None else missing(tell("none recorded"))
    return (
        Value(metric_words(verdict.metric, None, verdict.precision)),
        *((Value(verdict.cell or tell("all")),) if seen.unit.cell else ()),
        Value(seen.label(verdict.arm_a), slot=verdict.arm_a),
        Value(seen.label(verdict.arm_b), slot=verdict.arm_b),
        Value(ratio) if verdict.ratio is not None else missing(reason),
        mean,
        Value(str(verdict.blocks)),
        Value(verdict.word, shown(verdict.reason) if verdict.reason else verdict.reason),
    )
