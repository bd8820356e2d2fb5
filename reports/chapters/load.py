"""Figures of the run as a whole: the timeline of load with all marks on one axis, a closer look at it, and memory."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.page.plotting import GRID, INK, MUTED, PAPER, SERIES, Drawn, envelope, sheet
from reports.text import duration, number, plural, size, tag, tick
from reports.view.run import ArmView, Floats, RunView
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
    loader_waits,
    series,
    spans,
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
RSS_KEYS = ("rss_bytes",)
GPU_MEMORY_KEYS = ("memory_used_bytes",)
MOST_STEP_MARKS = 400


def timeline(view: RunView, narrow: bool) -> Drawn | str:
    """Load and phases over the whole run."""
    ends = [span.end_ns for arm in view.arms for span in spans(arm)]
    if not ends:
        return "no arm left a mark in this run"
    stamps = [sample.t_ns for samples in view.samples.values() for sample in samples]
    starts = [span.start_ns for arm in view.arms for span in spans(arm)]
    interval = min([*starts, *stamps]), max([*ends, *stamps])
    if interval[0] >= interval[1]:
        return "all stamps of the journal are the same"
    drawn = draw_timeline(view, narrow, *interval, close=False)
    low = troughs(view)
    words = [
        f"{number((t.end_ns - t.start_ns) / 1e9, 2)} s at {number(t.load_percent, 2)} % while "
        f"{t.doing[0] if t.doing else 'no arm left a mark'}"
        for t in low[:2]
    ]
    alt = f"Load and phases over {duration(interval[1] - interval[0])}."
    epochs = " or epochs" if any(arm.epochs for arm in view.arms) else ""
    if words:
        alt += " Where the host's load was low: " + "; ".join(words) + "."
    return Drawn(
        drawn,
        alt,
        "Above: load; below, on the same axis: what each arm was doing. A trough above a low bar is start-up or "
        f"warm-up; above empty lanes it is time between processes{epochs}. Short phases are drawn at least a "
        f"pixel wide.{restarted(view)}",
    )


def windows_close(view: RunView, narrow: bool) -> Drawn | str:
    """The first alternating windows, enlarged."""
    interval = alternation(view)
    if interval is None:
        return "no window was measured"
    inside = [w for w in alternating(view) if interval[0] <= w.start_ns < interval[1]]
    if not inside:
        return "the measured windows have no length"
    ordered = sorted(inside, key=lambda window: window.start_ns)
    gaps = [two.start_ns - one.end_ns for one, two in zip(ordered, ordered[1:], strict=False)]
    between = f", {duration(float(np.median(gaps)))} apart" if gaps else ""
    batches = ordered[0].kind == "sample"
    names = ("whole batch", "whole batches") if batches else ("measured window", "measured windows")
    windows = plural(len(ordered), *names)
    whole = "this part of the run" if view.restarted else "the run"
    ticks = "" if batches else f" Ticks under a lane: starts of {view.unit.steps}."
    return Drawn(
        draw_timeline(view, narrow, *interval, close=True),
        f"The first {windows} of {whole}, {duration(interval[1] - interval[0])} in all{between}.",
        f"The timeline enlarged: windows of the arms alternate, and a waiting arm computes nothing.{ticks} A "
        f"telemetry sample averages all windows since the sample before it.{restarted(view)}",
    )


def epochs_close(view: RunView, arm: ArmView, narrow: bool) -> Drawn | str:
    """One arm's first epoch boundary, enlarged, with loader waits."""
    interval = epoch_boundary(arm)
    if interval is None:
        return f"{arm.label} ran fewer than two epochs in a row"
    waits = [end - start for start, end in loader_waits(arm) if start < interval[1] and end > interval[0]]
    words = (
        f"{plural(len(waits), 'wait')} for a batch of 1 ms or more, {duration(sum(waits))} together"
        if waits
        else "no wait for a batch of 1 ms or more"
    )
    return Drawn(
        draw_timeline(view, narrow, *interval, close=True),
        f"From one epoch to the next of {arm.label}, {duration(interval[1] - interval[0])}: {words}.",
        "The timeline enlarged around an epoch boundary. Ticks under a lane: starts of steps. Solid bars above a "
        f"lane: waits for a batch.{restarted(view)}",
    )


