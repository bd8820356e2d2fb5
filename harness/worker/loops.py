"""Loops around a `step` that stamp and do nothing else.

Stamps are CLOCK_MONOTONIC (`time.perf_counter_ns` on Linux), so that they compare across processes.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.collector import without_collector
from harness.protocol import timing
from impls.backend import Backend, Isolated, Mark, Stepper
from impls.recipe.isolated import Spec

Clock = Callable[[], int]


def stepwise(stepper: Stepper, command: timing.Stepwise, clock: Clock) -> timing.StepTimes:
    """Steps synchronised one by one; nothing is pending before the first."""
    steps = command.steps
    stamps = [0] * (steps + 1)
    step, synchronize = stepper.step, stepper.synchronize
    synchronize()
    with without_collector():
        stamps[0] = clock()
        for index in range(1, steps + 1):
            step()
            synchronize()
            stamps[index] = clock()
    return timing.StepTimes(start_ns=stamps[:-1], end_ns=stamps[-1],
                            step_ns=[after - before for before, after in zip(stamps, stamps[1:], strict=False)])


def phased(stepper: Stepper, command: timing.Phased, clock: Clock) -> timing.PhaseTimes:
    """Steps cut into their phases, where the arm offers that; nothing is pending before the first."""
    cut: Callable[[Mark], None] | None = getattr(stepper, "step_in_phases", None)
    found: dict[str, list[int]] = {}
    if cut is None:
        return timing.PhaseTimes(phase_ns=found)
    stamps: list[tuple[str, int]] = []
    stepper.synchronize()
    with without_collector():
        for _ in range(command.steps):
            stamps.append(("", clock()))
            cut(lambda name: stamps.append((name, clock())))
    for (_, before), (name, after) in zip(stamps, stamps[1:], strict=False):
        if name:
            found.setdefault(name, []).append(after - before)
    return timing.PhaseTimes(phase_ns=found)


def operate(backend: Backend, command: timing.Operate, clock: Clock) -> timing.OperatorTimes:
    """Windows of one operator alone, where the arm offers that and has it; its first runs may compile."""
    offered: Callable[[Spec, int, bool], Isolated | None] | None = getattr(backend, "operator", None)
    operator = None if offered is None else offered(command.spec, command.batch, command.training)
    if operator is None:
        return timing.OperatorTimes(offered=offered is not None, runs=0, window_ns=[])
    operator.run(2)
    start = clock()
    operator.run(1)
    runs = max(1, command.window_ns // max(1, clock() - start))
    found = []
    with without_collector():
        for _ in range(command.windows):
            start = clock()
            operator.run(runs)
            found.append(clock() - start)
    return timing.OperatorTimes(offered=True, runs=runs, window_ns=found)


def free(stepper: Stepper, command: timing.Free, clock: Clock) -> timing.Span:
    """Steps synchronised at the ends only: what a training job gets."""
    step, steps = stepper.step, command.steps
    stepper.synchronize()
    with without_collector():
        start = clock()
        for _ in range(steps):
            step()
        stepper.synchronize()
        end = clock()
    return timing.Span(start_ns=start, end_ns=end, steps=steps)


def overhead(stepper: Stepper, command: timing.Overhead, clock: Clock) -> timing.OverheadTimes:
    """A bare loop and a harness window of as many synchronised steps, alternating; whole calls are timed."""
    bare: list[int] = []
    harness: list[int] = []
    steps, window = command.steps, timing.Stepwise(steps=command.steps)
    stepper.synchronize()
    for pair in range(command.pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            start = clock()
            if which:
                stepwise(stepper, window, clock)
                harness.append(clock() - start)
            else:
                for _ in range(steps):
                    stepper.step()
                    stepper.synchronize()
                bare.append(clock() - start)
    return timing.OverheadTimes(bare_ns=bare, harness_ns=harness)


def prove_sync(stepper: Stepper, command: timing.ProveSync, clock: Clock) -> timing.SyncEvidence:
    """Pending work before and after a synchronisation, and the time of few and of many free-running steps.

    Where steps have losses, reading them after the long run tells whether its end was the end of the work: enqueueing
    alone takes k times as long for k times the steps, too.
    """
    stepper.synchronize()
    base = stepper.pending_work()
    stepper.step()
    before = stepper.pending_work()
    stepper.synchronize()
    after = stepper.pending_work()
    few = free(stepper, timing.Free(steps=command.steps_short), clock)
    read: Callable[[], object] | None = getattr(stepper, "losses", None)
    if read is not None:
        read()
    many, residue_ns = free(stepper, timing.Free(steps=command.steps_long), clock), None
    if read is not None:
        start = clock()
        read()
        residue_ns = clock() - start
    return timing.SyncEvidence(pending_before=before, pending_after=after, pending_base=base, residue_ns=residue_ns,
                               short_ns=few.end_ns - few.start_ns, long_ns=many.end_ns - many.start_ns)
