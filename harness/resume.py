"""`--resume RUN`: go on with an interrupted run, exactly as it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import FREE_ON_RESUME, PROG, BenchConfig
from harness.events import (
    ArmSlot,
    BlockState,
    Case,
    EnvironmentRecorded,
    Epoch,
    Event,
    Peak,
    RunStarted,
    SamplesDrawn,
    Trap,
)
from harness.store import RecordedRun, read_run
from impls.common.cli import alias, command_line
from impls.common.config import ExperimentConfig, validated
from impls.common.weights import Weights
from impls.errors import UsageError


@dataclass(frozen=True)
class Resumption:
    """An interrupted run and what its continuation must keep to."""

    run: RecordedRun
    config: BenchConfig
    experiment: ExperimentConfig
    device: str


def resumption(argv: Sequence[str]) -> Resumption:
    """What a command line with `--resume` continues.

    Raises:
        UsageError: no such run, nothing left to do, or options that differ from those of the run.
    """
    words = [alias(word) for word in argv]
    asked = command_line(words, BenchConfig(), PROG)
    path = Path(asked.resume or "")
    run = read_run(path)
    started = run.started
    if started is None:
        raise UsageError(f"--resume {path}: the first line of its journal is damaged: start a new run")
    if run.status == "complete":
        raise UsageError(f"--resume {path}: that run is complete: nothing is left to do")
    recorded = _recorded(path, started)
    if asked.config is not None:
        raise UsageError(f"--resume {path}: takes its configuration from the run: leave --config out")
    config = command_line(words, recorded, PROG)
    changed = [name for name in BenchConfig.model_fields
               if name not in FREE_ON_RESUME and getattr(config, name) != getattr(recorded, name)]
    if changed:
        name = changed[0]
        raise UsageError(f"--resume {path}: --{name.replace('_', '-')} was {getattr(recorded, name)!r} in that run and "
                         f"cannot become {getattr(config, name)!r}: leave it out or start a new run")
    return Resumption(run, config, validated(started.experiment, f"{path}: experiment"),
                      str(started.declared.get("device", "cpu")))


def check_machine(run: RecordedRun, now: EnvironmentRecorded) -> None:
    """Refuse to go on where a fact that must match has changed.

    Raises:
        UsageError: the first such fact.
    """
    before = run.last(EnvironmentRecorded)
    for name in before.starred if before else []:
        if before is not None and before.facts.get(name) != now.facts.get(name):
            raise UsageError(f"--resume {run.path}: {name} was {before.facts.get(name)!r} and is "
                             f"{now.facts.get(name)!r} now: start a new run")


def origin(given: Weights | None) -> str:
    """Where the sampled weights come from, for the journal."""
    return "random, the same in every arm" if given is None else f"{given.description}, SHA-256 {given.sha256()[:12]}"


def check_weights(run: RecordedRun, given: Weights | None) -> None:
    """Refuse to go on with other weights.

    Raises:
        UsageError: the file or its content has changed.
    """
    before = run.last(SamplesDrawn)
    if before is not None and before.weights != origin(given):
        raise UsageError(f"--resume {run.path}: it sampled from {before.weights}, now there are {origin(given)}: "
                         "start a new run")


def finished_blocks(run: RecordedRun) -> dict[int, BlockState]:
    """Blocks that every arm finished: kept."""
    failed = {case.block for case in run.of(Case) if case.status != "measured"}
    return {state.block: state for state in run.of(BlockState) if state.block not in failed}


def unfinished_blocks(run: RecordedRun) -> list[int]:
    """Blocks that left lines but did not finish: measured again."""
    seen = {block for event in run.events if (block := _block(event)) is not None and block >= 0}
    return sorted(seen - finished_blocks(run).keys())


def extras_done(run: RecordedRun, gone: Sequence[int], epochs: bool, sampling: bool) -> set[ArmSlot]:
    """Arms whose once-a-run measurements are there.

    Args:
        run: the interrupted run.
        gone: blocks that are measured again; what was measured in them does not count.
        epochs: whether epochs belong to the run.
        sampling: whether it is a sampling suite.
    """
    done = {peak.arm for peak in run.of(Peak)}
    if sampling:
        done &= {trap.arm for trap in run.of(Trap) if trap.block not in gone}
    elif epochs:
        done &= {epoch.arm for epoch in run.of(Epoch) if epoch.block not in gone}
    last = {case.case_id: case.status for case in run.of(Case)}
    return {arm for arm in done if "failed" not in [last.get(f"{part}-{arm}") for part in ("extras", "trap", "epochs")]}


def _block(event: Event) -> int | None:
    return getattr(event, "block", None)


def _recorded(path: Path, started: RunStarted) -> BenchConfig:
    data: dict[str, Any] = {**started.bench, "resume": None, "quiet": False, "dry_run": False, "config": None}
    try:
        return BenchConfig.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"--resume {path}: that run was made by another version of this program: "
                         "start a new run") from error