def restarted(view: RunView) -> str:
    """What a caption adds where the time axis shows a part of the run."""
    return f" {view.restarted}" if view.restarted else ""


def draw_timeline(view: RunView, narrow: bool, start_ns: int, end_ns: int, close: bool) -> Figure:
    """Panels of load above the lanes of the arms, all on one time axis."""
    loads = load_panels(view, start_ns, end_ns)
    arms = [arm for arm in view.arms if any(s.end_ns > start_ns and s.start_ns < end_ns for s in spans(arm))]
    lanes = 0.34 * len(arms) * (1.5 if close else 1) + 0.35
    heights = [0.95] * len(loads) + [lanes]
    figure, axes = sheet(
        narrow, sum(heights) + 1.15 + 0.2 * narrow, len(heights), sharex=True, gridspec_kw={"height_ratios": heights}
    )
    for axis, (title, source, slot) in zip(axes, loads, strict=False):
        draw_load(axis, view, source, slot, (start_ns, end_ns), 160 if narrow else 320)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(0, max(100.0, axis.get_ylim()[1]))
        axis.set_ylabel("%")
        axis.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    floor = axes[-1]
    for y, arm in enumerate(arms):
        draw_lane(floor, view, arm, y, start_ns, end_ns, close)
    floor.set_yticks(range(len(arms)), [tick(arm.label, narrow) for arm in arms])
    floor.set_ylim(len(arms) - 0.4, -0.6)
    floor.grid(axis="y", visible=False)
    for epoch_start in (e.start_ns for arm in view.arms for e in arm.epochs):
        if start_ns <= epoch_start <= end_ns:
            for axis in axes:
                axis.axvline(
                    (epoch_start - view.t0_ns) / 1e9, color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0.5
                )
    floor.set_xlim((start_ns - view.t0_ns) / 1e9, (end_ns - view.t0_ns) / 1e9)
    epochs = "" if narrow or not any(arm.epochs for arm in view.arms) else "; dotted: start of an epoch"
    floor.set_xlabel(f"seconds since {view.origin}{epochs}")
    present = {
        span.phase for arm in view.arms for span in spans(arm) if span.end_ns > start_ns and span.start_ns < end_ns
    }
    handles = [
        Patch(facecolor=MUTED, alpha=alpha, hatch=hatch, edgecolor=PAPER, label=phase)
        for phase, (alpha, _, hatch) in PHASE_LOOK.items()
        if phase in present
    ]
    if close and any(arm.epochs for arm in view.arms):
        handles.append(Patch(facecolor=INK, label="wait for a batch"))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=2 if narrow else 6, handlelength=1.6, columnspacing=1.2
    )
    return figure


def load_panels(view: RunView, start_ns: int, end_ns: int) -> list[tuple[str, str, str | None]]:
    """Title, source and arm of every panel with telemetry in the interval: host, processes, every GPU."""
    inside = {
        source: [sample for sample in samples if start_ns <= sample.t_ns <= end_ns]
        for source, samples in view.samples.items()
    }
    samples = {source: found for source, found in inside.items() if found}
    panels: list[tuple[str, str, str | None]] = []
    for source in sorted(samples):
        if series(samples[source], CPU_KEYS)[2] is None:
            continue
        if source == "host":
            panels.insert(0, ("Host CPU (100 % is one core)", source, None))
        elif source.startswith("gpu"):
            panels.append((f"{source} utilisation", source, None))
    processes = [
        (f"CPU of {tag(arm.label)} (100 % is one core)", f"process:{arm.slot}", arm.slot)
        for arm in view.arms
        if series(samples.get(f"process:{arm.slot}", []), CPU_KEYS)[2]
    ]
    at = 1 if "host" in samples and panels else 0
    return [*panels[:at], *processes, *panels[at:]]


def draw_load(axis: Axes, view: RunView, source: str, slot: str | None, interval: tuple[int, int], most: int) -> None:
    """One source's load as steps: a sample tells of the time since the one before it."""
    stamps, values, _ = series(view.samples[source], CPU_KEYS)
    stamps, values = with_gaps(stamps, values)
    inside = (stamps >= interval[0] - CLOSE_NS) & (stamps <= interval[1] + CLOSE_NS)
    x, y = envelope((stamps[inside] - view.t0_ns) / 1e9, values[inside], most)
    color = SERIES[slot].color if slot else MUTED
    axis.fill_between(x, y, step="pre", color=color, alpha=0.3, linewidth=0)
    axis.step(x, y, where="pre", color=color, linewidth=0.8)


