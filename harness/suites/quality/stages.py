"""The work of the quality part: train or take weights, draw sets of images, have a feature network judge them.

The tools of `impls` do it, each in a process of its own; all of them go on where a killed run left off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bench import Bench
from harness.processes.session import WorkerFailedError
from harness.record.events import ArmSlot, Case, Finding, ImagesSampled, ReferenceFeatures, Trained
from harness.record.events import Quality as Judged
from harness.record.findings import FEW_IMAGES, ROUGH_EXTRAPOLATION
from harness.record.run import RecordedRun
from harness.suites.quality.part import JUDGING, Quality
from harness.suites.quality.steps import draw_set, evaluate, train_to
from harness.suites.sampling.cells import Cell, cheapest
from impls.errors import UsageError
from messages import recorded, shown


@dataclass(frozen=True)
class Stages:
    """What the work starts from.

    Attributes:
        bench: the run, with the plan of this part.
        part: what is wanted.
        recorded: what an interrupted run holds already.
        reference: the feature network and the real images that every set of the run is held against.
    """

    bench: Bench
    part: Quality
    recorded: RecordedRun
    reference: ReferenceFeatures | None = None

    @property
    def evaluation(self) -> list[str]:
        """How sets are judged, as options of the tool; see `python -m impls.evaluate --help`."""
        part, bench = self.part, self.bench
        options = {
            "reference": bench.dataset, "device": bench.plan.device, "seed": bench.plan.seed % 2**32,
            **{name: getattr(part, name) for name in JUDGING},
            # "auto" is decided once in a run.
            **({"features": self.reference.extractor} if self.reference else {}),
        }
        return [f"--{name}={value}" for name, value in options.items() if value is not None]


def run_stages(job: Stages) -> None:
    """Everything that the plan wants and the journal does not hold yet.

    Raises:
        TimeIsUpError: the user's time limit is over.
        UsageError: something the user can mend, found before anything was measured.
    """
    reference = check_reference(job)
    if reference is None:
        return
    job = replace(job, reference=reference)
    stages: Sequence[int | None] = job.part.milestones or (None,)
    lost: set[ArmSlot] = set()
    for number, stage in enumerate(stages):
        last, since = stage == stages[-1], (stages[number - 1] if number else None) or 0
        for slot in job.bench.plan.slots:
            if stage is not None and slot not in lost and not _train(job, slot, stage, since):
                lost.add(slot)
        for cell in job.part.cells if last else (cheapest(job.part.cells),):
            sets = [one for slot in job.bench.plan.slots
                    if slot not in lost and (one := _set(job, slot, cell, stage))]
            if sets:
                _judge(job, sets, nearest=last and cell == nearest_cell(job.part.cells))
    for slot in job.bench.plan.slots:
        if slot not in lost and any(case.case_id == f"quality-{slot}" for case in job.recorded.of(Case)):
            _measured(job, f"quality-{slot}", slot)
    for slot in lost:
        job.bench.ledger.case(Case(case_id=f"quality-{slot}", arm=slot, block=None, status="skipped",
                                   reason=recorded("its training failed")))


def nearest_cell(cells: Sequence[Cell]) -> Cell:
    """The cell whose images are held against the training images one by one: the one with the most network calls."""
    return max(cells, key=lambda cell: cell.steps)


def check_reference(job: Stages) -> ReferenceFeatures | None:
    """The feature network and the real images, before hours of training; None where they cannot be had."""
    case = "quality-reference"
    if not job.recorded.of(ReferenceFeatures):
        try:
            evaluate(job.bench, job.evaluation, (), case, False, job.recorded, None)
        except WorkerFailedError as error:
            if error.cause == "usage" and not job.bench.ledger.anything_measured:
                raise UsageError(shown(error.message)) from error
            job.bench.ledger.fail(case, job.bench.plan.slots[0], None, error, case)
            return None
    _measured(job, case, None)
    return job.bench.writer.run.last(ReferenceFeatures)


def _measured(job: Stages, case: str, slot: ArmSlot | None) -> None:
    """Record a case; a kill may have come between its last line and this one."""
    if not any(old.case_id == case and old.status == "measured" for old in job.recorded.of(Case)):
        job.bench.ledger.measured(Case(case_id=case, arm=slot, block=None, status="measured", log=f"logs/{case}.log"))


def _train(job: Stages, slot: ArmSlot, steps: int, since: int) -> bool:
    bench, case = job.bench, f"train-{slot}-{steps}"
    done = [event for event in job.recorded.of(Trained) if (event.arm, event.steps) == (slot, steps)]
    if not done:
        if job.part.training is None:
            raise RuntimeError("a training without its recipe")
        try:
            trained = train_to(bench, slot, steps, since, job.part.training, job.part.data_root, case)
        except WorkerFailedError as error:
            bench.ledger.fail(case, slot, None, error, case)
            return False
        bench.writer.append(trained)
    _measured(job, case, slot)
    return True


def _set(job: Stages, slot: ArmSlot, cell: Cell, stage: int | None) -> ImagesSampled | None:
    """The set of one arm, drawn now or before; None where it cannot be drawn."""
    bench, case = job.bench, case_of("images", cell, stage, slot)
    for event in job.recorded.of(ImagesSampled):
        if (event.arm, event.cell, event.train_steps) == (slot, cell.name, stage):
            _measured(job, case, slot)
            return event
    weights = job.part.weights[bench.plan.arm(slot).name] if stage is None else checkpoint_of(bench, slot, stage)
    try:
        drawn = draw_set(bench, slot, cell, stage, weights, job.part.images, job.part.eta, case)
    except WorkerFailedError as error:
        bench.ledger.fail(case, slot, None, error, case)
        return None
    bench.writer.append(drawn)
    _measured(job, case, slot)
    return drawn


def checkpoint_of(bench: Bench, slot: ArmSlot, stage: int) -> Path:
    """The checkpoint that the training of an arm left at a milestone."""
    return bench.writer.path / next(event.checkpoint for event in reversed(bench.writer.run.of(Trained))
                                    if (event.arm, event.steps) == (slot, stage))


def _judge(job: Stages, sets: Sequence[ImagesSampled], nearest: bool) -> None:
    """Have the sets of all arms of one cell judged together."""
    bench, first = job.bench, sets[0]
    cell = next(cell for cell in job.part.cells if cell.name == first.cell)
    case = case_of("quality", cell, first.train_steps)
    have = {one.arm for one in job.recorded.of(Judged)
            if (one.cell, one.train_steps) == (cell.name, first.train_steps)}
    if have >= {one.arm for one in sets} and any(
            old.case_id == case and old.status == "measured" for old in job.recorded.of(Case)):
        return
    try:
        results = evaluate(bench, job.evaluation, sets, case, nearest, job.recorded, job.reference)
    except WorkerFailedError as error:
        bench.ledger.fail(case, first.arm, None, error, case)
        return
    for result in results:
        bench.progress.say(result.sentence(bench.plan.arm(result.arm).name))
        for warning in result.warnings:
            bench.ledger.find_once(_finding(warning))
    _measured(job, case, None)


def _finding(warning: str) -> Finding:
    if "infinitely many" in warning:  # English
        return ROUGH_EXTRAPOLATION.found(warning)
    return FEW_IMAGES.found(warning)


def case_of(what: str, cell: Cell, stage: int | None, slot: ArmSlot | None = None) -> str:
    """The name of a case, of its log and of its files."""
    return "-".join(str(part) for part in (what, slot, cell.name, stage) if part is not None)
