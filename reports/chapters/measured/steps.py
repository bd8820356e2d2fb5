"""Figures of the steps: over the life of a process, their distribution, whole epochs, and losses."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from harness.record.events import WarmUp
from messages import count, marked, several, tell
from reports.chapters.answer.key_figures import NO_WINDOWS
from reports.page.blocks import Section
from reports.page.data import Data
from reports.page.figures import FigureMaker
from reports.page.plotting import BAND, INK, MUTED, PAPER, SERIES, Drawn, envelope, legend_above, seconds_axis, sheet
from reports.text import NA, Floats, commas, duration, semicolons, sentence, tag, time_unit
from reports.view.run import ArmView, RunView, remembered
from reports.view.words import Unit

NO_TIME = marked("no {step} took any time")


@remembered
def life(arm: ArmView, block: int) -> tuple[Floats, int, int | None]:
    """All steps of one process from its first to its last stepwise-measured one.

    Returns:
        durations in ns; how many of them came before measuring; index of the first steady step, or None.
    """
    warm: WarmUp | None = next((w for w in arm.of(WarmUp) if w.block == block), None)
    # Warm-up begins with the first step; without a record of it, the first step alone is known.
    before = warm.step_ns if warm else [w.first_step_ns for w in arm.workers if w.block == block]
    measured = arm.steps_by_block.get(block, np.empty(0))
    steady = warm.steady_from if warm else None
    return np.concatenate([np.array(before, dtype=np.float64), measured]), len(before), steady


def blocks(arm: ArmView) -> list[int]:
    """Blocks in which the arm did anything, in order."""
    started = {worker.block for worker in arm.workers} | {warm.block for warm in arm.of(WarmUp)}
    return sorted(started | arm.steps_by_block.keys())


def step_times(view: RunView, narrow: bool) -> Drawn | str:
    """Step time over the steps of every process, with warm-up and the change to steady marked."""
    arms = [arm for arm in view.arms if any(life(arm, block)[0].size for block in blocks(arm))]
    if not arms:
        return tell("no {step} was measured", step=tell(view.unit.step))
    unit = view.unit
    if not any((life(arm, block)[0] > 0).any() for arm in arms for block in blocks(arm)):
        return tell(NO_TIME, step=tell(unit.step))
    figure, axes = sheet(narrow, 0.9 + 1.75 * len(arms), len(arms), sharex=True, sharey=True)
    messages, everything, farthest = [], [], [0.0, 1.0]
    since = tell("{step}, 0 is the first measured one", step=tell(unit.step))
    data = Data((tell("process"), since, tell(unit.time)))
    for axis, arm in zip(axes, arms, strict=True):
        numbers = blocks(arm)
        lives = [life(arm, block) for block in numbers]
        draw_lives(axis, arm, lives, tell(unit.first))
        for block, (values, before, _) in zip(numbers, lives, strict=True):
            data.line(axis, np.arange(values.size, dtype=np.float64) - before, values,
                      tell("{arm}, block {block}", arm=arm.label, block=block),
                      lambda at, ns: (f"{at:.0f}", duration(ns)))  # fmt: skip
        steady = [where for _, _, where in lives if where is not None]
        axis.set_title(tag(arm.label))
        farthest += [edge for values, before, _ in lives for edge in (-before, values.size - before)]
        everything.append(np.concatenate([values for values, _, _ in lives]))
        first = max((values[0] for values, _, _ in lives if values.size), default=float("nan"))
        median = duration(float(np.median(arm.step_ns))) if arm.step_ns.size else NA
        messages.append(
            tell("{arm}: {first} up to {time}, {when}, median of measured {steps} {median}", arm=arm.label,
                 first=tell(unit.first), time=duration(first), when=steady_words(unit, steady), steps=tell(unit.steps),
                 median=median)
        )  # fmt: skip
    seconds_log(axes, np.concatenate(everything), narrow, tell(view.unit.time))
    step = tell(view.unit.step)
    axes[-1].set_xlabel(tell("{step} of the process,\n0 is the first measured one", step=step) if narrow
                        else tell("{step} of the process, 0 is the first measured one", step=step))  # fmt: skip
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5 if narrow else 10))
    margin = 0.02 * (max(farthest) - min(farthest))
    axes[-1].set_xlim(min(farthest) - margin, max(farthest) + margin)
    for axis in axes:
        axis.axvspan(min(farthest) - margin, -0.5, color=BAND, zorder=0, linewidth=0, label=tell("before measuring"))
    legend_above(figure, axes[0], 1 if narrow else 3)
    return Drawn(
        figure,
        sentence(semicolons(messages)),
        tell(
            "One line per process. A triangle marks the {first}, which holds the just-in-time compilation where there "
            "is any; the shaded {steps} came before measuring; a diamond marks the first {short} that the detector "
            "calls steady. Outliers are kept.",
            first=tell(unit.first), steps=tell(unit.steps), short=tell(unit.short),
        ),
        data,
    )  # fmt: skip


def steady_words(unit: Unit, steady: list[int]) -> str:
    """From which step on the processes of an arm were steady."""
    if not steady:
        return tell("no steady state found")
    low, high = min(steady), max(steady)
    return tell(unit.steady, at=low if low == high else tell("{low} to {high}", low=low, high=high))


def draw_lives(axis: Axes, arm: ArmView, lives: list[tuple[Floats, int, int | None]], first: str) -> None:
    """All processes of one arm in one panel."""
    style = SERIES[arm.slot]
    for index, (values, before, steady) in enumerate(lives):
        if not values.size:
            continue
        x, y = envelope(np.arange(values.size, dtype=np.float64) - before, values)
        axis.plot(x, y, color=style.color, linewidth=0.9, alpha=0.75)
        axis.plot(
            -before,
            values[0],
            "v",
            color=style.color,
            markersize=5,
            linestyle="none",
            label=tell("{first} (compilation)", first=first) if index == 0 else None,
        )
        if steady is not None and steady < values.size:
            axis.plot(
                steady - before,
                values[steady],
                "D",
                color=INK,
                markerfacecolor=PAPER,
                markersize=5,
                zorder=4,
                linestyle="none",
                label=tell("steady from here") if index == 0 else None,
            )


def seconds_log(axes: list[Axes], values_ns: Floats, narrow: bool, name: str) -> None:
    """A shared logarithmic time axis, labelled in the unit of the median."""
    _, unit = time_unit(float(np.nanmedian(values_ns)))
    for axis in axes:
        axis.set_yscale("log")
        seconds_axis(axis, values_ns, name)
        axis.set_ylabel(tell("{time}, {unit}", time=name, unit=unit) if not narrow else unit)
        few = float(values_ns.max()) / float(values_ns[values_ns > 0].min()) < 30
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if few else (1,), numticks=8))


def distribution(view: RunView, narrow: bool) -> Drawn | str:
    """Histograms of the stepwise-measured steps, one row per arm on one axis, with median and p95."""
    arms = [arm for arm in view.arms if arm.step_ns.size]
    if not arms:
        return tell(NO_WINDOWS)
    figure, axes = sheet(narrow, 0.75 + 1.05 * len(arms), len(arms), sharex=True, sharey=True)
    pooled = np.concatenate([arm.step_ns for arm in arms])
    if pooled.max() <= 0:
        return tell(NO_TIME, step=tell(view.unit.step))
    _, unit = time_unit(float(np.median(pooled)))
    logarithmic = bool(pooled.max() > 4 * pooled.min() > 0)
    edges = (np.geomspace if logarithmic else np.linspace)(
        pooled.min() * 0.99, pooled.max() * 1.01, 41 if narrow else 71
    )
    messages = []
    time = tell(view.unit.time)
    data = Data((tell("arm"), tell("{time} from", time=time), tell("to"), tell(view.unit.steps)))
    for axis, arm in zip(axes, arms, strict=True):
        style, steps = SERIES[arm.slot], arm.step_ns
        heights, *_ = axis.hist(
            steps,
            bins=list(edges),
            color=style.color,
            alpha=0.45,
            histtype="stepfilled",
            hatch=style.hatch,
            edgecolor=style.color,
            linewidth=1,
        )
        for low, high, times in zip(edges[:-1], edges[1:], np.asarray(heights), strict=True):
            if times:
                data.bar(axis, (low, 0), (high, times), arm.label, duration(low), duration(high), count(int(times)))
        middle, late = float(np.median(steps)), float(np.percentile(steps, 95))
        axis.axvline(middle, color=INK, linewidth=1.4)
        axis.axvline(late, color=MUTED, linewidth=1.1, linestyle=(0, (4, 2)))
        name = tag(arm.label, 24 if narrow else 34)
        axis.set_title(
            tell("{arm}: median {median}", arm=name, median=duration(middle)) if narrow
            else tell("{arm}: median {median}, p95 {late}", arm=name, median=duration(middle), late=duration(late)),
            fontsize=9,
        )  # fmt: skip
        axis.set_ylabel(tell(several(view.unit.short)))
        axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        messages.append(
            tell("{arm} median {median}, p95 {late}, slowest {slowest}", arm=arm.label, median=duration(middle),
                 late=duration(late), slowest=duration(float(steps.max())))
        )  # fmt: skip
    if logarithmic:
        axes[-1].set_xscale("log")
        axes[-1].xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=9))
    seconds_axis(axes[-1], pooled, time, "x")
    label = tell("{time}, {unit}", time=time, unit=unit)
    axes[-1].set_xlabel(commas([label, tell("logarithmic")]) if logarithmic else label)
    return Drawn(
        figure,
        tell("{time}: {arms}.", time=tell(view.unit.time.capitalize()), arms=semicolons(messages)),
        tell("All {steps} of all blocks that were synchronised one by one, outliers included. Solid line: median; "
             "dashed: p95.", steps=tell(view.unit.steps)),
        data,
    )  # fmt: skip


def section(seen: RunView, figures: FigureMaker) -> Section:
    """All steps: over the life of every process, and their distribution."""
    drawn = (
        figures.make("step-times", partial(step_times, seen)),
        figures.make("distribution", partial(distribution, seen)),
    )
    return Section("steps", tell("{steps} and warm-up", steps=tell(seen.unit.steps.capitalize())), drawn)
