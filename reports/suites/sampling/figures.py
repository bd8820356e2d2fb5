"""Figures of sampling: time over network calls, the ratio cell by cell, throughput over batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.record.events import Verdict, Window
from messages import count, plural, tell, words
from reports.chapters.answer.verdicts import facing, oriented
from reports.chapters.measured.ratio import frame, told_ends
from reports.page.data import Data
from reports.page.plotting import GRID, INK, MUTED, PAPER, SERIES, Drawn, legend_above, sheet
from reports.suites.sampling import facts as sampling
from reports.suites.sampling.facts import Interval, Line
from reports.text import commas, duration, number, semicolons, sentences, tag, tick, time_unit, with_interval
from reports.view.run import ArmView, RunView
from reports.view.words import cell_words, is_ddim


def over_calls(view: RunView, narrow: bool) -> Drawn | str:
    """Time of a whole batch over its network calls, and the same per call, with the fitted lines."""
    arms = [arm for arm in view.arms if any(points(arm, cell) for cell in view.cells)]
    if not arms:
        return tell("no whole batch was measured")
    figure, (above, below) = sheet(narrow, 5.0, 2, sharex=True)
    above.set_xscale("log")
    above.set_yscale("log")
    medians = []
    messages = []
    data = Data(words("arm", "cell", "time per batch", "from", "to", "time per call"))
    for arm in arms:
        fit = sampling.line(view, arm)
        medians += draw_cells(above, below, view, arm, data)
        if isinstance(fit, Line):
            draw_line(above, below, view, arm, fit)
            messages.append(
                tell("{arm} {call} per network call and {rest} outside the network", arm=arm.label,
                     call=duration(fit.slope_ns.mean), rest=duration(fit.intercept_ns.mean))
            )
    calls = sorted({window.steps for arm in arms for window in arm.windows("sample") if window.steps > 0})
    times_axis(above, [ns for ns, _ in medians], tell("time per batch"), logarithmic=True)
    times_axis(below, [ns / n for ns, n in medians], tell("time per call"), logarithmic=False)
    below.margins(y=0.25)
    below.xaxis.set_major_locator(FixedLocator(calls))
    below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    below.xaxis.set_minor_locator(NullLocator())
    below.set_xlim(calls[0] / 1.3, calls[-1] * 1.3)
    below.set_xlabel(tell("network calls per batch, logarithmic"))
    above.set_title(tell("Whole batch, logarithmic"))
    below.set_title(tell("The same per network call"))
    legend_above(figure, above, 1 if narrow else 3)
    images = view.batch_size
    said = semicolons(messages) or tell("no line could be fitted")
    return Drawn(
        figure,
        tell("Time of a batch of {images} as a line over its network calls: {lines}.", images=plural(images, "image"),
             lines=said) if images else tell("Time of a batch as a line over its network calls: {lines}.", lines=said),
        tell("Points: mean of the block medians with its t interval, often narrower than the point, from the blocks "
             "that measured every cell; filled DDIM, open other methods. Lines: fitted to the DDIM cells of every "
             "block, mean over blocks. Below, a line without work outside the network would lie flat; what rises to "
             "the left is that work spread over few calls."),
        data,
    )


def points(arm: ArmView, cell: str) -> list[Window]:
    """The windows of one cell that a figure over network calls can show."""
    return [window for window in sampling.in_whole_blocks(arm, cell) if window.steps > 0]


def draw_cells(above: Axes, below: Axes, view: RunView, arm: ArmView, data: Data) -> list[tuple[float, int]]:
    """The cells of one arm in both panels; returns time and network calls of every point."""
    style, found = SERIES[arm.slot], []
    alpha = sampling.alpha_of(view)
    for cell in view.cells:
        windows = points(arm, cell)
        if not windows:
            continue
        calls = windows[0].steps
        mean = sampling.t_interval(list(sampling.block_medians(windows).values()), alpha)
        ddim = is_ddim(cell)
        ends = [duration(end) if end is not None else "" for end in (mean.low, mean.high)]
        for axis, per in ((above, 1), (below, calls)):
            if axis is above:
                row = arm.label, cell_words(cell), duration(mean.mean), *ends, duration(mean.mean / calls)
                data.point(axis, calls, mean.mean, *row)
            axis.plot(
                calls,
                mean.mean / per,
                style.marker,
                color=style.color,
                markersize=6.5,
                markerfacecolor=style.color if ddim else PAPER,
                markeredgewidth=1.4,
                zorder=3,
                label=tag(arm.label) if ddim and axis is above else None,
            )
            draw_bar(axis, calls, mean, per, style.color)
        found.append((mean.mean, calls))
    return found


def draw_bar(axis: Axes, x: float, mean: Interval, per: int, color: str) -> None:
    """An interval as a vertical bar; nothing where it is unknown or reaches below zero on a logarithmic axis."""
    if mean.low is None or mean.high is None or (mean.low <= 0 and axis.get_yscale() == "log"):
        return
    axis.plot([x, x], [mean.low / per, mean.high / per], color=color, linewidth=1.6, solid_capstyle="butt")


def draw_line(above: Axes, below: Axes, view: RunView, arm: ArmView, fit: Line) -> None:
    """A fitted line in both panels, over the calls that carry it."""
    style = SERIES[arm.slot]
    x = np.geomspace(fit.calls[0], fit.calls[-1], 60)
    y = fit.intercept_ns.mean + fit.slope_ns.mean * x
    keep = y > 0
    for axis, values in ((above, y), (below, y / x)):
        axis.plot(x[keep], values[keep], color=style.color, linestyle=style.line, linewidth=1.2)


def times_axis(axis: Axes, values_ns: Sequence[float], name: str, logarithmic: bool) -> None:
    """Label a nanosecond axis in the unit that fits the middle of the data."""
    factor, unit = time_unit(float(np.median(values_ns)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / factor:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    if logarithmic:
        few = max(values_ns) / min(values_ns) < 30
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if few else (1,), numticks=8))
    axis.set_ylabel(tell("{what}, {unit}", what=name, unit=unit))


def forest(view: RunView, verdicts: Sequence[Verdict], narrow: bool) -> Drawn | str:
    """The ratio of one pair of arms, cell by cell and over all cells, all turned the same way.

    Args:
        view: the run.
        verdicts: those of one pair of arms; the one without a cell covers all.
        narrow: for a phone.
    """
    known = [one for one in verdicts if one.ratio is not None and math.isfinite(one.ratio) and one.ratio > 0]
    rows = [one for one in known if one.cell is not None]
    if not rows:
        return tell("no cell of this comparison has a ratio")
    joint = next((one for one in known if one.cell is None), None)
    slow, fast, *_ = oriented(joint or rows[0])
    turned = slow != rows[0].arm_a
    figure, (axis,) = sheet(narrow, 1.3 + 0.32 * (len(rows) + 1))
    ends: list[float] = []
    messages = []
    data = Data(words("cell", "ratio", "from", "to", "blocks"))
    bottom = len(rows) + 0.25
    for y, one in [*enumerate(rows), *([(bottom, joint)] if joint else [])]:
        ratio, low, high = facing(one, turned)
        dots = np.exp(np.array(one.block_log_ratios) * (-1 if turned else 1))
        axis.plot(dots, np.full(dots.size, y + 0.24), "o", color=MUTED, markersize=2.6, linestyle="none", alpha=0.8)
        axis.plot([low, high], [y, y], color=INK, linewidth=2, solid_capstyle="butt")
        axis.plot(ratio, y, "o" if one.cell is not None else "D", color=INK, markersize=6)
        ends += [ratio, low, high, *(float(dot) for dot in dots)]
        spread = low < high
        data.bar(axis, (low, y), (high, y), one.cell or tell("geometric mean"), number(ratio, 5),
                 *(told_ends(low, high) if spread else told_ends(None, None)),
                 ", ".join(number(float(dot), 4) for dot in dots))  # fmt: skip
        if one.cell is not None:
            messages.append(tell("{cell} {ratio}", cell=one.cell, ratio=with_interval(ratio, low, high)))
    axis.axhline(len(rows) - 0.4, color=GRID, linewidth=0.8)
    names = [tick(one.cell or "", narrow) for one in rows]
    in_lines = tell("{first}\n{rest}", first=tell("geometric"), rest=tell("mean"))
    mean = [in_lines if narrow else tell("geometric mean")] if joint else []
    axis.set_yticks([*range(len(rows)), *([bottom] if joint else [])], [*names, *mean])
    axis.set_ylim(len(rows) + (0.8 if joint else -0.2), -0.6)
    axis.grid(axis="y", visible=False)
    within, note = frame(axis, view, (slow, fast), ends, narrow)
    over = tell("; geometric mean {ratio}", ratio=with_interval(*facing(joint, turned))) if joint else ""
    return Drawn(
        figure,
        tell("Time of {slow} divided by time of {fast}: {cells}{mean}.", slow=view.label(slow), fast=view.label(fast),
             cells=commas(messages), mean=over),
        sentences(
            tell("Large points: the recorded ratio of a cell with its interval over blocks, widened where several "
                 "cells are judged. Small points: single blocks. Diamond: all cells together."), within, note,
        ),
        data,
    )


def sweep(view: RunView, narrow: bool) -> Drawn | str:
    """Images per second over the batch size."""
    sizes = sampling.sweep_sizes(view)
    rates = {arm.slot: rates_of(view, arm, sizes) for arm in view.arms}
    if not any(rates.values()):
        return tell(sampling.NO_SWEEP)
    figure, (axis,) = sheet(narrow, 2.9)
    messages = []
    data = Data(words("arm", "images per batch", "images per second"))
    for arm in view.arms:
        style, found = SERIES[arm.slot], rates[arm.slot]
        for images, rate in found:
            data.point(axis, images, rate, arm.label, count(images), number(rate))
        if not found:
            continue
        x, y = zip(*found, strict=True)
        axis.plot(
            x,
            y,
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=6,
            label=tag(arm.label),
        )
        first, last = found[0], found[-1]
        to = tell(" to {rate} with {images}", rate=number(last[1]), images=count(last[0])) if len(found) > 1 else ""
        messages.append(tell("{arm} {rate} with {images}{to}", arm=arm.label, rate=number(first[1]),
                             images=plural(first[0], "image"), to=to))
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(bottom=0)
    axis.set_xlabel(tell("images per batch, logarithmic"))
    axis.set_ylabel(tell("images per second"))
    legend_above(figure, axis, 1 if narrow else 3)
    cell, said = sampling.sweep_cell(view), semicolons(messages)
    return Drawn(
        figure,
        tell("Images per second by batch size, {cell}: {rates}.", cell=cell_words(cell), rates=said) if cell else tell(
            "Images per second by batch size: {rates}.", rates=said),
        tell("A description without verdict: one block measured it, so there is no interval over blocks."),
        data,
    )


def rates_of(view: RunView, arm: ArmView, sizes: Sequence[int]) -> list[tuple[int, float]]:
    """Batch size and images per second, where measured."""
    rates = ((images, sampling.images_per_s(view, sampling.swept(arm, images))) for images in sizes)
    return [(images, rate) for images, rate in rates if rate is not None]
