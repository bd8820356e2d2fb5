"""What a run starts from, and the lines that its journal begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from harness.bench import plain
from harness.options import BenchConfig
from harness.part import Timed
from harness.plan import Plan, declared
from harness.record.events import DatasetRecorded, EnvironmentRecorded, Finding, RunStarted, StepCost
from harness.record.run import RecordedRun
from impls.recipe.config import ExperimentConfig
from impls.recipe.flops import forward_flop_per_image


@dataclass(frozen=True)
class Request:
    """What a run starts from.

    Attributes:
        config: the options.
        command: the command line, for the record.
        environment: the machine.
        findings: what is worth knowing about the machine before anything runs.
        dataset: the images; None for a suite that needs none.
        device_reason: why the arms run on this device.
        resumed: the run that is continued, or None.
        plans: the parts of the run.
        changed: how the machine differs from the one before, where the run goes on in spite of it.
    """

    config: BenchConfig
    command: Sequence[str]
    environment: EnvironmentRecorded
    findings: Sequence[Finding]
    dataset: DatasetRecorded | None
    device_reason: str
    resumed: RecordedRun | None = None
    plans: tuple[Plan, ...] = ()
    changed: Finding | None = None


def step_cost(experiment: ExperimentConfig, part: Timed) -> StepCost:
    """What a step costs, whatever it is a step of."""
    return StepCost(forward_flop_per_image=forward_flop_per_image(experiment.model), part=part.name,
                    step_flop=part.step_flop(experiment))


def run_started(run_id: str, request: Request, plans: Sequence[Plan], experiment: ExperimentConfig) -> RunStarted:
    """The first line of a journal."""
    plan = plans[0]
    own = {name: plain(recipe) for plan in plans for name, recipe in plan.part.recipes().items()}
    return RunStarted(
        run_id=run_id, suite=plan.suite.name, started_utc=utc_now(), command=list(request.command),
        arms=plan.entries(), bench=request.config.model_dump(mode="json"), experiment=plain(experiment),
        config_sha256=experiment.sha256(),
        declared={**declared(plans), **own, "device": plan.device, "device_reason": request.device_reason})


def utc_now() -> str:
    """Now, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
