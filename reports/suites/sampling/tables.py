"""Sampling as tables: cells of every arm, the line over network calls, batch sizes, the clock that does not wait."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from harness.record.events import SampleAgreement, Trap, Window
from reports.chapters.key_figures import (
    compiling,
    device_memory,
    first_step,
    host_memory,
    operator,
    parameters,
    per_arm,
    step_time,
    tail,
    warm_up,
)
from reports.chapters.trust import head, verdict
from reports.page.blocks import Table
from reports.suites.sampling import facts as sampling
from reports.suites.sampling.facts import Interval, cell_words
from reports.text import DASH, MINUS, Value, count, duration, missing, number, percent, plural, share, spread
from reports.view.run import ArmView, RunView, spent_ns


def key_figures(view: RunView) -> Table:
    """What people quote of an arm, whatever the cell."""
    return per_arm(
        view,
        "Key figures per arm",
        [
            ("network call, median", step_time),
            ("time to first network call", first_step),
            ("warm-up", warm_up),
            ("peak host memory", host_memory),
            ("peak device memory", device_memory),
            ("energy per image", energy),
            ("parameters", parameters),
        ],
    )


def batches(view: RunView) -> Table | None:
    """One row per cell and arm: whole batches from noise to uint8 on the host."""
    rows = [batch_row(view, arm, cell) for cell in sampling.cells(view) for arm in view.arms]
    if not rows:
        return None
    images = sampling.batch_images(view)
    of = f" of {plural(images, 'image')}" if images else ""
    names = ("cell", "arm", "time per batch, median", "images/s", "per network call", "GFLOP/s", "of measured peak")
    return Table(f"Whole batches{of}, from noise to uint8 images on the host", head(*names), tuple(rows))


def batch_row(view: RunView, arm: ArmView, cell: str) -> tuple[Value, ...]:
    """One cell of one arm."""
    names = Value(cell, cell_words(cell)), Value(arm.label, slot=arm.slot)
    windows = sampling.of_cell(arm, cell)
    if not windows:
        return (*names, missing(sampling.NO_BATCH), *[missing("no batch")] * 4)
    times = sampling.times_ns(windows)
    calls = [spent_ns(window) / window.steps for window in windows if window.steps]
    rate = sampling.images_per_s(view, windows)
    return (
        *names,
        Value(duration(float(np.median(times))), f"{spread(times)}, {plural(len(windows), 'batch', 'batches')}"),
        Value(number(rate)) if rate else missing("the batch size is not in the journal"),
        Value(duration(float(np.median(calls)))) if calls else missing("no network call was recorded"),
        *cost(view, windows),
    )


def cost(view: RunView, windows: Sequence[Window]) -> tuple[Value, Value]:
    """Achieved rate and its share of the peak measured in the same run."""
    achieved = sampling.flop_per_s(view, windows)
    if achieved is None:
        return missing("the cost of a network call was not recorded"), missing("no achieved rate")
    shown = Value(number(achieved / 1e9))
    if not view.peak_flops:
        return shown, missing("no peak was measured in this run")
    return shown, Value(percent(achieved / view.peak_flops))


def peak(view: RunView) -> str | None:
    """What the shares of the peak refer to."""
    if not view.peak_flops:
        return None
    return (
        f"GFLOP/s are the analytic cost of the network calls over the time of whole batches; the peak of "
        f"{number(view.peak_flops / 1e9)} GFLOP/s is the best matrix product of this run, by "
        f"{view.label(view.peak_slot)}."
    )


def energy(view: RunView, arm: ArmView) -> Value:
    """Energy of the device over the sampled batches, per image; short windows are the recorder's to warn about."""
    used_mj, images, span_ns, doubts, sources = 0, 0, 0, set(), set()
    for reading in arm.energy:
        # Stamps alone don't tell: a restart of the machine begins them anew.
        own = [w for w in arm.batches if w.block == reading.block]
        inside = [w for w in own if w.start_ns >= reading.start_ns and w.end_ns <= reading.end_ns]
        drawn = sum(sampling.images_of(view, window) or 0 for window in inside)
        if reading.energy_mj is not None and drawn:
            used_mj, images = used_mj + reading.energy_mj, images + drawn
            span_ns += reading.end_ns - reading.start_ns
            sources.add(reading.source)
            doubts |= {reading.reason} if reading.reason else set()
    if images:
        note = "; ".join([f"{', '.join(sorted(sources))}, over {duration(span_ns)}", *sorted(doubts)])
        return Value(f"{number(used_mj / images)} mJ", f"{note}; all cells together")
    reasons = [reading.reason for reading in arm.energy if reading.reason]
    reason = reasons[-1] if reasons else view.monitor_reason("gpu") or view.monitor_reason("nvml")
    if any(reading.energy_mj is not None for reading in arm.energy):
        reason = "no sampled batch lies within an energy reading"
    return missing(reason or "no energy counter was recorded")


def lines(view: RunView) -> Table:
    """Time outside the network and time per network call of every arm."""
    rows = []
    for arm in view.arms:
        found = sampling.line(view, arm)
        name = Value(arm.label, slot=arm.slot)
        if isinstance(found, str):
            rows.append((name, missing(found), missing(found), Value(DASH)))
            continue
        calls = ", ".join(count(n) for n in found.calls)
        rows.append(
            (
                name,
                with_bounds(found.intercept_ns),
                with_bounds(found.slope_ns),
                Value(plural(found.blocks, "block"), f"batches of {calls} network calls"),
            )
        )
    level = f"{100 * (1 - sampling.alpha_of(view)):.4g} %"
    return Table(
        f"Time of a DDIM batch as a line over its network calls, {level} t interval over blocks",
        head("arm", "intercept: outside the network", "slope: per network call", "fitted in"),
        tuple(rows),
    )


