"""The measured figures as tables, one column per arm: key figures, where the time goes, cold start, throughput."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reports.page.blocks import Table
from reports.text import Value, count, duration, missing, number, percent, plural, signed_percent, size, spread
from reports.view.run import ArmView, RunView, by_cache, facts_of, rate_per_s, start_up_ns

PerArm = Callable[[RunView, ArmView], Value]
NO_WINDOWS = "no stepwise window was measured"
NO_FREE = "no free-running window was measured"
NO_WORKER = "no measuring process got as far as its first step"


def arm_head(view: RunView, first: str) -> tuple[Value, ...]:
    """The head row: what the rows are, then the arms."""
    return (Value(first), *(Value(arm.label, slot=arm.slot) for arm in view.arms))


def per_arm(view: RunView, caption: str, rows: Sequence[tuple[str, PerArm]]) -> Table:
    """A table of one row per quantity and one column per arm."""
    body = tuple((Value(name), *(cell(view, arm) for arm in view.arms)) for name, cell in rows)
    return Table(caption, arm_head(view, "quantity"), body)


def key_figures(view: RunView) -> Table:
    """What people quote."""
    return per_arm(
        view,
        "Key figures per arm",
        [
            ("step time, median", step_time),
            ("images/s, stepwise", lambda v, a: images_per_s(v, a, a.stepwise, NO_WINDOWS)),
            ("images/s, free-running", lambda v, a: images_per_s(v, a, a.free, NO_FREE)),
            ("achieved GFLOP/s", achieved),
            ("share of measured peak", peak_share),
            ("time to first step", first_step),
            ("warm-up", warm_up),
            ("peak host memory", host_memory),
            ("peak device memory", device_memory),
            ("energy per image", energy),
            ("parameters", parameters),
        ],
    )


def step_time(view: RunView, arm: ArmView) -> Value:
    """Median of all stepwise-measured steps, with the middle 80 %."""
    steps = arm.step_ns
    if not steps.size:
        return missing(NO_WINDOWS)
    return Value(duration(float(np.median(steps))), f"{spread(steps)}, {plural(steps.size, view.unit.step)}")


def images_per_s(view: RunView, arm: ArmView, windows: Sequence[object], reason: str) -> Value:
    """All images over all time of the windows."""
    rate = rate_per_s(windows)  # type: ignore[arg-type]
    if rate is None:
        return missing(reason)
    if view.batch_size is None:
        return missing("the batch size is not in the journal")
    return Value(number(rate * view.batch_size), plural(len(windows), "window"))


def flop_rate(view: RunView, arm: ArmView) -> tuple[float, str] | None:
    """Achieved floating-point operations per second, free-running where measured, and which it is."""
    for windows, name in ((arm.free, "free-running"), (arm.stepwise, "stepwise")):
        rate = rate_per_s(windows)
        if rate is not None and view.step_flop:
            return rate * view.step_flop, name
    return None


def achieved(view: RunView, arm: ArmView) -> Value:
    """Analytic cost over measured time."""
    found = flop_rate(view, arm)
    if found is None:
        return missing("the cost of a step was not recorded" if not view.step_flop else "no window was measured")
    return Value(number(found[0] / 1e9), found[1])


def peak_share(view: RunView, arm: ArmView) -> Value:
    """Achieved rate over the best matrix-product rate measured in the same run by any arm."""
    found = flop_rate(view, arm)
    if not view.peak_flops:
        return missing("no peak was measured in this run")
    if found is None:
        return missing("no achieved rate")
    source = f"of {number(view.peak_flops / 1e9)} GFLOP/s, matmul by {view.label(view.peak_slot)}"
    return Value(percent(found[0] / view.peak_flops), source)


def first_step(view: RunView, arm: ArmView) -> Value:
    """Launch to first finished step in the measuring processes, median."""
    workers = arm.workers or arm.starts
    if not workers:
        return missing(NO_WORKER)
    times = [start_up_ns(worker) for worker in workers]
    states = ", ".join(f"{len(group)} {state}" for state, group in by_cache(workers).items() if state != "unknown")
    caches = f", compile cache: {states}" if states else ""
    return Value(duration(float(np.median(times))), f"median of {plural(len(times), 'start')}{caches}")


def warm_up(view: RunView, arm: ArmView) -> Value:
    """Steps until steady, and the detector's class of every process."""
    if not arm.warmups:
        return missing("no warm-up was recorded")
    found = [warm.steady_from for warm in arm.warmups if warm.steady_from is not None]
    classes: dict[str, int] = {}
    for warm in arm.warmups:
        classes[warm.classification] = classes.get(warm.classification, 0) + 1
    note = ", ".join(f"{name} in {times}" for name, times in classes.items())
    note = f"class {note} of {len(arm.warmups)}" if len(classes) > 1 else f"class {next(iter(classes))}"
    capped = sum(1 for warm in arm.warmups if warm.capped)
    note += f"; {capped} of {len(arm.warmups)} stopped by the cap" if capped else ""
    if not found:
        return missing(f"no steady state: {note}")
    low, high = min(found), max(found)
    most = plural(high, view.unit.step)
    return Value(most if low == high else f"{count(low)} to {most}", note)


