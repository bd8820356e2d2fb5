"""Figures of the comparison itself: ratio per block, throughput, cold start."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.record.events import Verdict
from reports.chapters.verdicts import oriented
from reports.page.plotting import BAND, GRID, INK, MUTED, PAPER, SERIES, Drawn, legend_above, sheet
from reports.suites.sampling.facts import part_of
from reports.text import duration, number, percent, signed_percent, tag, tick, time_unit, with_interval
from reports.view.run import Floats, RunView, by_cache, paired_ratios, rate_per_s, start_up_ns


def blocks_of(view: RunView, verdict: Verdict, slow: str, fast: str) -> dict[str, tuple[float, float, float]]:
    """Block name -> (low quartile, median, high quartile) of the paired ratios slow / fast.

    Where the journal holds no pairs, the recorded block ratios stand alone.
    """
    one, other = view.arm(slow), view.arm(fast)
    # Whole batches of several cells don't pair up by number alone.
    paired = one and other and slow != fast and part_of(verdict) in ("training", "call")
    pairs = paired_ratios(one, other, "free" in verdict.metric) if one and other and paired else {}
    if pairs:
        return {f"block {block}": quartiles(ratios) for block, ratios in pairs.items()}
    sign = 1 if slow == verdict.arm_a else -1
    found = [math.exp(sign * value) for value in verdict.block_log_ratios]
    return {f"block {i}": (ratio, ratio, ratio) for i, ratio in enumerate(found)}


def quartiles(values: Floats) -> tuple[float, float, float]:
    """The 25th, 50th and 75th percentile."""
    low, middle, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return low, middle, high


def ratio_forest(view: RunView, verdict: Verdict, narrow: bool) -> Drawn | str:
    """The ratio of one comparison, block by block, with the verdict's interval and the declared margin."""
    slow, fast, ratio, low, high = oriented(verdict)
    rows = blocks_of(view, verdict, slow, fast)
    if not rows or ratio is None:
        return "no block of this comparison was measured"
    margin = view.declared("margin")
    margin = margin if isinstance(margin, float) else None
    figure, (axis,) = sheet(narrow, 1.25 + 0.24 * (len(rows) + 1))
    for y, (name, (left, middle, right)) in enumerate(rows.items()):
        dirty = int(name.split()[-1]) in view.dirty
        axis.plot([left, right], [y, y], color=MUTED, linewidth=1.2, solid_capstyle="butt")
        axis.plot(middle, y, "o", markersize=5.5, color=MUTED, markerfacecolor=PAPER if dirty else MUTED, zorder=3)
    bottom = len(rows) + 0.25
    left, right = low or ratio, high or ratio
    axis.plot([left, right], [bottom, bottom], color=INK, linewidth=2.2, solid_capstyle="butt")
    axis.plot(ratio, bottom, "D", color=INK, markersize=6.5)
    axis.axhline(len(rows) - 0.4, color=GRID, linewidth=0.8)
    ticks = [f"{name}{' (disturbed)' if int(name.split()[-1]) in view.dirty else ''}" for name in rows]
    axis.set_yticks([*range(len(rows)), bottom], [*ticks, "all blocks"])
    axis.set_title(tag(verdict.metric, 22 if narrow else 34), loc="right")
    axis.grid(axis="y", visible=False)
    axis.set_ylim(len(rows) + 0.8, -0.6)
    values = [v for row in rows.values() for v in row] + [left, right]
    note = frame_ratio(axis, min(values), max(values), margin)
    short = [tag(view.label(slot), 24 if narrow else 48) for slot in (slow, fast)]
    joint = "\n/ " if narrow and len("".join(short)) > 24 else " / "
    axis.set_xlabel(f"time of {short[0]}{joint}time of {short[1]}")
    low_edge, high_edge = min(r[1] for r in rows.values()), max(r[1] for r in rows.values())
    alt = (
        f"Time of {view.label(slow)} divided by time of {view.label(fast)} is {with_interval(ratio, low, high)} over "
        f"all blocks; block medians lie between {number(low_edge)} and {number(high_edge)}."
    )
    within = (
        f" The grey band is the declared margin of \N{PLUS-MINUS SIGN}{percent(margin, 1)} around 1." if margin else ""
    )
    hollow = " Hollow: disturbed block." if view.dirty else ""
    return Drawn(
        figure,
        alt,
        "Points: median of the paired ratios of a block; bars: the middle half of its pairs. Diamond: "
        f"the verdict's ratio with its interval over blocks.{within}{hollow}{note}",
    )


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
        if low > 1:
            axis.annotate(
                f"\N{LEFTWARDS ARROW} {words}",
                (0.005, 1.01),
                xycoords="axes fraction",
                ha="left",
                va="bottom",
                color=MUTED,
                fontsize=8,
            )
        else:
            axis.annotate(
                f"{words} \N{RIGHTWARDS ARROW}",
                (0.995, 1.01),
                xycoords="axes fraction",
                ha="right",
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


def throughput(view: RunView, narrow: bool) -> Drawn | str:
    """Images per second, stepwise and free-running."""
    batch = view.batch_size
    rates = {arm.slot: (rate_per_s(arm.stepwise), rate_per_s(arm.free)) for arm in view.arms}
    if not batch or not any(one or two for one, two in rates.values()):
        return "no window was measured"
    figure, (axis,) = sheet(narrow, 0.95 + 0.42 * len(view.arms))
    messages, most = [], max(v for pair in rates.values() for v in pair if v) * batch
    for y, arm in enumerate(view.arms):
        style, (stepwise, free) = SERIES[arm.slot], rates[arm.slot]
        if stepwise and free:
            axis.plot([stepwise * batch, free * batch], [y, y], color=style.color, linewidth=2)
            messages.append(
                f"{arm.label} {number(stepwise * batch)} stepwise, {number(free * batch)} free-running "
                f"({signed_percent(free / stepwise - 1)})"
            )
        for rate, face, shift in ((stepwise, PAPER, 0.0), (free, style.color, 0.0)):
            if rate:
                axis.plot(
                    rate * batch,
                    y + shift,
                    style.marker,
                    color=style.color,
                    markerfacecolor=face,
                    markersize=8,
                    markeredgewidth=1.6,
                )
    axis.plot([], [], "o", color=INK, markerfacecolor=PAPER, label="stepwise (open)")
    axis.plot([], [], "o", color=INK, label="free-running (filled)")
    axis.set_yticks(range(len(view.arms)), [tick(arm.label, narrow) for arm in view.arms])
    axis.set_ylim(len(view.arms) - 0.5, -0.5)
    axis.set_xlim(0, most * 1.08)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("images per second")
    legend_above(figure, axis, 2)
    return Drawn(
        figure,
        "Images per second: " + "; ".join(messages or ["only one kind of window was measured"]) + ".",
        "Open: synchronised after every step. Filled: synchronised only at the ends of longer windows, as in a "
        "training job. The distance is the work that overlaps between steps.",
    )


PARTS = (
    ("launch", "spawn_ns", 0.2, ""),
    ("import", "import_ns", 0.42, "////"),
    ("build", "build_ns", 0.68, "\\\\\\\\"),
    ("first {step}", "first_step_ns", 1.0, ""),
)


def cold_start(view: RunView, narrow: bool) -> Drawn | str:
    """Stacked start-up times by arm and state of the compile cache."""
    rows = [(arm, state, workers) for arm in view.arms for state, workers in by_cache(arm.starts).items()]
    if not rows:
        return "no measuring process got as far as its first step"
    if not any(start_up_ns(worker) > 0 for _, _, workers in rows for worker in workers):
        return "no start took any time"
    figure, (axis,) = sheet(narrow, 1.1 + 0.36 * len(rows))
    messages, totals = [], []
    for y, (arm, state, workers) in enumerate(rows):
        left = 0.0
        for _, field, alpha, hatch in PARTS:
            seconds = float(np.median([getattr(worker, field) for worker in workers])) / 1e9
            axis.barh(
                y,
                seconds,
                left=left,
                height=0.62,
                color=SERIES[arm.slot].color,
                alpha=alpha,
                linewidth=0.4,
                edgecolor=PAPER,
                hatch=hatch,
            )
            left += seconds
        totals.append(left)
        words = f"{arm.label}, {state} cache" if state != "unknown" else arm.label
        messages.append(f"{words} {duration(left * 1e9)}")
        axis.annotate(duration(left * 1e9), (left, y), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    for name, _, alpha, hatch in PARTS:
        axis.barh(0, 0, color=MUTED, alpha=alpha, edgecolor=PAPER, label=name.format(step=view.unit.step), hatch=hatch)
    joint = "\n" if narrow else ", "
    axis.set_yticks(
        range(len(rows)),
        [
            f"{tick(arm.label, narrow)}{joint}{state} cache" if state != "unknown" else tick(arm.label, narrow)
            for arm, state, _ in rows
        ],
    )
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, max(totals) * (1.3 if narrow else 1.14))
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"seconds {'' if narrow else 'from launch '}to the end of the first {view.unit.step}")
    legend_above(figure, axis, 2 if narrow else 4)
    return Drawn(
        figure,
        f"Median time to the end of the first {view.unit.step}: {'; '.join(messages)}.",
        "Medians over the starts of each kind. A cold cache holds no compiled operator; with a warm one nothing is "
        "compiled.",
    )


def seconds_axis(axis: Axes, values_ns: Floats, name: str, which: str = "y") -> None:
    """Label a nanosecond axis in the unit that fits the middle of the data."""
    factor, unit = time_unit(float(np.nanmedian(values_ns)))
    target = axis.yaxis if which == "y" else axis.xaxis
    target.set_major_formatter(FuncFormatter(lambda value, _: number(value / factor)))
    target.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    (axis.set_ylabel if which == "y" else axis.set_xlabel)(f"{name}, {unit}")
