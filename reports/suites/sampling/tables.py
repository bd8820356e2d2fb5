"""Sampling as tables: cells of every arm, the line over network calls, batch sizes, the clock that does not wait."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from harness.record.events import Energy, SampleAgreement, Trap, Window
from messages import count, plural, tell, words
from reports.chapters.answer import key_figures as shared
from reports.page.blocks import Table, head, table_of
from reports.suites.sampling import facts as sampling
from reports.suites.sampling.facts import Interval, Line
from reports.text import DASH, MINUS, Value, commas, duration, missing, number, passed, percent, share, spread
from reports.view.run import ArmView, RunView
from reports.view.windows import spent_ns
from reports.view.words import cell_words, is_ddim, short_cell

# The length of sampling that papers and this project's predecessor quote most.
USUAL = "ddim-50"


def key_figures(view: RunView) -> Table:
    """What people quote of an arm, whatever the cell."""
    return shared.key_figures(view, [(tell("network call, median"), shared.step_time)],
                              [(tell("energy per image"), energy)])


def rate(view: RunView) -> shared.PerFigure:
    """Images per second of the usual cell, or of the first there is."""
    cell = next((one for one in view.cells if one == USUAL), next(iter(view.cells), None))

    def of(view: RunView, arm: ArmView) -> Value:
        windows = sampling.of_cell(arm, cell) if cell else []
        found = sampling.images_per_s(view, windows) if windows else None
        batches = plural(len(windows), "batch", "batches")
        return Value(number(found), batches) if found is not None else missing(tell(sampling.NO_BATCH))

    return tell("images/s, {cell}", cell=short_cell(cell)) if cell else tell("images/s"), of


def batches(view: RunView) -> Table | None:
    """One row per cell and arm: whole batches from noise to uint8 on the host."""
    rows = (batch_row(view, arm, cell) for cell in view.cells for arm in view.arms)
    images = view.batch_size
    names = words("cell", "arm", "time per batch, median", "images/s", "per network call", "GFLOP/s",
                  "of measured peak")
    caption = (
        tell("Whole batches of {images}, from noise to uint8 images on the host", images=plural(images, "image"))
        if images
        else tell("Whole batches, from noise to uint8 images on the host")
    )
    return table_of(caption, names, rows)


def batch_row(view: RunView, arm: ArmView, cell: str) -> tuple[Value, ...]:
    """One cell of one arm."""
    names = Value(cell, cell_words(cell)), Value(arm.label, slot=arm.slot)
    windows = sampling.of_cell(arm, cell)
    if not windows:
        return (*names, missing(tell(sampling.NO_BATCH)), *[missing(tell("no batch"))] * 4)
    times = sampling.times_ns(windows)
    calls = [spent_ns(window) / window.steps for window in windows if window.steps]
    rate = sampling.images_per_s(view, windows)
    return (
        *names,
        Value(duration(float(np.median(times))), commas([spread(times), plural(len(windows), "batch", "batches")])),
        Value(number(rate)) if rate else missing(tell("the batch size is not in the journal")),
        Value(duration(float(np.median(calls)))) if calls else missing(tell("no network call was recorded")),
        *cost(view, arm, windows),
    )


def cost(view: RunView, arm: ArmView, windows: Sequence[Window]) -> tuple[Value, Value]:
    """Achieved rate and its share of the peak measured in the same run."""
    achieved, best = sampling.flop_per_s(view, windows), view.peak(arm)
    if achieved is None:
        return missing(tell("the cost of a network call was not recorded")), missing(tell("no achieved rate"))
    told = Value(number(achieved / 1e9))
    if not best:
        return told, missing(tell("no peak was measured in this run"))
    return told, Value(percent(achieved / best.flops))


def peak(view: RunView) -> str | None:
    """What the shares of the peak refer to."""
    found = {best.arm: best for arm in view.arms if (best := view.peak(arm))}
    if not found:
        return None
    told = []
    for slot, best in found.items():
        rate, arm = number(best.flops / 1e9), view.label(slot)
        told.append(
            tell("{rate} GFLOP/s is the best matrix product of this run in TF32, by {arm}", rate=rate, arm=arm)
            if in_tf32(view, slot)
            else tell("{rate} GFLOP/s is the best matrix product of this run, by {arm}", rate=rate, arm=arm)
        )
    return tell("GFLOP/s are the analytic cost of the network calls over the time of whole batches; the peak of "
                "{peaks}.", peaks=tell("; that of ").join(told))


def in_tf32(view: RunView, slot: str) -> bool:
    """Whether an arm proved to compute in TF32."""
    arm = view.arm(slot)
    return arm is not None and bool(arm.info("tf32"))


def energy(view: RunView, arm: ArmView) -> Value:
    """Energy of the device over the sampled batches, per image."""

    def images_in(reading: Energy) -> int:
        # Stamps alone don't tell: a restart of the machine begins them anew.
        own = [window for window in arm.windows("sample") if window.block == reading.block]
        inside = [w for w in own if w.start_ns >= reading.start_ns and w.end_ns <= reading.end_ns]
        return sum(sampling.images_of(view, window) or 0 for window in inside)

    lost = tell("no sampled batch lies within an energy reading")
    return shared.energy(view, arm, images_in, tell("all cells together"), lost)


def lines(view: RunView) -> Table:
    """Time outside the network and time per network call of every arm."""
    level = f"{100 * (1 - sampling.alpha_of(view)):.4g} %"
    return Table(
        tell("Time of a DDIM batch as a line over its network calls, {level} t interval over blocks", level=level),
        head(*words("arm", "intercept: outside the network", "slope: per network call", "fitted in")),
        shared.arm_rows(view, lambda arm: [line_row(sampling.line(view, arm))]),
    )


def line_row(found: Line | str) -> tuple[Value, ...]:
    """One line, or why there is none."""
    if isinstance(found, str):
        return missing(found), missing(found), Value(DASH)
    batches = tell("batches of {calls} network calls", calls=commas(map(count, found.calls)))
    fitted = Value(plural(found.blocks, "block"), batches)
    return with_bounds(found.intercept_ns), with_bounds(found.slope_ns), fitted


def with_bounds(found: Interval) -> Value:
    """A mean time with its interval."""
    if found.low is None or found.high is None:
        return Value(signed(found.mean), tell("one block: no interval"))
    return Value(signed(found.mean), tell("{low} to {high}", low=signed(found.low), high=signed(found.high)))


def signed(ns: float) -> str:
    """A duration that may be below zero: noise can put an intercept there."""
    return duration(ns).replace("-", MINUS)


def where_time_goes(view: RunView) -> Table:
    """Work outside the network beside the suspects of every part."""
    return shared.suspects(view, [(tell("outside the network, per batch"), outside)])


def outside(view: RunView, arm: ArmView) -> Value:
    """The intercept, and what share of the shortest DDIM batch it is."""
    found = sampling.line(view, arm)
    if isinstance(found, str):
        return missing(found)
    least = found.intercept_ns.mean if found.intercept_ns.low is None else found.intercept_ns.low
    if least <= 0:
        return Value(signed(found.intercept_ns.mean), tell("lost in the noise of the batches: it may be none"))
    fewest = found.calls[0]
    times = [w for cell in view.cells if is_ddim(cell) for w in sampling.of_cell(arm, cell)]
    shortest = float(np.median(sampling.times_ns([w for w in times if w.steps == fewest])))
    part = percent(found.intercept_ns.mean / shortest)
    note = tell("{share} of a batch with {calls}", share=part, calls=plural(fewest, "network call"))
    return Value(signed(found.intercept_ns.mean), note)


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
                cells.append(missing(tell("this size was not measured") if arm.windows("sweep") else tell(
                    sampling.NO_SWEEP)))
                continue
            median = duration(float(np.median(sampling.times_ns(windows))))
            batches = plural(len(windows), "batch", "batches")
            cells.append(Value(number(rate), tell("{time} per batch, {batches}", time=median, batches=batches)))
        rows.append((Value(plural(images, "image")), *cells))
    cell = sampling.sweep_cell(view)
    return Table(
        tell("Images per second by batch size, {cell}: description without verdict", cell=cell_words(cell)) if cell
        else tell("Images per second by batch size: description without verdict"),
        shared.arm_head(view, tell("batch")),
        tuple(rows),
    )


def traps(view: RunView) -> Table | None:
    """The same batch by a clock that does not wait and by one that does."""
    if not any(arm.of(Trap) for arm in view.arms):
        return None

    def rows(arm: ArmView) -> list[tuple[Value, ...]]:
        ordered = sorted(arm.of(Trap), key=trapped)
        return [trap_row(list(group)) for _, group in groupby(ordered, key=trapped)]

    found = shared.arm_rows(view, rows, *[missing(tell("not timed both ways in this run"))] * 4)
    names = words("arm", "batch", "without synchronisation", "true time", "too short by a factor of")
    return Table(tell("The same batch timed without synchronisation, and truly"), head(*names), found)


def trapped(trap: Trap) -> tuple[str, int]:
    """What was timed."""
    return trap.cell, trap.images


def trap_row(group: list[Trap]) -> tuple[Value, ...]:
    """All timings of one cell of one arm, medians."""
    unsynchronised = float(np.median([trap.unsynchronised_ns for trap in group]))
    true = float(np.median([trap.synchronised_ns for trap in group]))
    factors = [t.synchronised_ns / t.unsynchronised_ns for t in group if t.unsynchronised_ns > 0]
    return (
        Value(cell_words(group[0].cell), tell("{images}, timed {times}", images=plural(group[0].images, "image"),
                                              times=plural(len(group), "time"))),
        Value(duration(unsynchronised)),
        Value(duration(true)),
        Value(number(float(np.median(factors)))) if factors else missing(tell("no time had passed")),
    )


def agreement(view: RunView, result: SampleAgreement) -> Table:
    """Images of one arm against those of another: each figure beside its tolerance."""
    one, other = view.label(result.arm_a), view.label(result.arm_b)
    rows = (
        (
            Value(tell("values that differ by one level or less")),
            Value(share(result.within_one)),
            Value(tell("at least {share}", share=share(result.tolerance))),
            passed(result.passed),
        ),
        (
            Value(tell("largest difference")),
            Value(plural(result.largest, "level"), tell("of 255")),
            Value(DASH),
            Value(tell("not held to one")),
        ),
    )
    caption = tell("{other} against {one}, {images}, {cell}: {state}", other=other, one=one,
                   images=plural(result.images, "image"), cell=cell_words(result.cell),
                   state=tell("passed") if result.passed else tell("failed"))
    return Table(caption, head(*words("check", "found", "allowed", "result")), rows)
