"""What the monitors saw: memory over the run, stretches of low load, which sources worked."""

from __future__ import annotations

from functools import partial

import numpy as np

from harness.record.events import MonitorState
from messages import plural, shown, tell, words
from reports.chapters.evidence.machine import plain
from reports.page.blocks import Section, Table, table_of
from reports.page.data import Data
from reports.page.figures import FigureMaker
from reports.page.plotting import MUTED, SERIES, Drawn, envelope, legend_above, sheet
from reports.text import DASH, Floats, Value, commas, duration, missing, number, semicolons, sentences, size, tag
from reports.view.clock import of_one_boot
from reports.view.run import RunView
from reports.view.timeline import Trough, series, troughs, with_gaps

MOST_ROWS = 6
RSS_KEYS = ("rss_bytes",)
GPU_MEMORY_KEYS = ("memory_used_bytes",)


def low_load(view: RunView) -> Table | None:
    """Stretches of low host load by what was going on in them, those that lost most first."""
    groups: dict[str, list[Trough]] = {}
    for trough in troughs(view):
        # Shares differ from stretch to stretch; who did what is the same.
        doing = semicolons(one.words for one in trough.doing)
        groups.setdefault(doing, []).append(trough)
    rows = []
    for doing, found in list(groups.items())[:MOST_ROWS]:
        spans_ns = [trough.end_ns - trough.start_ns for trough in found]
        load = sum(t.load_percent * ns for t, ns in zip(found, spans_ns, strict=True)) / sum(spans_ns)
        worst = found[0]
        begin, end = ((stamp - view.t0_ns) / 1e9 for stamp in (worst.start_ns, worst.end_ns))
        what = (Value(doing) if doing
                else Value(tell("nothing marked"), tell("between processes, or work without a mark")))  # fmt: skip
        rows.append(
            (
                what,
                Value(plural(len(found), "stretch", "stretches")),
                Value(duration(sum(spans_ns))),
                Value(f"{number(load, 2)} %"),
                Value(f"{begin:.1f}{DASH}{end:.1f} s"),
            )
        )
    names = words("phases of the arms", "how often", "time in all", "host CPU (100 % is one core)", "the worst")
    return table_of(tell("Where the host's load was low, and what was going on"), names, rows)


def telemetry_sources(view: RunView) -> Table | None:
    """Which sources of telemetry worked, with the last recorded reason where something is missing."""
    states = {state.source: state for state in view.run.of(MonitorState)}
    samples, rows = view.samples, []
    for source, state in sorted(states.items()):
        # A worker's process is gone at the end of its block, which takes nothing from what was read before.
        if source in samples:
            seen = plural(len(samples[source]), "sample")
            cell = Value(tell("recorded"), semicolons([seen, *([shown(state.reason)] if state.reason else [])]))
        else:
            cell = missing(shown(state.reason) if state.reason else tell("no sample was recorded"))
        facts = [f"{key.replace('_', ' ')} {plain(value)}" for key, value in state.static.items() if value is not None]
        rows.append((Value(source), cell, Value(commas(facts) or DASH)))
    return table_of(tell("Sources of telemetry"), words("source", "state", "about it"), rows)


def memory(view: RunView, narrow: bool) -> Drawn | str:
    """Resident memory of every arm's processes and memory of the GPU over the run."""
    looks = [(arm, SERIES[arm.slot]) for arm in view.arms]
    lines = [
        (arm.label, tag(arm.label), tell("resident"), look.color, look.line, f"process:{arm.slot}", RSS_KEYS)
        for arm, look in looks
    ]
    gpus = sorted(source for source in view.samples if source.startswith("gpu"))
    lines += [(source, source, tell("used"), MUTED, (0, (1, 1)), source, GPU_MEMORY_KEYS) for source in gpus]
    found = [(*look, *series(view.samples.get(source, []), keys)[:2]) for *look, source, keys in lines]
    found = [line for line in found if np.isfinite(line[-1]).any()]
    if not found:
        reason = view.monitor_reason("process") or view.monitor_reason("host")
        return shown(reason) if reason else tell("no telemetry of memory was recorded")
    figure, (axis,) = sheet(narrow, 2.4)
    messages = []
    since = tell("seconds since {origin}", origin=tell(view.origin))
    data = Data((tell("what"), since, tell("memory, GiB")))
    for name, short, what, color, style, stamps, values in found:
        x, y = memory_line(view, stamps, values)
        data.line(axis, x, y, tell("{name}, {what}", name=name, what=what), lambda at, gib: (f"{at:.2f}", number(gib)))
        axis.plot(x, y, color=color, linestyle=style, label=tell("{name}, {what}", name=short, what=what))
        most = size(float(np.nanmax(values)))
        messages.append(tell("{name} up to {size} {what}", name=name, size=most, what=what))
    axis.set_ylim(bottom=0)
    axis.set_xlabel(since)
    axis.set_ylabel("GiB")
    legend_above(figure, axis, 1 if narrow else 3)
    return Drawn(
        figure,
        tell("Memory: {lines}.", lines=semicolons(messages)),
        sentences(
            tell("Sampled from outside, children included. A line ends where its process does."), view.restarted
        ),
        data,
    )


def memory_line(view: RunView, stamps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Seconds since the start and GiB, broken where samples are missing, thinned out."""
    stamps, values = with_gaps(stamps, values)
    return envelope((stamps - view.t0_ns) / 1e9, values / 2**30, 500)


def section(seen: RunView, figures: FigureMaker) -> Section:
    """Memory over the run, as far as one time axis shows it."""
    return Section("memory", tell("Memory"), (figures.make("memory", partial(memory, of_one_boot(seen))),))
