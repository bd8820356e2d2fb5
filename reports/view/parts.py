"""What a run does: train, sample, or both; a run of both is told in two halves, each with its own words."""

from __future__ import annotations

from dataclasses import replace

from harness.record.events import (
    Epoch,
    Losses,
    Overhead,
    ParityResult,
    Peak,
    SampleAgreement,
    SamplesDrawn,
    StepCost,
    SyncProof,
    Trap,
    Verdict,
    Window,
)
from harness.record.writer import RecordedRun
from reports.suites.sampling.facts import is_sampling
from reports.view.run import RunView, view
from reports.view.words import EITHER, SAMPLING, TRAINING, Unit

SUITE = "sample-speed"
# More blocks than a run can have.
MOST_BLOCKS = 10_000


def samples(run: RecordedRun) -> bool:
    """Whether the run draws images: by its suite, or by what it recorded."""
    if run.started and run.started.suite == SUITE:
        return True
    batches = any(window.kind in ("sample", "sweep") for window in run.of(Window))
    return batches or bool(run.of(Trap) or run.of(SamplesDrawn) or run.of(SampleAgreement))


def trains(run: RecordedRun) -> bool:
    """Whether the run trains: what does not sample does, and what recorded anything of a training."""
    own = any(losses.randomness == "native" for losses in run.of(Losses))
    if own or run.of(Epoch) or any(window.kind == "free" for window in run.of(Window)):
        return True
    if run.started:
        return run.started.suite != SUITE
    return not samples(run)


def unit_of(run: RecordedRun) -> Unit:
    """The words for a step of the whole run."""
    if not samples(run):
        return TRAINING
    return EITHER if trains(run) else SAMPLING


def whole(run: RecordedRun) -> RunView:
    """The run with the words that hold for all of it."""
    return view(run, unit_of(run))


def halves(seen: RunView) -> tuple[RunView, ...]:
    """The run itself; where it trains and samples, its training and then its sampling.

    A block does the one or the other; what belongs to no block is in both halves.
    """
    if seen.unit is not EITHER:
        return (seen,)
    drawn = {window.block for window in seen.run.of(Window) if window.kind in ("sample", "sweep")}
    # A block whose processes all failed has no window, but a number of its part.
    match seen.declared("by_part", SAMPLING.doing, "block_numbers"):
        case [int(first), int(last)] if first <= last < first + MOST_BLOCKS:
            drawn |= set(range(first, last + 1))
    return part(seen, drawn, TRAINING), part(seen, drawn, SAMPLING)


def part(seen: RunView, drawn: set[int], unit: Unit) -> RunView:
    """One half of a run, in which the blocks `drawn` sample and all others train."""
    wanted = unit is SAMPLING

    def belongs(event: object) -> bool:
        if isinstance(event, Verdict):
            return is_sampling(event) == wanted
        if isinstance(event, Trap):
            return wanted
        if isinstance(event, ParityResult):
            # It compares training steps; that both draw the same images is shown beside it.
            return not wanted
        if isinstance(event, StepCost | Peak | Overhead | SyncProof) and event.part is not None:
            return (event.part == SAMPLING.doing) == wanted
        block = getattr(event, "block", None)
        return block is None or (block in drawn) == wanted

    run = replace(seen.run, events=tuple(event for event in seen.run.events if belongs(event)))
    return view(run, unit, seen.t0_ns)
