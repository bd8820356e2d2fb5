"""Figures of every arm as tables, one column each: what people quote, and where the time goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from harness.record.events import Energy, Memory, WarmUp, WorkerStarted
from messages import count, marked, plural, shown, tell
from reports.page.blocks import Table
from reports.text import Value, commas, duration, missing, number, semicolons, size, spread
from reports.view.run import ArmView, RunView, by_cache, facts_of, rate_per_s, start_up_ns

PerArm = Callable[[RunView, ArmView], Value]
# What a figure is called, a message, and what it is for each arm.
PerFigure = tuple[str, PerArm]
Rows = Sequence[PerFigure]
# States of the compile cache.
CACHES = {"cold": marked("cold"), "partial": marked("partial"), "warm": marked("warm"), "unknown": marked("unknown")}
# What a process did before it was steady.
CLASSES = marked("flat"), marked("warmup"), marked("slowdown"), marked("no steady state")
WITH_CACHE = {"cold": marked("cold cache"), "partial": marked("partial cache"), "warm": marked("warm cache"),
              "unknown": marked("unknown cache")}  # fmt: skip
NO_WINDOWS = marked("no stepwise window was measured")
NO_WORKER = marked("no measuring process got as far as its first step")


def arm_head(view: RunView, first: str) -> tuple[Value, ...]:
    """The head row: what the rows are, then the arms."""
    return (Value(tell(first)), *(Value(arm.label, slot=arm.slot) for arm in view.arms))


def arm_rows(
    view: RunView, told: Callable[[ArmView], Sequence[tuple[Value, ...]]], *absent: Value
) -> tuple[tuple[Value, ...], ...]:
    """The rows of every arm, its name first; `absent` stands for those of an arm that has none."""
    return tuple((Value(arm.label, slot=arm.slot), *row) for arm in view.arms for row in told(arm) or [absent])


def per_arm(view: RunView, caption: str, rows: Rows) -> Table:
    """A table of one row per quantity and one column per arm."""
    body = tuple((Value(tell(name)), *(cell(view, arm) for arm in view.arms)) for name, cell in rows)
    return Table(tell(caption), arm_head(view, marked("quantity")), body)


def key_figures(view: RunView, typical: Rows, used: Rows = ()) -> Table:
    """What people quote: `typical` rows come first; `used` tell what was spent besides time and memory."""
    return per_arm(
        view,
        marked("Key figures per arm"),
        [
            *typical,
            (tell("time to {first}", first=tell(view.unit.first)), first_step),
            (marked("warm-up"), warm_up),
            (marked("peak host memory"), host_memory),
            (marked("device memory"), device_memory),
            *used,
            (marked("parameters"), parameters),
        ],
    )


def suspects(view: RunView, own: Rows = ()) -> Table:
    """Compilation, slow steps and operators: the usual suspects, as measured, below those that only this part has."""
    return per_arm(
        view,
        marked("The usual suspects, as measured"),
        [
            *own,
            (tell("compilation in the {first}", first=tell(view.unit.first)), compiling),
            (tell("slow {steps}: p99 / median", steps=tell(view.unit.steps)), tail),
            (marked("attention operator"), lambda v, a: operator(a, "attention")),
        ],
    )


def step_time(view: RunView, arm: ArmView) -> Value:
    """Median of all stepwise-measured steps, with the middle 80 %."""
    steps = arm.step_ns
    if not steps.size:
        return missing(tell(NO_WINDOWS))
    return Value(duration(float(np.median(steps))), commas([spread(steps), view.unit.counted(steps.size)]))


def images_per_s(view: RunView, arm: ArmView, kind: str, reason: str) -> Value:
    """All images over all time of the windows."""
    rate = rate_per_s(arm, kind)
    if rate is None:
        return missing(tell(reason))
    if view.batch_size is None:
        return missing(tell("the batch size is not in the journal"))
    return Value(number(rate * view.batch_size), plural(len(arm.windows(kind)), "window"))


def first_step(view: RunView, arm: ArmView) -> Value:
    """Launch to first finished step in the measuring processes, median."""
    workers = arm.workers or arm.starts
    if not workers:
        return missing(tell(NO_WORKER))
    times = [start_up_ns(worker) for worker in workers]
    states = commas(tell("{n} {state}", n=len(group), state=tell(CACHES[state]))
                    for state, group in by_cache(workers).items() if state != "unknown")  # fmt: skip
    starts = tell("median of {starts}", starts=plural(len(times), "start"))
    caches = [tell("compile cache: {states}", states=states)] if states else []
    return Value(duration(float(np.median(times))), commas([starts, *caches]))


def warm_up(view: RunView, arm: ArmView) -> Value:
    """Steps until steady, and the detector's class of every process."""
    if not arm.of(WarmUp):
        return missing(tell("no warm-up was recorded"))
    found = [warm.steady_from for warm in arm.of(WarmUp) if warm.steady_from is not None]
    classes = Counter(warm.classification for warm in arm.of(WarmUp))
    each = commas(tell("{name} in {times}", name=tell(name), times=times) for name, times in classes.items())
    some = len(classes) > 1
    note = (tell("class {each} of {all}", each=each, all=len(arm.of(WarmUp))) if some
            else tell("class {name}", name=tell(next(iter(classes)))))  # fmt: skip
    capped = sum(1 for warm in arm.of(WarmUp) if warm.capped)
    if capped:
        stopped = tell("{some} of {all} stopped by the cap", some=capped, all=len(arm.of(WarmUp)))
        note = semicolons([note, stopped])
    if not found:
        return missing(tell("no steady state: {note}", note=note))
    low, high = min(found), max(found)
    most = view.unit.counted(high)
    return Value(most if low == high else tell("{low} to {high}", low=count(low), high=most), note)