def host_memory(view: RunView, arm: ArmView) -> Value:
    """The most resident memory of any of the arm's processes."""
    found = [memory.rss_peak_bytes for memory in arm.memory if memory.rss_peak_bytes is not None]
    if not found:
        return missing(memory_reason(arm))
    return Value(size(max(found)), f"worst of {plural(len(found), 'block')}")


def device_memory(view: RunView, arm: ArmView) -> Value:
    """The most device memory held by live tensors."""
    found = [memory.device_peak_bytes for memory in arm.memory if memory.device_peak_bytes is not None]
    if not found:
        return missing(memory_reason(arm))
    reserved = [memory.device_reserved_bytes for memory in arm.memory if memory.device_reserved_bytes is not None]
    return Value(size(max(found)), f"{size(max(reserved))} reserved" if reserved else None)


def memory_reason(arm: ArmView) -> str:
    """Why memory is not known."""
    reasons = [memory.reason for memory in arm.memory if memory.reason]
    return reasons[-1] if reasons else "no memory reading was recorded"


def energy(view: RunView, arm: ArmView) -> Value:
    """Energy of the device over the arm's windows, per image; short windows are the recorder's to warn about."""
    readings = [reading for reading in arm.energy if reading.energy_mj is not None and reading.steps > 0]
    if readings and view.batch_size:
        used_mj = sum(reading.energy_mj or 0 for reading in readings)
        images = sum(reading.steps for reading in readings) * view.batch_size
        span_ns = sum(reading.end_ns - reading.start_ns for reading in readings)
        sources = ", ".join(sorted({reading.source for reading in readings}))
        doubts = sorted({reading.reason for reading in readings if reading.reason})
        note = "; ".join([f"{sources}, over {duration(span_ns)}", *doubts])
        return Value(f"{number(used_mj / images)} mJ", note)
    reasons = [reading.reason for reading in arm.energy if reading.reason]
    reason = reasons[-1] if reasons else view.monitor_reason("gpu") or view.monitor_reason("nvml")
    return missing(reason or "no energy counter was recorded")


def parameters(view: RunView, arm: ArmView) -> Value:
    """Trainable scalars as the workers counted them."""
    found = sorted({worker.parameter_count for worker in arm.all_workers})
    if not found:
        return missing(NO_WORKER)
    return Value(" / ".join(count(n) for n in found), "processes disagree" if len(found) > 1 else None)


def where_time_goes(view: RunView) -> Table:
    """Data loading, compilation and operators: the usual suspects, as measured."""
    return per_arm(
        view,
        "The usual suspects, as measured",
        [
            ("waiting for data, native loader", lambda v, a: loader_share(a, "native")),
            ("waiting for data, resident data", lambda v, a: loader_share(a, "resident")),
            ("gap between epochs, median", epoch_gap),
            ("compilation in the first step", compiling),
            ("slow steps: p99 / median", tail),
            ("attention operator", lambda v, a: operator(a, "attention")),
        ],
    )