def with_bounds(found: Interval) -> Value:
    """A mean time with its interval."""
    if found.low is None or found.high is None:
        return Value(signed(found.mean), "one block: no interval")
    return Value(signed(found.mean), f"{signed(found.low)} to {signed(found.high)}")


def signed(ns: float) -> str:
    """A duration that may be below zero: noise can put an intercept there."""
    return duration(ns).replace("-", MINUS)


def where_time_goes(view: RunView) -> Table:
    """Work outside the network, compilation and operators: the usual suspects, as measured."""
    return per_arm(
        view,
        "The usual suspects, as measured",
        [
            ("outside the network, per batch", outside),
            ("compilation in the first network call", compiling),
            ("slow network calls: p99 / median", tail),
            ("attention operator", lambda v, a: operator(a, "attention")),
        ],
    )


def outside(view: RunView, arm: ArmView) -> Value:
    """The intercept, and what share of the shortest DDIM batch it is."""
    found = sampling.line(view, arm)
    if isinstance(found, str):
        return missing(found)
    least = found.intercept_ns.mean if found.intercept_ns.low is None else found.intercept_ns.low
    if least <= 0:
        return Value(signed(found.intercept_ns.mean), "lost in the noise of the batches: it may be none")
    fewest = found.calls[0]
    times = [w for cell in sampling.cells(view) if sampling.is_ddim(cell) for w in sampling.of_cell(arm, cell)]
    shortest = float(np.median(sampling.times_ns([w for w in times if w.steps == fewest])))
    part = percent(found.intercept_ns.mean / shortest)
    return Value(signed(found.intercept_ns.mean), f"{part} of a batch with {plural(fewest, 'network call')}")


def sweep(view: RunView) -> Table | None:
    """Images per second by batch size; a description, because one block measured it."""
    sizes = sampling.sweep_sizes(view)
    if not sizes:
        return None
    rows = []
    for images in sizes:
        cells = []
        for arm in view.arms:
            windows = sampling.swept(arm, images)
            rate = sampling.images_per_s(view, windows)
            if rate is None:
                cells.append(missing(sampling.NO_SWEEP if not arm.sweep else "this size was not measured"))
                continue
            median = duration(float(np.median(sampling.times_ns(windows))))
            cells.append(Value(number(rate), f"{median} per batch, {plural(len(windows), 'batch', 'batches')}"))
        rows.append((Value(plural(images, "image")), *cells))
    cell = sampling.sweep_cell(view)
    words = f", {cell_words(cell)}" if cell else ""
    return Table(
        f"Images per second by batch size{words}: description without verdict",
        (Value("batch"), *(Value(arm.label, slot=arm.slot) for arm in view.arms)),
        tuple(rows),
    )


def traps(view: RunView) -> Table | None:
    """The same batch by a clock that does not wait and by one that does."""
    rows = []
    for arm in view.arms:
        ordered = sorted(arm.traps, key=trapped)
        rows += [trap_row(arm, list(group)) for _, group in groupby(ordered, key=trapped)]
        if not arm.traps:
            rows.append((Value(arm.label, slot=arm.slot), *[missing("not timed both ways in this run")] * 4))
    if not any(arm.traps for arm in view.arms):
        return None
    names = ("arm", "batch", "without synchronisation", "true time", "too short by a factor of")
    return Table("The same batch timed without synchronisation, and truly", head(*names), tuple(rows))


def trapped(trap: Trap) -> tuple[str, int]:
    """What was timed."""
    return trap.cell, trap.images


def trap_row(arm: ArmView, group: list[Trap]) -> tuple[Value, ...]:
    """All timings of one cell of one arm, medians."""
    unsynchronised = float(np.median([trap.unsynchronised_ns for trap in group]))
    true = float(np.median([trap.synchronised_ns for trap in group]))
    factors = [t.synchronised_ns / t.unsynchronised_ns for t in group if t.unsynchronised_ns > 0]
    return (
        Value(arm.label, slot=arm.slot),
        Value(cell_words(group[0].cell), f"{plural(group[0].images, 'image')}, timed {plural(len(group), 'time')}"),
        Value(duration(unsynchronised)),
        Value(duration(true)),
        Value(number(float(np.median(factors)))) if factors else missing("no time had passed"),
    )


def agreement(view: RunView, result: SampleAgreement) -> Table:
    """Images of one arm against those of another: each figure beside its tolerance."""
    one, other = view.label(result.arm_a), view.label(result.arm_b)
    rows = (
        (
            Value("values that differ by one level or less"),
            Value(share(result.within_one)),
            Value(f"at least {share(result.tolerance)}"),
            verdict(result.passed),
        ),
        (
            Value("largest difference"),
            Value(plural(result.largest, "level"), "of 255"),
            Value(DASH),
            Value("not held to one"),
        ),
    )
    state = "passed" if result.passed else "failed"
    what = f"{plural(result.images, 'image')}, {cell_words(result.cell)}"
    return Table(f"{other} against {one}, {what}: {state}", head("check", "found", "allowed", "result"), rows)
