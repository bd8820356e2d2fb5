"""A gap as a picture: from the fast arm's step to the slow one's, phase by phase."""

from __future__ import annotations

from messages import marked, tell, words
from reports.page.data import Data
from reports.page.plotting import BAND, INK, MUTED, PAPER, SERIES, Drawn, sheet
from reports.suites.why.causes import Told, name_of, short_name, with_doubt
from reports.suites.why.kernels import of_kernels
from reports.text import MINUS, duration, number, percent, semicolons, tag, tick, time_unit
from reports.view.run import RunView

CAPTION = marked("Grey: what each phase takes longer in the slow arm, with its 95 % interval. Dotted: what the phases "
                 "leave over, or hold too much.")
SPLIT = marked("{caption} Hatched: the part of that which was the host's, not its kernels', in the few profiled steps; "
               "one measurement, without an interval.")


def waterfall(view: RunView, one: Told, narrow: bool) -> Drawn | str:
    """What each phase adds to the fast arm's step until it is the slow arm's."""
    slow_ns, fast_ns = one.times_ns(one.together)
    if slow_ns is None or fast_ns is None or slow_ns <= fast_ns:
        return tell("there is no gap to draw")
    gap = slow_ns - fast_ns
    factor, unit = time_unit(slow_ns)
    figure, (axis,) = sheet(narrow, 1.3 + 0.34 * (len(one.shares) + 3))
    slow, fast = view.label(one.slow), view.label(one.fast)
    rows = [tick(fast, narrow)]
    axis.barh(0, fast_ns / factor, color=SERIES[one.fast].color, hatch=SERIES[one.fast].hatch, edgecolor=PAPER)
    level, messages, kernels = fast_ns, [], of_kernels(view, one)
    data = Data(words("what", "time", "share of the gap"))
    data.bar(axis, (0, -0.4), (fast_ns / factor, 0.4), tell("step of {arm}", arm=fast), duration(fast_ns), "")
    for share in one.shares:
        size = (share.share or 0.0) * gap
        first = size * kernels.get(share.cause, 1.0)
        axis.barh(len(rows), first / factor, left=level / factor, color=MUTED)
        if share.cause in kernels:
            axis.barh(len(rows), (size - first) / factor, left=(level + first) / factor, color=PAPER, edgecolor=MUTED,
                      hatch="////")
        data.bar(axis, (level / factor, len(rows) - 0.4), ((level + size) / factor, len(rows) + 0.4),
                 name_of(share.cause), signed_duration(size), with_doubt(share))  # fmt: skip
        edge = max(level, level + size) / factor
        if share.ci_low is not None and share.ci_high is not None:
            ends = [(level + end * gap) / factor for end in (share.ci_low, share.ci_high)]
            axis.plot(ends, [len(rows)] * 2, color=INK, linewidth=1.4, solid_capstyle="butt")
            axis.plot(ends, [len(rows)] * 2, "|", color=INK, markersize=7)
            edge = max(edge, *ends)
        name, size_of = name_of(share.cause), percent(share.share)
        messages.append(tell("{cause} {share} (kernels {kernels} of it)", cause=name, share=size_of,
                             kernels=percent(kernels[share.cause])) if share.cause in kernels else
                        tell("{cause} {share}", cause=name, share=size_of))
        axis.annotate(f" {number(size / factor)} {unit}", (edge, len(rows)), (6, 0),
                      textcoords="offset points", va="center", fontsize=8)  # English
        rows.append(tick(short_name(share.cause), narrow))
        level += size
    axis.barh(len(rows), (slow_ns - level) / factor, left=level / factor, color=BAND, edgecolor=MUTED, hatch="....")
    data.bar(axis, (level / factor, len(rows) - 0.4), (slow_ns / factor, len(rows) + 0.4),
             tell("not explained"), signed_duration(slow_ns - level), percent((slow_ns - level) / gap))  # fmt: skip
    rows.append(tell("not explained"))
    axis.barh(len(rows), slow_ns / factor, color=SERIES[one.slow].color, hatch=SERIES[one.slow].hatch, edgecolor=PAPER)
    data.bar(axis, (0, len(rows) - 0.4), (slow_ns / factor, len(rows) + 0.4), tell("step of {arm}", arm=slow),
             duration(slow_ns), "")  # fmt: skip
    rows.append(tick(slow, narrow))
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, max(slow_ns, level) / factor * (1.3 if narrow else 1.12))
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(tell("time of a training step, {unit}", unit=unit))
    return Drawn(
        figure,
        tell("From a step of {fast} ({fast_time} {unit}) to one of {slow} ({slow_time} {unit}), shares of the gap: "
             "{shares}.", fast=tag(fast), fast_time=number(fast_ns / factor), slow=tag(slow),
             slow_time=number(slow_ns / factor), unit=unit, shares=semicolons(messages)),
        tell(SPLIT, caption=tell(CAPTION)) if kernels else tell(CAPTION),
        data,
    )


def signed_duration(ns: float) -> str:
    """A time that may be below zero, with its sign."""
    return f"{'+' if ns >= 0 else MINUS}{duration(abs(ns))}"