def loader_share(arm: ArmView, loader: str) -> Value:
    """Share of the epochs that the training loop spent waiting for a batch."""
    epochs = [epoch for epoch in arm.epochs if epoch.loader == loader and epoch.loader_wait_ns]
    if not epochs:
        return missing(f"no epoch with {loader} data was recorded")
    total_ns = sum(epoch.end_ns - epoch.start_ns for epoch in epochs)
    if total_ns <= 0:
        return missing(f"no epoch with {loader} data took any time")
    waits = np.concatenate([np.asarray(epoch.loader_wait_ns, dtype=float) for epoch in epochs])
    share = float(waits.sum()) / total_ns
    return Value(
        f"{percent(share)} of the epoch",
        f"{duration(float(waits.mean()))} per step, worst {duration(float(waits.max()))}",
    )


def epoch_gap(view: RunView, arm: ArmView) -> Value:
    """From the last step of one epoch to the first of the next."""
    gaps = [epoch.gap_ns for epoch in arm.epochs if epoch.gap_ns is not None]
    if not gaps:
        return missing("fewer than two epochs in a row were recorded")
    return Value(duration(float(np.median(gaps))), f"{plural(len(gaps), 'gap')}, worst {duration(max(gaps))}")


def compiling(view: RunView, arm: ArmView) -> Value:
    """First step less a typical one, by cache state."""
    parts = []
    for state, workers in by_cache(arm.starts).items():
        known = [worker.compile_ns for worker in workers if worker.compile_ns is not None]
        if known:
            parts.append((duration(float(np.median(known))), f"{state} cache"))
    if parts:
        names = (
            " / ".join(name for _, name in parts) if len(parts) > 1 else f"first {view.unit.step} less a typical one"
        )
        return Value(" / ".join(text for text, _ in parts), names)
    firsts, steps = [worker.first_step_ns for worker in arm.workers], arm.step_ns
    if not firsts or not steps.size:
        return missing(NO_WORKER if not firsts else NO_WINDOWS)
    less = float(np.median(firsts)) - float(np.median(steps))
    return Value(duration(less), f"first {view.unit.step} less the median one")


def tail(view: RunView, arm: ArmView) -> Value:
    """How much longer one step in a hundred takes."""
    steps = arm.step_ns
    if steps.size < 100:
        return missing(f"only {plural(steps.size, view.unit.step)}: a p99 needs 100" if steps.size else NO_WINDOWS)
    p99, median = float(np.percentile(steps, 99)), float(np.median(steps))
    if median <= 0:
        return missing(f"the median {view.unit.step} took no time")
    return Value(
        f"{number(p99 / median)}", f"p99 {duration(p99)}, worst {duration(float(steps.max()))}"
    )


def operator(arm: ArmView, name: str) -> Value:
    """An operator choice as the worker proved it."""
    chosen = facts_of(arm, "operators").get(name)
    return Value(str(chosen)) if chosen else missing("the backend names no such operator")


def throughputs(view: RunView) -> Table:
    """Stepwise against free-running."""
    rows = []
    for arm in view.arms:
        stepwise, free = rate_per_s(arm.stepwise), rate_per_s(arm.free)
        batch = view.batch_size
        gain = (
            Value(signed_percent(free / stepwise - 1), "what waiting for every step costs")
            if stepwise and free
            else missing(NO_WINDOWS if not stepwise else NO_FREE)
        )
        rows.append(
            (
                Value(arm.label, slot=arm.slot),
                Value(number(stepwise * batch)) if stepwise and batch else missing(NO_WINDOWS),
                Value(number(free * batch)) if free and batch else missing(NO_FREE),
                gain,
            )
        )
    return Table(
        "Images per second, synchronised after every step and only at the ends of windows",
        (Value("arm"), Value("stepwise"), Value("free-running"), Value("overlap gained")),
        tuple(rows),
    )
