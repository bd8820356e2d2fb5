"""The timeline: load with all marks on one axis, and closer looks at it."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from harness.record.events import Epoch
from messages import plural, tell, words
from reports.chapters.measured import telemetry
from reports.page.blocks import Block, Section, Table, present
from reports.page.data import Data
from reports.page.figures import FigureMaker
from reports.page.key import Key
from reports.page.plotting import GRID, INK, MUTED, PAPER, SERIES, Drawn, envelope, sheet
from reports.text import Floats, commas, duration, number, semicolons, sentences, tag, tick
from reports.view.clock import of_one_boot
from reports.view.run import ArmView, RunView
from reports.view.timeline import (
    BATCH,
    CLOSE_NS,
    CPU_KEYS,
    EPOCH,
    FREE,
    PARITY,
    STARTING,
    STEPWISE,
    SWEEP,
    WARMING,
    alternating,
    alternation,
    epoch_boundary,
    lane,
    loader_waits,
    series,
    step_marks,
    troughs,
    with_gaps,
)

# Face strength, height and hatch of every phase: they can be told apart in grey.
PHASE_LOOK = {
    STARTING: (0.3, 0.2, ""),
    WARMING: (0.45, 0.4, "////"),
    STEPWISE: (1.0, 0.6, ""),
    FREE: (0.8, 0.6, "\\\\\\\\"),
    EPOCH: (0.6, 0.6, "---"),
    BATCH: (0.7, 0.6, "..."),
    SWEEP: (0.5, 0.6, "++"),
    PARITY: (0.45, 0.4, "xxx"),
}
MOST_STEP_MARKS = 400
MOST_BOUNDARIES = 2


def timeline(view: RunView, narrow: bool) -> Drawn | str:
    """Load and phases over the whole run."""
    lanes = [lane(arm) for arm in view.arms if lane(arm).start_ns.size]
    if not lanes:
        return tell("no arm left a mark in this run")
    stamps = [sample.t_ns for samples in view.samples.values() for sample in samples]
    first = min([*(int(one.start_ns[0]) for one in lanes), *stamps])
    interval = first, max([*(int(one.latest_ns[-1]) for one in lanes), *stamps])
    if interval[0] >= interval[1]:
        return tell("all stamps of the journal are the same")
    drawn, data = draw_timeline(view, narrow, *interval, close=False)
    low = troughs(view)
    stretches = [
        tell("{seconds} s at {load} % while {doing}", seconds=number((t.end_ns - t.start_ns) / 1e9, 2),
             load=number(t.load_percent, 2), doing=t.doing[0].measured if t.doing else tell("no arm left a mark"))
        for t in low[:2]
    ]  # fmt: skip
    alt = [tell("Load and phases over {time}.", time=duration(interval[1] - interval[0]))]
    if stretches:
        alt.append(tell("Where the host's load was low: {stretches}.", stretches=semicolons(stretches)))
    epochs = any(arm.of(Epoch) for arm in view.arms)
    caption = sentences(
        tell(
            "Above: load; below, on the same axis: what each arm was doing. A trough above a low bar is start-up or "
            "warm-up; above empty lanes it is time between {between}. Short phases are drawn at least a pixel wide.",
            between=tell("processes or epochs") if epochs else tell("processes"),
        ),
        view.restarted,
    )
    return Drawn(drawn, sentences(*alt), caption, data)


def windows_close(view: RunView, narrow: bool) -> Drawn | str:
    """The first alternating windows, enlarged."""
    interval = alternation(view)
    if interval is None:
        return tell("no window was measured")
    inside = [table.lines[place] for table in alternating(view)
              for place in np.flatnonzero((interval[0] <= table.start_ns) & (table.start_ns < interval[1]))]
    if not inside:
        return tell("the measured windows have no length")
    ordered = sorted(inside, key=lambda window: window.start_ns)
    gaps = [two.start_ns - one.end_ns for one, two in zip(ordered, ordered[1:], strict=False)]
    apart = [tell("{time} apart", time=duration(float(np.median(gaps))))] if gaps else []
    batches = ordered[0].kind == "sample"
    windows = (plural(len(ordered), "whole batch", "whole batches") if batches
               else plural(len(ordered), "measured window"))  # fmt: skip
    whole = tell("this part of the run") if view.restarts else tell("the run")
    ticks = "" if batches else tell("Ticks under a lane: starts of {steps}.", steps=tell(view.unit.steps))
    drawn, data = draw_timeline(view, narrow, *interval, close=True)
    lasting = tell("{time} in all", time=duration(interval[1] - interval[0]))
    return Drawn(
        drawn,
        tell("The first {windows} of {run}, {times}.", windows=windows, run=whole, times=commas([lasting, *apart])),
        sentences(
            tell("The timeline enlarged: windows of the arms alternate, and a waiting arm computes nothing."),
            ticks,
            tell("A telemetry sample averages all windows since the sample before it."),
            view.restarted,
        ),
        data,
    )


def epochs_close(view: RunView, arm: ArmView, narrow: bool) -> Drawn | str:
    """One arm's first epoch boundary, enlarged, with loader waits."""
    interval = epoch_boundary(arm)
    if interval is None:
        return tell("{arm} ran fewer than two epochs in a row", arm=arm.label)
    waits = [end - start for start, end in loader_waits(arm) if start < interval[1] and end > interval[0]]
    waited = (
        tell("{waits} for a batch of 1 ms or more, {time} together", waits=plural(len(waits), "wait"),
             time=duration(sum(waits)))
        if waits
        else tell("no wait for a batch of 1 ms or more")
    )  # fmt: skip
    drawn, data = draw_timeline(view, narrow, *interval, close=True)
    return Drawn(
        drawn,
        tell("From one epoch to the next of {arm}, {time}: {waits}.", arm=arm.label,
             time=duration(interval[1] - interval[0]), waits=waited),
        sentences(
            tell("The timeline enlarged around an epoch boundary. Ticks under a lane: starts of steps. Solid bars "
                 "above a lane: waits for a batch."),
            view.restarted,
        ),
        data,
    )