def draw_lane(axis: Axes, view: RunView, arm: ArmView, y: int, start_ns: int, end_ns: int, close: bool) -> None:
    """Phases of one arm as bars; close up also its steps and its waits for batches."""
    color, least = SERIES[arm.slot].color, (end_ns - start_ns) / 1e9 / 1200
    axis.axhline(y, color=GRID, linewidth=0.6, zorder=0.4)
    for phase, (alpha, height, hatch) in PHASE_LOOK.items():
        bars = merged(
            [(span.start_ns, span.end_ns) for span in spans(arm) if span.phase == phase],
            start_ns,
            end_ns,
            0 if close else (end_ns - start_ns) // 600,
        )
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
    marks = [mark for mark in step_marks(arm) if start_ns <= mark <= end_ns]
    if len(marks) <= MOST_STEP_MARKS:
        axis.vlines([(mark - view.t0_ns) / 1e9 for mark in marks], y + 0.33, y + 0.43, color=INK, linewidth=0.6)
    waits = [(begin, end) for begin, end in loader_waits(arm) if end > start_ns and begin < end_ns]
    axis.broken_barh(
        [((begin - view.t0_ns) / 1e9, max((end - begin) / 1e9, least)) for begin, end in waits],
        (y - 0.47, 0.14),
        facecolor=INK,
        linewidth=0,
    )


def merged(bars: list[tuple[int, int]], start_ns: int, end_ns: int, nearer_ns: int) -> list[tuple[int, int]]:
    """Bars inside the interval; those closer together than can be seen become one, which keeps the drawing small."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(bars):
        if end <= start_ns or begin >= end_ns:
            continue
        if found and begin - found[-1][1] < nearer_ns:
            found[-1] = (found[-1][0], max(min(end, end_ns), found[-1][1]))
        else:
            found.append((max(begin, start_ns), min(end, end_ns)))
    return found


def memory(view: RunView, narrow: bool) -> Drawn | str:
    """Resident memory of every arm's processes and memory of the GPU over the run."""
    lines = [(arm, *series(view.samples.get(f"process:{arm.slot}", []), RSS_KEYS)[:2]) for arm in view.arms]
    lines = [(arm, stamps, values) for arm, stamps, values in lines if np.isfinite(values).any()]
    gpus = [
        (source, *series(samples, GPU_MEMORY_KEYS)[:2])
        for source, samples in sorted(view.samples.items())
        if source.startswith("gpu")
    ]
    gpus = [(source, stamps, values) for source, stamps, values in gpus if np.isfinite(values).any()]
    if not lines and not gpus:
        reason = view.monitor_reason("process") or view.monitor_reason("host")
        return reason or "no telemetry of memory was recorded"
    figure, (axis,) = sheet(narrow, 2.4)
    messages = []
    for arm, stamps, values in lines:
        style = SERIES[arm.slot]
        x, y = memory_line(view, stamps, values)
        axis.plot(x, y, color=style.color, linestyle=style.line, label=f"{tag(arm.label)}, resident")
        messages.append(f"{arm.label} up to {size(float(np.nanmax(values)))} resident")
    for source, stamps, values in gpus:
        x, y = memory_line(view, stamps, values)
        axis.plot(x, y, color=MUTED, linestyle=(0, (1, 1)), label=f"{source}, used")
        messages.append(f"{source} up to {size(float(np.nanmax(values)))} used")
    axis.set_ylim(bottom=0)
    axis.set_xlabel(f"seconds since {view.origin}")
    axis.set_ylabel("GiB")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=1 if narrow else 3)
    return Drawn(
        figure,
        "Memory: " + "; ".join(messages) + ".",
        f"Sampled from outside, children included. A line ends where its process does.{restarted(view)}",
    )


def memory_line(view: RunView, stamps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Seconds since the start and GiB, broken where samples are missing, thinned out."""
    stamps, values = with_gaps(stamps, values)
    return envelope((stamps - view.t0_ns) / 1e9, values / 2**30, 500)
