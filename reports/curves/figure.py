"""Two figures: the curves over one another, and their difference with what the seeds leave open."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from harness.stats.curves import ALONE, LEVEL
from messages import choice, tell, words
from reports.curves.aligned import Aligned
from reports.page.data import Data
from reports.page.plotting import BAND, INK, MUTED, SERIES, Drawn, envelope, labelled, sheet
from reports.text import Floats, number, percent, signed_percent

# A running mean over so much of the steps.
SMOOTH = 50


def overlay(found: Aligned, narrow: bool) -> Drawn | str:
    """Every run's curve, smoothed, and the noise of the first of each behind it."""
    figure, (axis,) = sheet(narrow, 3.1)
    steps = found.steps.astype(np.float64)
    data = Data(words("run", "step, as A counts", "loss, running mean"))
    for slot, losses in (("A", found.x), ("B", found.y)):
        style = SERIES[slot]
        for row, values in enumerate(losses):
            usable = np.where(np.isfinite(values) & (values > 0) if found.outcome.logarithm else np.isfinite(values),
                              values, np.nan)
            if row == 0:
                axis.plot(*envelope(steps, usable, 400), color=style.color, linewidth=0.5, alpha=0.25)
            name = slot if len(losses) == 1 else tell("{slot}, run {number}", slot=slot, number=row + 1)
            mean = smoothed(usable)
            data.line(axis, steps, mean, name, lambda step, loss: (f"{step:.0f}", number(loss, 4)))
            axis.plot(*envelope(steps, mean, 400), color=style.color,
                      linewidth=1.3 if len(losses) < 3 else 0.9, linestyle=style.line, label=slot)  # fmt: skip
    if found.outcome.logarithm:
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=8))
        axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(5 if narrow else 8, integer=True))
    axis.set_ylabel(tell("loss"))
    axis.set_xlabel(tell("step, as A counts"))
    axis.legend(*labelled(axis), loc="upper right")  # English
    ends = (number(float(np.nanmean(last))) if np.isfinite(last).any() else "n/a"
            for last in (losses[:, -max(1, found.steps.size // 10):] for losses in (found.x, found.y)))
    a, b = ends
    return Drawn(figure, tell("Mean loss over the last tenth of the steps: A {a}, B {b}.", a=a, b=b),
                 tell("{runs}, each a line: a running mean over a {smooth}th of the steps; pale, the losses of the "
                      "first run of each as they were logged.", runs=found.seeds, smooth=SMOOTH), data)  # fmt: skip


def difference(found: Aligned, narrow: bool) -> Drawn | str:
    """The difference in every window with its interval, over the margin."""
    shown = [one for one in found.outcome.windows if math.isfinite(one.difference)]
    if not shown:
        return tell("no window has finite losses in every run")
    figure, (axis,) = sheet(narrow, 2.9)
    margin = found.outcome.margin
    sizes = [abs(one.difference) + (one.half_width if math.isfinite(one.half_width) else 0) for one in shown]
    reach = 1.15 * max(margin, *sizes)
    axis.axhspan(-margin, margin, color=BAND, zorder=0)
    axis.axhline(0, color=MUTED, linewidth=0.8)
    data = Data(words("steps", "B against A", "from", "to", "by itself"))
    # A's first step has no logarithm where it counts from 0.
    low = found.steps[0] - 1
    for one in shown:
        ends = [max(one.first - low - 0.5, 0.5), one.last - low + 0.5]
        bounds = [signed_percent(relative(one.difference + sign * one.half_width, found)) for sign in (-1, 1)]
        data.bar(axis, (ends[0], one.difference), (ends[1], one.difference),
                 tell("{first} to {last}", first=one.first, last=one.last),
                 signed_percent(relative(one.difference, found)),
                 *(bounds if math.isfinite(one.half_width) else ("", "")),
                 tell("told apart") if one.differs else tell("not told apart"))  # fmt: skip
        if math.isfinite(one.half_width):
            axis.fill_between(ends, one.difference - one.half_width, one.difference + one.half_width,
                              color=SERIES["B"].color, alpha=0.25, linewidth=0)  # fmt: skip
        axis.plot(ends, [one.difference] * 2, color=SERIES["B"].color if one.differs else INK,
                  linewidth=2.6 if one.differs else 1.6, solid_capstyle="butt")  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value + low)}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed_percent(relative(value, found))))
    axis.set_ylim(-reach, reach)
    axis.set_ylabel(tell("B against A"))
    axis.set_xlabel(tell("step, as A counts"))
    worst = max(shown, key=lambda one: abs(one.difference))
    return Drawn(
        figure,
        choice(sum(one.differs for one in shown),
               "B against A is at most {size}, in steps {first} to {last}; told apart by itself in {n} window.",
               "B against A is at most {size}, in steps {first} to {last}; told apart by itself in {n} windows.",
               size=signed_percent(relative(worst.difference, found)), first=worst.first, last=worst.last),
        tell("A line each window, twice as long as the one before it; around it the interval that holds in all "
             "windows at once ({level}). Thick: told apart by itself. The grey band is the margin of {margin}.",
             level=percent(1 - ALONE * LEVEL), margin=percent(margin)),
        data,
    )  # fmt: skip


def relative(value: float, found: Aligned) -> float:
    """A difference of two windows as a part of A's loss."""
    return math.expm1(value) if found.outcome.logarithm else value


def smoothed(values: Floats) -> Floats:
    """A running mean of what is finite."""
    width = max(1, values.size // SMOOTH)
    known = np.convolve(np.isfinite(values), np.ones(width), "same")
    sums = np.convolve(np.nan_to_num(values), np.ones(width), "same")
    return np.where(known > 0, sums / np.maximum(known, 1), np.nan)
