"""Cold start: what a process costs before its first step is done, and when a dearer start has paid off."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np

from harness.record.events import WorkerStarted
from messages import marked, plural, tell, words
from reports.chapters.answer.key_figures import CACHES, NO_WORKER, WITH_CACHE, arm_rows
from reports.page.blocks import Section, Table, head, present, table_of
from reports.page.data import Data
from reports.page.figures import FigureMaker
from reports.page.plotting import MUTED, PAPER, SERIES, Drawn, legend_above, sheet
from reports.text import Value, duration, missing, semicolons, tick
from reports.view.run import ArmView, RunView, by_cache, start_up_ns
from reports.view.words import Unit

# Stands for the name of the last stage, which is the unit's.
FIRST = ""
# Stage of a start, the worker's field that holds its time, face strength and hatch of its bar.
STAGES = (
    (marked("launch"), "spawn_ns", 0.2, ""),
    (marked("import"), "import_ns", 0.42, "////"),
    (marked("build"), "build_ns", 0.68, "\\\\\\\\"),
    (FIRST, "first_step_ns", 1.0, ""),
)


def stage_name(name: str, unit: Unit) -> str:
    """What a stage is called."""
    return tell(unit.first if name == FIRST else name)


def section(seen: RunView, figures: FigureMaker) -> Section:
    """What starting costs, and when it has paid off where there are arms to compare."""
    drawn = figures.make("cold-start", partial(stacked, seen))
    return Section("cold-start", tell("Cold start"), present(drawn, cold_start(seen), break_even(seen)))


def cold_start(view: RunView) -> Table:
    """Launch, import, build, first step, by the state of the compile cache."""

    def rows(arm: ArmView) -> list[tuple[Value, ...]]:
        return [start_row(state, workers) for state, workers in by_cache(arm.starts).items()]

    stages = (stage_name(name, view.unit) for name, *_ in STAGES)
    found = arm_rows(view, rows, *[missing(tell(NO_WORKER))] * 6)
    heads = head(*words("arm", "compile cache"), *stages, tell("in all"))
    return Table(tell("Starting a process, medians"), heads, found)


def start_row(state: str, workers: Sequence[WorkerStarted]) -> tuple[Value, ...]:
    """Medians of one arm's start-ups with one state of the cache."""

    def median(values: Sequence[int]) -> Value:
        return Value(duration(float(np.median(values))))

    cache = (missing(tell("the backend cannot tell")) if state == "unknown"
             else Value(tell(CACHES[state]), plural(len(workers), "start")))  # fmt: skip
    return (
        cache,
        *(median([getattr(worker, field) for worker in workers]) for _, field, *_ in STAGES),
        median([start_up_ns(w) for w in workers]),
    )


def break_even(view: RunView) -> Table | None:
    """After how many steps the arm with the dearer start has caught up: n* = (C_A - C_B) / (s_B - s_A)."""
    rows = []
    for one, other in view.compared or combinations(view.arms, 2):
        for state in ("cold", "warm", "unknown"):
            rows += break_even_row(view, one, other, state)
    names = words("arms", "compile cache", "start of the first", "start of the second", "break-even")
    caption = tell("Break-even: {steps} after which the slower starter has caught up", steps=tell(view.unit.steps))
    return table_of(caption, names, rows)


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
    label = Value(tell("{one} against {other}", one=one.label, other=other.label)), Value(tell(CACHES[state]))
    cells = [
        Value(duration(cost_ns(workers))) if workers else missing(tell("no such start was recorded"))
        for workers in starts
    ]
    if not starts[0] or not starts[1] or not one.step_ns.size or not other.step_ns.size:
        return [(*label, *cells, missing(tell("a start or a {time} is missing", time=tell(view.unit.time))))]
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
        note = tell("{arm} starts sooner and is no slower per {step}", arm=ahead.label, step=tell(unit.step))
        return Value(tell("at once"), note)
    steps = dearer_ns / saved_ns
    dear = one if dearer_ns > 0 else other
    return Value(unit.counted(int(np.ceil(steps))), tell("from then on {arm} is ahead", arm=dear.label))


def stacked(view: RunView, narrow: bool) -> Drawn | str:
    """Stacked start-up times by arm and state of the compile cache."""
    rows = [(arm, state, workers) for arm in view.arms for state, workers in by_cache(arm.starts).items()]
    if not rows:
        return tell(NO_WORKER)
    if not any(start_up_ns(worker) > 0 for _, _, workers in rows for worker in workers):
        return tell("no start took any time")
    figure, (axis,) = sheet(narrow, 1.1 + 0.36 * len(rows))
    messages, totals = [], []
    data = Data(words("start", "stage", "time, median"))
    for y, (arm, state, workers) in enumerate(rows):
        left = 0.0
        start = (tell("{arm}, {cache}", arm=arm.label, cache=tell(WITH_CACHE[state])) if state != "unknown"
                 else arm.label)  # fmt: skip
        for stage, field, alpha, hatch in STAGES:
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
            data.bar(axis, (left, y - 0.31), (left + seconds, y + 0.31), start, stage_name(stage, view.unit),
                     duration(seconds * 1e9))  # fmt: skip
            left += seconds
        totals.append(left)
        messages.append(tell("{start} {time}", start=start, time=duration(left * 1e9)))
        axis.annotate(duration(left * 1e9), (left, y), (4, 0), textcoords="offset points",  # English
                      va="center", fontsize=8.5)
    for name, _, alpha, hatch in STAGES:
        axis.barh(0, 0, color=MUTED, alpha=alpha, edgecolor=PAPER, label=stage_name(name, view.unit), hatch=hatch)
    axis.set_yticks(
        range(len(rows)),
        [
            beside(tick(arm.label, narrow), tell(WITH_CACHE[state]), narrow) if state != "unknown"
            else tick(arm.label, narrow)
            for arm, state, _ in rows
        ],
    )  # fmt: skip
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, max(totals) * (1.3 if narrow else 1.14))
    axis.grid(axis="y", visible=False)
    first = tell(view.unit.first)
    axis.set_xlabel(tell("seconds to the end of the {first}", first=first) if narrow
                    else tell("seconds from launch to the end of the {first}", first=first))  # fmt: skip
    legend_above(figure, axis, 2 if narrow else 4)
    return Drawn(
        figure,
        tell("Median time to the end of the {first}: {starts}.", first=first, starts=semicolons(messages)),
        tell("Medians over the starts of each kind. A cold cache holds no compiled operator; with a warm one nothing "
             "is compiled."),
        data,
    )  # fmt: skip


def beside(arm: str, cache: str, narrow: bool) -> str:
    """A start beside an axis: on two lines on a phone."""
    return tell("{arm}\n{cache}", arm=arm, cache=cache) if narrow else tell("{arm}, {cache}", arm=arm, cache=cache)
