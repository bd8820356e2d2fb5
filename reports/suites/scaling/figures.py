"""Figures of ranks: speed-up with its prediction, and what a step of every size is made of."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.record.events import Mode, Predicted, Scaled
from messages import count, marked, plural, tell, words
from reports.page.data import Data
from reports.page.plotting import MUTED, SERIES, Drawn, legend_above, seconds_axis, sheet
from reports.text import commas, duration, number, percent, semicolons, tag
from reports.view.run import RunView

TITLES: dict[Mode, str] = {"strong": marked("Strong, the batch shared: speed-up"),
                           "weak": marked("Weak, the batch grows with the ranks: efficiency")}
MODES: dict[Mode, str] = {"strong": marked("strong"), "weak": marked("weak")}
# Beside a cell's place, so that arms do not cover one another.
WIDTH = 0.8


def speedup(seen: RunView, narrow: bool) -> Drawn | str:
    """Over ranks the speed-up, and where the batch grows, the efficiency, which alone shows anything at 8192 ranks.

    Points with intervals; dashed what the network's two constants predict.
    """
    known = [one for one in seen.run.of(Scaled) if one.speedup is not None]
    if not known:
        return tell("no size has a speed-up")
    predictions: dict[str, Predicted] = {one.arm: one for one in seen.run.of(Predicted)}
    figure, axes = sheet(narrow, 6.2, 2)
    data = Data(words("arm", "batch", "ranks", "speed-up, or efficiency where the batch grows", "from", "to"))
    for axis, mode in zip(axes, TITLES, strict=True):
        most = 1
        for arm in seen.arms:
            style = SERIES[arm.slot]
            own = [one for one in known if one.arm == arm.slot and one.mode == mode]
            dashed = [point for point in predictions[arm.slot].points if point.mode == mode] if (
                arm.slot in predictions) else []
            if dashed:
                axis.plot([point.size for point in dashed],
                          [point.speedup / (point.size if mode == "weak" else 1) for point in dashed],
                          color=style.color, linewidth=1.1, linestyle=(0, (4, 3)),
                          label=tell("{arm}, predicted", arm=tag(arm.label)))
            for point in dashed:
                height = point.speedup / (point.size if mode == "weak" else 1)
                data.point(axis, point.size, height, tell("{arm}, predicted", arm=arm.label), tell(MODES[mode]),
                           point.size, number(height), "", "")
            draw_points(axis, own, mode, style.color, style.marker, tag(arm.label))
            for one in own:
                value = one.speedup if mode == "strong" else one.efficiency
                if value is not None:
                    ends = [number(end) if end is not None else "" for end in (value.ci_low, value.ci_high)]
                    data.point(axis, one.size, value.value, arm.label, tell(MODES[mode]), one.size,
                               number(value.value), *ends)
            most = max([most, *(one.size for one in own), *(point.size for point in dashed)])
        axis.plot([1, most], [1, most if mode == "strong" else 1], color=MUTED, linewidth=0.9,
                  label=tell("nothing lost"))
        logarithmic(axis, most, mode)
        axis.set_title(tell(TITLES[mode]))
        axis.set_ylabel(tell("speed-up") if mode == "strong" else tell("efficiency"))
    axes[-1].set_xlabel(tell("ranks, logarithmic"))
    legend_above(figure, axes[0], 1 if narrow else 3)
    most = max(one.size for one in known)
    said = semicolons(
        tell("{arm} {speedup} on {ranks}, {mode}", arm=seen.label(one.arm), speedup=number(one.speedup.value),
             ranks=plural(one.size, "rank"), mode=tell(MODES[one.mode]))
        for one in known if one.size == most and one.speedup is not None)
    return Drawn(figure, tell("Speed-up over one process, and efficiency: {factors}.", factors=said),
                 tell("Points: measured, with t intervals over blocks, often narrower than the point. Dashed: a "
                      "prediction, no measurement; where the batch is shared it ends with one image a rank."), data)


def draw_points(axis: Axes, own: Sequence[Scaled], mode: Mode, color: str, marker: str, label: str) -> None:
    """Measured sizes of an arm; one rank is 1 by definition."""
    found = {one.size: figure for one in own
             if (figure := one.speedup if mode == "strong" else one.efficiency) is not None}
    axis.plot([1, *found], [1.0, *(figure.value for figure in found.values())], marker, color=color, markersize=6,
              label=label, zorder=3)
    for size, figure in found.items():
        if figure.ci_low is not None and figure.ci_high is not None and figure.ci_low > 0:
            axis.plot([size, size], [figure.ci_low, figure.ci_high], color=color, linewidth=1.6)


def logarithmic(axis: Axes, most: int, mode: Mode) -> None:
    """Powers of two, as many as are told apart; efficiency from nothing to all."""
    every = [2**power for power in range(most.bit_length())]
    shown = every[:: max(1, len(every) // 7)]
    axis.set_xscale("log", base=2)
    if mode == "strong":
        axis.set_yscale("log", base=2)
    else:
        axis.set_ylim(0, 1.1)
    for target in (axis.xaxis, axis.yaxis) if mode == "strong" else (axis.xaxis,):
        target.set_major_locator(FixedLocator(shown))
        target.set_minor_locator(NullLocator())
        target.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))


def steps(seen: RunView, narrow: bool) -> Drawn | str:
    """Every cell's step: what is left without averaging, and above it the exposed communication."""
    import numpy as np

    known = [one for one in seen.run.of(Scaled) if one.step_ns is not None and one.exposed is not None]
    if not known:
        return tell("no step was measured with and without averaging")
    figure, (axis,) = sheet(narrow, 1.2 + 0.34 * len(known))
    shares = np.array([min(1.0, max(0.0, one.exposed.value)) for one in known if one.exposed is not None])
    times = np.array([one.step_ns for one in known if one.step_ns is not None], dtype=float)
    places = np.arange(len(known))
    colors = [SERIES[one.arm].color for one in known]
    axis.barh(places, times * (1 - shares), WIDTH, color=colors)
    axis.barh(places, times * shares, WIDTH, left=times * (1 - shares), color="none", edgecolor=colors, hatch="////")
    axis.set_yticks(places, [size_tick(seen, one, narrow) for one in known])
    axis.set_ylim(len(known) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    seconds_axis(axis, times, tell("step time"), "x")
    data = Data(words("arm", "batch", "ranks", "step time", "exposed communication"))
    # Told as measured: what is not told apart from nothing may lie below it.
    exposed = [percent(one.exposed.value) for one in known if one.exposed is not None]
    for place, one, time, share in zip(places, known, times, exposed, strict=True):
        data.bar(axis, (0, place - WIDTH / 2), (time, place + WIDTH / 2), seen.label(one.arm), tell(MODES[one.mode]),
                 one.size, duration(time), share)  # fmt: skip
    said = semicolons(
        tell("{arm}, {mode}, {ranks}: {time}, of which {share}", arm=seen.label(one.arm), mode=tell(MODES[one.mode]),
             ranks=plural(one.size, "rank"), time=duration(one.step_ns), share=share)
        for one, share in zip(known, exposed, strict=True))
    return Drawn(figure, tell("Step times and the share of communication in them: {times}.", times=said),
                 tell("Full: what is left of a step where gradients are not averaged. Hatched: exposed communication."),
                 data)


def size_tick(seen: RunView, one: Scaled, narrow: bool) -> str:
    """An arm and its ranks beside an axis: in several lines on a phone."""
    name, mode = seen.label(one.arm), tell(MODES[one.mode])
    if narrow:
        return tell("{first}\n{rest}", first=tag(name, 18), rest=tell("{mode} {ranks}", mode=mode, ranks=one.size))
    return commas([tag(name), mode, plural(one.size, "rank")])