def draw_timeline(view: RunView, narrow: bool, start_ns: int, end_ns: int, close: bool) -> tuple[Figure, Data]:
    """Panels of load above the lanes of the arms, all on one time axis."""
    loads = load_panels(view, start_ns, end_ns)
    phases = {arm.slot: lane(arm).phases(start_ns, end_ns) for arm in view.arms}
    arms = [arm for arm in view.arms if phases[arm.slot]]
    lanes = 0.34 * len(arms) * (1.5 if close else 1) + 0.35
    heights = [0.95] * len(loads) + [lanes]
    figure, axes = sheet(
        narrow, sum(heights) + 1.15 + 0.2 * narrow, len(heights), sharex=True, gridspec_kw={"height_ratios": heights}
    )
    data = Data(words("what", "from, s", "to, s", "load, %"))
    for axis, (title, source, slot) in zip(axes, loads, strict=False):
        x, y = draw_load(axis, view, source, slot, (start_ns, end_ns), 160 if narrow else 320)
        data.line(axis, x, y, title, lambda at, load: (f"{at:.2f}", "", number(load)))
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("%")
        axis.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    of_cpus = [axis for axis, (_, source, _) in zip(axes, loads, strict=False) if not source.startswith("gpu")]
    for axis in axes[: len(loads)]:
        # One core is the same length in every panel; a GPU has no more than all of itself.
        most = max(one.get_ylim()[1] for one in of_cpus) if axis in of_cpus else 100.0
        axis.set_ylim(0, max(100.0, most))
    floor = axes[-1]
    for lane_at, arm in enumerate(arms):
        draw_lane(floor, view, arm, lane_at, start_ns, end_ns, close, data)
    floor.set_yticks(range(len(arms)), [tick(arm.label, narrow) for arm in arms])
    floor.set_ylim(len(arms) - 0.4, -0.6)
    floor.grid(axis="y", visible=False)
    for epoch_start in (e.start_ns for arm in view.arms for e in arm.of(Epoch)):
        if start_ns <= epoch_start <= end_ns:
            for axis in axes:
                axis.axvline(
                    (epoch_start - view.t0_ns) / 1e9, color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0.5
                )
    floor.set_xlim((start_ns - view.t0_ns) / 1e9, (end_ns - view.t0_ns) / 1e9)
    since = tell("seconds since {origin}", origin=tell(view.origin))
    if not narrow and any(arm.of(Epoch) for arm in view.arms):
        since = semicolons([since, tell("dotted: start of an epoch")])
    floor.set_xlabel(since)
    handles = [
        Patch(facecolor=MUTED, alpha=alpha, hatch=hatch, edgecolor=PAPER, label=tell(phase))
        for phase, (alpha, _, hatch) in PHASE_LOOK.items()
        if any(phase in found for found in phases.values())
    ]
    if close and any(arm.of(Epoch) for arm in view.arms):
        handles.append(Patch(facecolor=INK, label=tell("wait for a batch")))
    if handles:
        labels = [str(one.get_label()) for one in handles]
        figure.add_artist(Key(handles, labels, 2 if narrow else 6, length=1.6, gap=1.2))
    return figure, data


def load_panels(view: RunView, start_ns: int, end_ns: int) -> list[tuple[str, str, str | None]]:
    """Title, source and arm of every panel with telemetry in the interval: host, processes, every GPU."""
    samples = {
        source: inside
        for source, found in view.samples.items()
        if (inside := [sample for sample in found if start_ns <= sample.t_ns <= end_ns])
    }
    panels: list[tuple[str, str, str | None]] = []
    for source in sorted(samples):
        if series(samples[source], CPU_KEYS)[2] is None:
            continue
        if source == "host":
            panels.insert(0, (tell("Host CPU (100 % is one core)"), source, None))
        elif source.startswith("gpu"):
            panels.append((tell("{source} utilisation", source=source), source, None))
    processes = [
        (tell("CPU of {arm} (100 % is one core)", arm=tag(arm.label)), f"process:{arm.slot}", arm.slot)
        for arm in view.arms
        if series(samples.get(f"process:{arm.slot}", []), CPU_KEYS)[2]
    ]
    at = 1 if "host" in samples and panels else 0
    return [*panels[:at], *processes, *panels[at:]]


