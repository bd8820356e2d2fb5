"""The first lines of a journal: of a new run, or of one that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from harness.bench import plain
from harness.ledger import Ledger
from harness.plan import declared
from harness.record.events import (
    DatasetRecorded,
    EnvironmentRecorded,
    Finding,
    PairRecorded,
    Resumed,
    RunStarted,
    StepCost,
)
from harness.record.run import RecordedRun, lasting, unfinished_blocks
from harness.record.writer import RunWriter
from harness.run.resolve import Job
from impls.recipe.flops import forward_flop_per_image


@dataclass(frozen=True)
class Opening:
    """A job, and what was found where it begins.

    Attributes:
        job: what was asked for.
        environment: the machine.
        dataset: the images; None for a suite that needs none.
        findings: what is worth knowing before anything runs.
        changed: how the machine differs from the one before, where the run goes on in spite of it.
    """

    job: Job
    environment: EnvironmentRecorded
    dataset: DatasetRecorded | None = None
    findings: Sequence[Finding] = ()
    changed: Finding | None = None


def begin(opening: Opening, ledger: Ledger) -> None:
    """Write how a run begins, or how it goes on."""
    known: set[str] = set()
    if opening.job.resumed is None:
        ledger.writer.append(run_started(ledger.writer.path.name, opening.job))
        _describe(opening, ledger.writer)
    else:
        _go_on(opening, opening.job.resumed, ledger)
        # The machine may be busy now that was not then; what is known already need not be said twice.
        known = {finding.code for finding in opening.job.resumed.of(Finding)}
    for finding in opening.findings:
        if finding.code not in known:
            ledger.find(finding)


def run_started(run_id: str, job: Job) -> RunStarted:
    """The first line of a journal."""
    first = job.plans[0]
    own = {name: plain(recipe) for plan in job.plans for name, recipe in plan.part.recipes().items()}
    return RunStarted(
        run_id=run_id, suite=first.suite.name, started_utc=utc_now(), command=list(job.command),
        arms=first.entries(), bench=job.options.model_dump(mode="json"), experiment=plain(job.recipe),
        config_sha256=job.recipe.sha256(),
        declared={**declared(job.plans, job.recipe), **own, "device": first.device, "device_reason": job.device_reason,
                  **({"aliases": dict(job.aliases)} if job.aliases else {})})


def _go_on(opening: Opening, resumed: RecordedRun, ledger: Ledger) -> None:
    """Say which blocks are measured again, and what has changed."""
    ledger.goes_on(resumed)
    ledger.writer.append(Resumed(resumed_utc=utc_now(), discarded_blocks=unfinished_blocks(resumed)))
    _describe(opening, ledger.writer, resumed)
    before = resumed.last(EnvironmentRecorded)
    if before is not None and lasting(before) != lasting(opening.environment):
        ledger.writer.append(opening.environment)
    if opening.changed is not None:
        ledger.find(opening.changed)


def _describe(opening: Opening, writer: RunWriter, resumed: RecordedRun | None = None) -> None:
    """Write what every journal begins with, unless the run that goes on has it: a kill may have come before."""
    recipe, pair = opening.job.recipe, opening.job.pair
    costs = [StepCost(forward_flop_per_image=forward_flop_per_image(recipe.model), part=part.name, step_flop=flop)
             for plan in opening.job.plans if (part := plan.timed) and (flop := part.step_flop(recipe)) is not None]
    own = None if pair is None else PairRecorded(name=pair.path.name, sha256=pair.sha256, files=dict(pair.hashes))
    for event in (opening.environment, opening.dataset, own, *costs):
        had = resumed.of(type(event)) if resumed is not None and event is not None else []
        if event is not None and not any(getattr(old, "part", None) == getattr(event, "part", None) for old in had):
            writer.append(event)


def utc_now() -> str:
    """Now, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
