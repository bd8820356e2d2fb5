"""The figure of a comparison of runs: how the time of every arm and cell changed."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from messages import tell, words
from reports.chapters.measured.ratio import frame_ratio, told_ends
from reports.compare.runs import SAID, Comparison, Row, told
from reports.page.data import Data
from reports.page.plotting import INK, MUTED, PAPER, Drawn, sheet
from reports.text import Floats, commas, number, semicolons, sentences, tick
from reports.view.words import margin_words


def forest(comparison: Comparison, narrow: bool) -> Drawn | str:
    """Time after / time before of every judged row, with the interval, its blocks, and what only describes."""
    shown = [(pair, row) for pair, row in comparison.rows if row.verdict and row.verdict.ratio is not None]
    if not shown:
        return tell("no arm has blocks in both runs")
    figure, (axis,) = sheet(narrow, 1.15 + 0.5 * len(shown))
    ends: list[float] = []
    messages, names = [], []
    later = "B" if len(comparison.pairs) == 1 else tell("the later run")
    over = tell("time in {run} / time in A", run=later)
    data = Data((tell("arm"), over, *words("from", "to", "verdict")))
    for y, (pair, row) in enumerate(shown):
        label = str(row.subject)
        names.append(label if len(comparison.pairs) == 1 else tell("{name}: {value}", name=pair.name, value=label))
        ends += draw_row(axis, y, row)
        assert row.verdict
        ratio = row.verdict.ratio or 1.0
        low, high = row.verdict.ci_low or ratio, row.verdict.ci_high or ratio
        data.bar(axis, (low, y), (high, y), names[-1], number(ratio, 5),
                 *told_ends(row.verdict.ci_low, row.verdict.ci_high), tell(SAID[row.verdict.word]))  # fmt: skip
        messages.append(tell("{arm} {ratio} ({word})", arm=names[-1], ratio=told(row.verdict),
                             word=tell(SAID[row.verdict.word])))  # fmt: skip
    axis.set_yticks(range(len(shown)), [tick(name, narrow) for name in names])
    axis.set_ylim(len(shown) - 0.35, -0.6)
    axis.grid(axis="y", visible=False)
    note = frame_ratio(axis, min(ends), max(ends), comparison.margin)
    parts = [over, *([tell("ratio to the control")] if comparison.control else [])]
    right = tell("right of 1 is slower")
    axis.set_xlabel("\n".join([*(tell("{text},", text=part) for part in parts), right]) if narrow
                    else commas([*parts, right]))  # fmt: skip
    secondary = any(other(row) for _, row in shown)
    return Drawn(
        figure,
        tell("Time in {run} divided by time in A: {ratios}.", run=later, ratios=semicolons(messages)),
        sentences(
            tell("Filled: the ratio that carries the verdict, with its Welch interval. Dots above it: the blocks of "
                 "{run}, and hollow those of A, all over the mean of A.", run=later),
            tell("Grey, below: {what}; it decides nothing.", what=describes(comparison)) if secondary else "",
            tell("The grey band is the margin of {margin} around 1.", margin=margin_words(comparison.margin)),
            note.strip(),
        ),
        data,
    )  # fmt: skip


def other(row: Row) -> tuple[float, float, float] | None:
    """The change that does not carry the verdict, with its interval."""
    change = row.other
    if change is None or change.ratio is None or change.ci_low is None or change.ci_high is None:
        return None
    return change.ratio, change.ci_low, change.ci_high


def describes(comparison: Comparison) -> str:
    """What the grey mark of a row is."""
    if comparison.control is None:
        return tell("the arm's ratio to another arm, after over before")
    return tell("the arm's own time")


def draw_row(axis: Axes, y: int, row: Row) -> list[float]:
    """One row; returns the values that the axis must show."""
    change = row.verdict
    assert change is not None and change.ratio is not None
    before, after = (np.array(logs.values) for logs in row.logs)
    dots: list[Floats] = [np.exp(values - before.mean()) for values in (before, after)]
    for values, face, above in zip(dots, (PAPER, MUTED), (0.32, 0.2), strict=True):
        axis.plot(values, np.full(values.size, y - above), "o", color=MUTED, markersize=3, markerfacecolor=face,
                  markeredgewidth=0.7, linestyle="none")  # fmt: skip
    low, high = change.ci_low or change.ratio, change.ci_high or change.ratio
    axis.plot([low, high], [y, y], color=INK, linewidth=2.2, solid_capstyle="butt")
    axis.plot(change.ratio, y, "D", color=INK, markersize=6)
    ends = [change.ratio, low, high, *(float(value) for values in dots for value in values)]
    second = other(row)
    if second:
        axis.plot(second[1:], [y + 0.24] * 2, color=MUTED, linewidth=1.3, solid_capstyle="butt")
        axis.plot(second[0], y + 0.24, "D", color=MUTED, markersize=4.5, markerfacecolor=PAPER)
        ends += second
    return ends