def draw_load(
    axis: Axes, view: RunView, source: str, slot: str | None, interval: tuple[int, int], most: int
) -> tuple[Floats, Floats]:
    """One source's load as steps: a sample tells of the time since the one before it. Returns what is drawn."""
    stamps, values, _ = series(view.samples[source], CPU_KEYS)
    stamps, values = with_gaps(stamps, values)
    inside = (stamps >= interval[0] - CLOSE_NS) & (stamps <= interval[1] + CLOSE_NS)
    x, y = envelope((stamps[inside] - view.t0_ns) / 1e9, values[inside], most)
    color = SERIES[slot].color if slot else MUTED
    axis.fill_between(x, y, step="pre", color=color, alpha=0.3, linewidth=0)
    axis.step(x, y, where="pre", color=color, linewidth=0.8)
    return x, y


def draw_lane(
    axis: Axes, view: RunView, arm: ArmView, y: int, start_ns: int, end_ns: int, close: bool, data: Data
) -> None:
    """Phases of one arm as bars; close up also its steps and its waits for batches."""
    color, least = SERIES[arm.slot].color, (end_ns - start_ns) / 1e9 / 1200
    axis.axhline(y, color=GRID, linewidth=0.6, zorder=0.4)
    for phase, (alpha, height, hatch) in PHASE_LOOK.items():
        bars = merged(
            *lane(arm).of(phase),
            start_ns,
            end_ns,
            0 if close else (end_ns - start_ns) // 600,
        )
        for begin, end in bars:
            left, right = (begin - view.t0_ns) / 1e9, (end - view.t0_ns) / 1e9
            what = tell("{arm}: {phase}", arm=arm.label, phase=tell(phase))
            data.bar(axis, (left, y + 0.3), (right, y + 0.3 - height), what, f"{left:.2f}", f"{right:.2f}", "")
        if bars:
            axis.broken_barh(
                [((begin - view.t0_ns) / 1e9, max((end - begin) / 1e9, least)) for begin, end in bars],
                (y + 0.3 - height, height),
                facecolor=color,
                alpha=alpha,
                hatch=hatch,
                edgecolor=PAPER,
                linewidth=0,
            )
    if not close:
        return
    marks = step_marks(arm)
    marks = marks[(marks >= start_ns) & (marks <= end_ns)]
    if len(marks) <= MOST_STEP_MARKS:
        axis.vlines((marks - view.t0_ns) / 1e9, y + 0.33, y + 0.43, color=INK, linewidth=0.6)
    waits = [(begin, end) for begin, end in loader_waits(arm) if end > start_ns and begin < end_ns]
    axis.broken_barh(
        [((begin - view.t0_ns) / 1e9, max((end - begin) / 1e9, least)) for begin, end in waits],
        (y - 0.47, 0.14),
        facecolor=INK,
        linewidth=0,
    )


def merged(
    starts: Floats, ends: Floats, start_ns: int, end_ns: int, nearer_ns: int
) -> list[tuple[float, float]]:
    """Bars inside the interval, which come in order; those closer together than can be seen become one."""
    inside = (ends > start_ns) & (starts < end_ns)
    starts, ends = np.maximum(starts[inside], start_ns), np.minimum(ends[inside], end_ns)
    if not starts.size:
        return []
    latest = np.maximum.accumulate(ends)
    apart = np.flatnonzero(starts[1:] - latest[:-1] >= nearer_ns)
    first, last = np.append(0, apart + 1), np.append(apart, starts.size - 1)
    return list(zip(starts[first].tolist(), latest[last].tolist(), strict=True))


def told(seen: RunView, figures: FigureMaker) -> tuple[Block, ...]:
    """Timeline, what was going on in the troughs, closer looks at windows and at epoch boundaries."""
    # A time axis shows what lies between two restarts of the machine.
    timed = of_one_boot(seen)
    boundaries = [arm for arm in timed.arms if epoch_boundary(arm)]
    return present(
        figures.make("timeline", partial(timeline, timed)),
        telemetry.low_load(timed),
        figures.make("timeline-windows", partial(windows_close, timed)),
        *(
            figures.make(f"timeline-epochs-{arm.slot.lower()}", partial(epochs_close, timed, arm))
            for arm in boundaries[:MOST_BOUNDARIES]
        ),
        telemetry.telemetry_sources(seen),
    )


def why(seen: RunView, figures: FigureMaker, suspects: Table) -> Section | None:
    """Where the time goes; parts that were timed in one run share a timeline, told elsewhere."""
    return Section("load", tell("Where the time goes"), (suspects, *(told(seen, figures) if seen.alone else ()))) \
        if seen.arms else None  # fmt: skip
