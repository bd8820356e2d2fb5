"""What a run does: train, sample, or both; a run of both is told in two halves, each with its own words."""

from __future__ import annotations

from dataclasses import replace

from harness.record.events import (
    Epoch,
    Losses,
    ParityResult,
    SampleAgreement,
    SamplesDrawn,
    Trap,
    Verdict,
    Window,
)
from harness.record.run import RecordedRun
from reports.suites.sampling.facts import is_sampling
from reports.view.run import RunView, view
from reports.view.words import EITHER, SAMPLING, TRAINING, Unit

SUITE = "sample-speed"


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
    """The run itself; where it trains and samples, its training and then its sampling."""
    return tuple(part(seen, unit) for unit in (TRAINING, SAMPLING)) if seen.unit is EITHER else (seen,)


def part(seen: RunView, unit: Unit) -> RunView:
    """One half of a run."""
    wanted = unit is SAMPLING

    def belongs(event: object) -> bool:
        if isinstance(event, Verdict):
            return is_sampling(event) == wanted
        # It compares training steps; that both draw the same images is shown beside it.
        return not (wanted and isinstance(event, ParityResult))

    run = seen.run.part(unit.doing)
    return view(replace(run, events=tuple(filter(belongs, run.events))), unit, seen.t0_ns)