def host_memory(view: RunView, arm: ArmView) -> Value:
    """The most resident memory of any of the arm's processes."""
    found = [memory.rss_peak_bytes for memory in arm.of(Memory) if memory.rss_peak_bytes is not None]
    if not found:
        return missing(memory_reason(arm))
    return Value(size(max(found)), tell("worst of {blocks}", blocks=plural(len(found), "block")))


def device_memory(view: RunView, arm: ArmView) -> Value:
    """The most that a framework's allocator took, which each tells, and what its tensors held, where it tells.

    It takes from the driver or, on a CPU, from the system.
    """
    taken = [memory.device_reserved_bytes for memory in arm.of(Memory) if memory.device_reserved_bytes is not None]
    if not taken:
        return missing(memory_reason(arm))
    held = [memory.device_peak_bytes for memory in arm.of(Memory) if memory.device_peak_bytes is not None]
    if not held:
        reason = memory_reason(arm)
        note = tell("taken by its allocator; n/a what its tensors held: {reason}", reason=reason)
        return Value(size(max(taken)), note)
    most = size(max(held))
    if max(held) <= max(taken):
        note = tell("taken by its allocator; its tensors at most {most} after the warm-up", most=most)
    else:
        # Runs of before counted from the start: a search held more than was kept.
        note = tell("taken by its allocator; its tensors at most {most} with the warm-up, of which not all was kept",
                    most=most)  # fmt: skip
    return Value(size(max(taken)), note)


def memory_reason(arm: ArmView) -> str:
    """Why memory is not known."""
    reasons = [memory.reason for memory in arm.of(Memory) if memory.reason]
    return shown(reasons[-1]) if reasons else tell("no memory reading was recorded")


def energy(
    view: RunView, arm: ArmView, images_in: Callable[[Energy], int], covers: str | None = None, lost: str | None = None
) -> Value:
    """Energy of the device per image; short windows are the recorder's to warn about.

    Args:
        view: the run.
        arm: whose energy.
        images_in: the images that were worked on during a reading; 0 where it does not count.
        covers: what all readings together cover.
        lost: why readings of energy may not count.
    """
    known = [reading for reading in arm.of(Energy) if reading.energy_mj is not None]
    used = [(reading, images) for reading in known if (images := images_in(reading)) > 0]
    if used:
        per_image_mj = sum(reading.energy_mj or 0 for reading, _ in used) / sum(images for _, images in used)
        sources = ", ".join(sorted({reading.source for reading, _ in used}))
        span_ns = sum(reading.end_ns - reading.start_ns for reading, _ in used)
        doubts = sorted({reading.reason for reading, _ in used if reading.reason})
        read = tell("{sources}, over {time}", sources=sources, time=duration(span_ns))
        notes = [read, *map(shown, doubts), *([covers] if covers else [])]
        return Value(f"{number(per_image_mj)} mJ", semicolons(notes))
    reasons = [reading.reason for reading in arm.of(Energy) if reading.reason]
    reason = reasons[-1] if reasons else view.monitor_reason("gpu") or view.monitor_reason("nvml")
    return missing((lost if known else None) or (shown(reason) if reason else tell("no energy counter was recorded")))


def parameters(view: RunView, arm: ArmView) -> Value:
    """Trainable scalars as the workers counted them."""
    found = sorted({worker.parameter_count for worker in arm.of(WorkerStarted)})
    if not found:
        return missing(tell(NO_WORKER))
    return Value(" / ".join(count(n) for n in found), tell("processes disagree") if len(found) > 1 else None)


def compiling(view: RunView, arm: ArmView) -> Value:
    """First step less a typical one, by cache state."""
    parts = []
    for state, workers in by_cache(arm.starts).items():
        known = [worker.compile_ns for worker in workers if worker.compile_ns is not None]
        if known:
            parts.append((duration(float(np.median(known))), tell(WITH_CACHE[state])))
    first = tell(view.unit.first)
    if parts:
        less = tell("{first} less a typical one", first=first)
        names = " / ".join(name for _, name in parts) if len(parts) > 1 else less
        return Value(" / ".join(text for text, _ in parts), names)
    firsts, steps = [worker.first_step_ns for worker in arm.workers], arm.step_ns
    if not firsts or not steps.size:
        return missing(tell(NO_WORKER if not firsts else NO_WINDOWS))
    more_ns = float(np.median(firsts)) - float(np.median(steps))
    return Value(duration(more_ns), tell("{first} less the median one", first=first))


def tail(view: RunView, arm: ArmView) -> Value:
    """How much longer one step in a hundred takes."""
    steps = arm.step_ns
    if steps.size < 100:
        few = tell("only {steps}: a p99 needs 100", steps=view.unit.counted(steps.size))
        return missing(few if steps.size else tell(NO_WINDOWS))
    p99, median = float(np.percentile(steps, 99)), float(np.median(steps))
    if median <= 0:
        return missing(tell("the median {step} took no time", step=tell(view.unit.step)))
    worst = tell("p99 {late}, worst {worst}", late=duration(p99), worst=duration(float(steps.max())))
    return Value(f"{number(p99 / median)}", worst)


def operator(arm: ArmView, name: str) -> Value:
    """An operator choice as the worker proved it."""
    chosen = facts_of(arm, "operators").get(name)
    return Value(str(chosen)) if chosen else missing(tell("the backend names no such operator"))
