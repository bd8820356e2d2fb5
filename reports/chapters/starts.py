"""Cold start as tables: what a process costs before its first step is done, and when a dearer start has paid off."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from harness.record.events import WorkerStarted
from reports.chapters.key_figures import NO_WORKER
from reports.page.blocks import Table
from reports.text import Value, duration, missing, plural
from reports.view.run import ArmView, RunView, by_cache, start_up_ns
from reports.view.words import Unit


def cold_start(view: RunView) -> Table:
    """Launch, import, build, first step, by the state of the compile cache."""
    rows = []
    for arm in view.arms:
        for state, workers in by_cache(arm.starts).items():
            rows.append(start_row(arm, state, workers))
        if not arm.starts:
            rows.append((Value(arm.label, slot=arm.slot), *[missing(NO_WORKER)] * 6))
    head = ("arm", "compile cache", "launch", "import", "build", f"first {view.unit.step}", "in all")
    return Table("Starting a process, medians", tuple(Value(name) for name in head), tuple(rows))


def start_row(arm: ArmView, state: str, workers: Sequence[WorkerStarted]) -> tuple[Value, ...]:
    """Medians of one arm's start-ups with one state of the cache."""

    def median(values: Sequence[int]) -> Value:
        return Value(duration(float(np.median(values))))

    cache = missing("the backend cannot tell") if state == "unknown" else Value(state, plural(len(workers), "start"))
    return (
        Value(arm.label, slot=arm.slot),
        cache,
        median([w.spawn_ns for w in workers]),
        median([w.import_ns for w in workers]),
        median([w.build_ns for w in workers]),
        median([w.first_step_ns for w in workers]),
        median([start_up_ns(w) for w in workers]),
    )


def break_even(view: RunView) -> Table:
    """After how many steps the arm with the dearer start has caught up: n* = (C_A - C_B) / (s_B - s_A)."""
    rows = []
    for one, other in combinations(view.arms, 2):
        for state in ("cold", "warm", "unknown"):
            rows += break_even_row(view, one, other, state)
    head = ("arms", "compile cache", "start of the first", "start of the second", "break-even")
    return Table(
        f"Break-even: {view.unit.steps} after which the slower starter has caught up",
        tuple(Value(name) for name in head),
        tuple(rows),
    )


def break_even_row(view: RunView, one: ArmView, other: ArmView, state: str) -> list[tuple[Value, ...]]:
    """One pair of arms with one state of the cache; no row where neither start was recorded.

    A backend that compiles nothing starts alike with any cache, so its own start stands for every state.
    """
    groups = by_cache(one.starts), by_cache(other.starts)
    if state == "unknown" and any("cold" in group or "warm" in group for group in groups):
        return []
    if not any(state in group for group in groups):
        return []
    starts = [group.get(state) or (group.get("unknown") if set(group) == {"unknown"} else None) for group in groups]
    label = (Value(f"{one.label} against {other.label}"), Value(state))
    cells = [
        Value(duration(cost_ns(workers))) if workers else missing("no such start was recorded") for workers in starts
    ]
    if not starts[0] or not starts[1] or not one.step_ns.size or not other.step_ns.size:
        return [(*label, *cells, missing(f"a start or a {view.unit.time} is missing"))]
    s_one, s_other = float(np.median(one.step_ns)), float(np.median(other.step_ns))
    c_one, c_other = cost_ns(starts[0]), cost_ns(starts[1])
    return [(*label, *cells, catch_up(one, other, c_one - c_other, s_other - s_one, view.unit))]


def cost_ns(workers: Sequence[WorkerStarted]) -> float:
    """Median time from launch to the first finished step."""
    return float(np.median([start_up_ns(worker) for worker in workers]))


def catch_up(one: ArmView, other: ArmView, dearer_ns: float, saved_ns: float, unit: Unit) -> Value:
    """n* in words, from how much dearer `one` starts and how much it saves per step."""
    if dearer_ns * saved_ns <= 0:
        ahead = one if dearer_ns < 0 or (dearer_ns == 0 and saved_ns > 0) else other
        return Value("at once", f"{ahead.label} starts sooner and is no slower per {unit.step}")
    steps = dearer_ns / saved_ns
    dear = one if dearer_ns > 0 else other
    return Value(f"{plural(int(np.ceil(steps)), unit.step)}", f"from then on {dear.label} is ahead")
