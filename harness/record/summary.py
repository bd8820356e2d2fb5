"""`run.json`: a run's journal in short, as other programs read it; one model, written and read by it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from harness.record.events import (
    SCHEMA_VERSION,
    ArmEntry,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Event,
    Finding,
    Quality,
    RunEnded,
    RunStarted,
    Verdict,
)
from harness.record.run import RecordedRun, read_run
from impls.errors import UsageError
from impls.recipe.precision import Precision
from messages import tell

SUMMARY = "run.json"
MOST_BYTES = 20_000_000
# What a verdict has only where several looks were planned.
LOOK = ("look", "looks", "look_alpha", "alpha")
# The lines that it tells of, which are few: it is written after every block.
SUMMARISED = (RunStarted, RunEnded, DatasetRecorded, EnvironmentRecorded, Case, Finding, Verdict, Quality)


class _Forgiving(BaseModel):
    """Reads what others may have written: a field that is not as it should be has its default instead."""

    model_config = ConfigDict(frozen=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_default(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError:
            return cls.model_fields[str(info.field_name)].get_default(call_default_factory=True)


class Decided(_Forgiving):
    """A verdict, its arms by name: `ratio` is time A / time B."""

    metric: str | None = None
    arm_a: str | None = None
    arm_b: str | None = None
    ratio: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    blocks: int | None = None
    word: str | None = None
    reason: str | None = None
    next_action: str | None = None
    cell: str | None = None
    precision: Precision | None = None
    alpha: float | None = None
    look: int | None = None
    looks: int | None = None
    look_alpha: float | None = None
    look_reached: bool = True

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        absent = {name for name in ("cell", "precision", *LOOK) if getattr(self, name) is None}
        # Of a single look at the end nothing need be said.
        absent |= {"alpha", "look_reached"} if self.look is None else set()
        return {name: value for name, value in handler(self).items() if name not in absent}


class Named(_Forgiving):
    """An arm: its letter in the run, and its text in `--arms`."""

    slot: str | None = None
    name: str | None = None


class Summary(_Forgiving):
    """The content of `run.json`; lines of the journal stand in it without type and stamp.

    Attributes:
        config: the resolved options as `bench` and the resolved recipe as `experiment`.
        declared: what was fixed before any measurement.
        cases: the newest word on each.
        files: every file of the run folder with its size, but for the summary itself, which changes by being written.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str | None = None
    suite: str | None = None
    started_utc: str | None = None
    status: str | None = None
    exit_code: int | None = None
    wall_s: float | None = None
    command: list[str] | None = None
    config: dict[str, Any] | None = None
    config_sha256: str | None = None
    declared: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    earlier_environments: list[dict[str, Any]] = []
    dataset: dict[str, Any] | None = None
    arms: list[Named] = []
    cases: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    verdicts: list[Decided] = []
    quality: list[dict[str, Any]] = []
    damage: list[str] = []
    files: list[dict[str, Any]] = []

    def text(self) -> str:
        """As JSON, NaN and infinities as null."""
        return json.dumps(_finite(self.model_dump()), indent=2, allow_nan=False) + "\n"


def summary(run: RecordedRun) -> Summary:
    """A run in short."""
    started, end, dataset = run.started, run.last(RunEnded), run.last(DatasetRecorded)
    environments = [_plain(one) for one in run.of(EnvironmentRecorded)]
    told = {} if started is None else {
        "suite": started.suite, "started_utc": started.started_utc, "command": started.command,
        "config": {"bench": started.bench, "experiment": started.experiment}, "config_sha256": started.config_sha256,
        "declared": started.declared, "arms": [_plain(arm) for arm in started.arms]}
    return Summary(
        run_id=run.path.name, **told, status=run.status, exit_code=end.exit_code if end else None,
        wall_s=end.wall_s if end else None, environment=environments[-1] if environments else None,
        earlier_environments=environments[:-1], dataset=_plain(dataset) if dataset else None,
        cases=[{**_plain(case), "slot": case.arm, "arm": _name(run, case.arm)} for case in run.of(Case)],
        findings=[_plain(finding) for finding in run.of(Finding)],
        verdicts=[Decided(**{**_plain(one), "arm_a": _name(run, one.arm_a), "arm_b": _name(run, one.arm_b)})
                  for one in run.of(Verdict)],
        quality=[{"slot": one.arm, "arm": _name(run, one.arm), **_plain(one, "arm")} for one in run.of(Quality)],
        damage=run.damage, files=files(run.path))


def read_summary(path: Path) -> Summary:
    """`run.json`, or the same from the journal where the run ended before writing it.

    Raises:
        UsageError: neither can be read, in one line.
    """
    file = path / SUMMARY
    if not file.is_file():
        return summary(read_run(path))
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(tell("{file} is larger than {most} bytes", file=SUMMARY, most=MOST_BYTES))
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(tell("{file} cannot be read: {error}", file=SUMMARY, error=error.strerror or error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(tell("{file} is not JSON: {error}", file=SUMMARY, error=error)) from error
    if not isinstance(data, dict):
        raise UsageError(tell("{file} holds no JSON object", file=SUMMARY))
    return Summary.model_validate(data)


def files(path: Path) -> list[dict[str, Any]]:
    """Every file of a run folder with its size, but for the summary itself and hidden ones."""
    return [{"path": file.relative_to(path).as_posix(), "bytes": file.stat().st_size}
            for file in sorted(path.rglob("*"))
            if file.is_file() and not file.name.startswith(".") and file != path / SUMMARY]


def _name(run: RecordedRun, slot: str | None) -> str | None:
    return run.arms.get(slot, slot) if slot else None


def _plain(line: Event | ArmEntry, *without: str) -> dict[str, Any]:
    return line.model_dump(exclude={"type", "t_ns", *without})


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
