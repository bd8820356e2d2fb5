"""What runs inside the measured process: loops around a `step` that stamp and do nothing else.

Stamps are CLOCK_MONOTONIC (`time.perf_counter_ns` on Linux), so that they compare across processes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from harness.protocol import sampling, timing, training
from impls.backend import Method, Sampler, Stepper, Trainer

Clock = Callable[[], int]


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection inside: it would hit one step in many, at the interpreter's choice."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def stepwise(stepper: Stepper, steps: int, clock: Clock) -> timing.StepTimes:
    """Steps synchronised one by one; nothing is pending before the first."""
    stamps = [0] * (steps + 1)
    step, synchronize = stepper.step, stepper.synchronize
    synchronize()
    with undisturbed():
        stamps[0] = clock()
        for index in range(1, steps + 1):
            step()
            synchronize()
            stamps[index] = clock()
    return timing.StepTimes(start_ns=stamps[:-1], end_ns=stamps[-1],
                              step_ns=[after - before for before, after in zip(stamps, stamps[1:], strict=False)])


def free(stepper: Stepper, steps: int, clock: Clock) -> timing.Span:
    """Steps synchronised at the ends only: what a training job gets."""
    step = stepper.step
    stepper.synchronize()
    with undisturbed():
        start = clock()
        for _ in range(steps):
            step()
        stepper.synchronize()
        end = clock()
    return timing.Span(start_ns=start, end_ns=end, steps=steps)


def epochs(trainer: Trainer, count: int, steps: int, clock: Clock) -> training.EpochTimes:
    """Whole epochs of `steps` steps, synchronised between them; a gap ends when the next first batch is there."""
    trainer.loader_wait_ns()
    done: list[training.EpochTime] = []
    step = trainer.step
    stamps = [0] * steps
    for _ in range(count):
        trainer.synchronize()
        with undisturbed():
            start = clock()
            for index in range(steps):
                stamps[index] = clock()
                step()
            trainer.synchronize()
            end = clock()
        waits = trainer.loader_wait_ns()
        gap = stamps[0] - done[-1].end_ns + (waits[0] if waits else 0) if done else None
        done.append(training.EpochTime(start_ns=start, end_ns=end, gap_ns=gap, step_start_ns=stamps[:],
                                       loader_wait_ns=waits))
    return training.EpochTimes(epochs=done)


def overhead(stepper: Stepper, pairs: int, steps: int, clock: Clock) -> timing.OverheadTimes:
    """A bare loop and a harness window of as many synchronised steps, alternating; whole calls are timed."""
    bare: list[int] = []
    harness: list[int] = []
    stepper.synchronize()
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            start = clock()
            if which:
                stepwise(stepper, steps, clock)
                harness.append(clock() - start)
            else:
                for _ in range(steps):
                    stepper.step()
                    stepper.synchronize()
                bare.append(clock() - start)
    return timing.OverheadTimes(bare_ns=bare, harness_ns=harness)


def prove_sync(stepper: Stepper, short: int, long: int, clock: Clock) -> timing.SyncEvidence:
    """Pending work before and after a synchronisation, and the time of `short` and of `long` free-running steps.

    Where steps have losses, reading them after the long run tells whether its end was the end of the work: enqueueing
    alone takes k times as long for k times the steps, too.
    """
    stepper.synchronize()
    base = stepper.pending_work()
    stepper.step()
    before = stepper.pending_work()
    stepper.synchronize()
    after = stepper.pending_work()
    few = free(stepper, short, clock)
    read: Callable[[], object] | None = getattr(stepper, "losses", None)
    if read is not None:
        read()
    many, residue_ns = free(stepper, long, clock), None
    if read is not None:
        start = clock()
        read()
        residue_ns = clock() - start
    return timing.SyncEvidence(pending_before=before, pending_after=after, pending_base=base, residue_ns=residue_ns,
                                 short_ns=few.end_ns - few.start_ns, long_ns=many.end_ns - many.start_ns)


def batch(sampler: Sampler, method: Method, steps: int, images: int, seed: int, clock: Clock) -> timing.Span:
    """One whole batch; it has been read to the host when it ends, so nothing is left to wait for."""
    sampler.synchronize()
    with undisturbed():
        start = clock()
        sampler.sample(images, seed, method, steps)
        end = clock()
    return timing.Span(start_ns=start, end_ns=end, steps=steps)


class _EnoughError(Exception):
    """The rehearsal is over."""


def rehearse(sampler: Sampler, method: Method, steps: int, images: int, seed: int, calls: int) -> None:
    """The first `calls` network calls of a batch, so that whatever it needs is compiled."""

    def stop(done: int, _read: object) -> None:
        if done >= calls:
            raise _EnoughError

    with suppress(_EnoughError):
        sampler.sample(images, seed, method, steps, on_step=stop)
    sampler.synchronize()


def trap(sampler: Sampler, steps: int, images: int, seed: int, clock: Clock) -> sampling.TrapTimes:
    """What a clock says that does not wait for the device, and what it says after waiting."""
    sampler.synchronize()
    with undisturbed():
        start = clock()
        sampler.enqueue(images, seed, steps)
        asked = clock()
        sampler.synchronize()
        end = clock()
    return sampling.TrapTimes(unsynchronised_ns=asked - start, synchronised_ns=end - start)
