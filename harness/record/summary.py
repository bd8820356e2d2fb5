"""The content of `run.json`: a run's journal in short, as other programs read it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from harness.record.events import (
    SCHEMA_VERSION,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Finding,
    Quality,
    RunEnded,
    Verdict,
)
from harness.record.run import RecordedRun

SUMMARY = "run.json"
VERDICT_KEYS = ("metric", "ratio", "ci_low", "ci_high", "blocks", "word", "reason", "next_action")


def summary(run: RecordedRun) -> dict[str, Any]:
    """The content of `run.json`: plain JSON, NaN and infinities as null."""
    started, environments, dataset = run.started, run.of(EnvironmentRecorded), run.last(DatasetRecorded)
    end = run.last(RunEnded)
    cases = {case.case_id: case for case in run.of(Case)}
    content = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.path.name,
        "suite": started.suite if started else None,
        "started_utc": started.started_utc if started else None,
        "status": run.status,
        "exit_code": end.exit_code if end else None,
        "wall_s": end.wall_s if end else None,
        "command": started.command if started else None,
        "config": {"bench": started.bench, "experiment": started.experiment} if started else None,
        "config_sha256": started.config_sha256 if started else None,
        "declared": started.declared if started else None,
        "environment": environments[-1].model_dump(exclude={"type", "t_ns"}) if environments else None,
        "earlier_environments": [one.model_dump(exclude={"type", "t_ns"}) for one in environments[:-1]],
        "dataset": dataset.model_dump(exclude={"type", "t_ns"}) if dataset else None,
        "arms": [{"slot": slot, "name": name} for slot, name in run.arms.items()],
        "cases": [_case(case, run.arms) for case in cases.values()],
        "findings": [finding.model_dump(exclude={"type", "t_ns"}) for finding in run.of(Finding)],
        "verdicts": [_verdict(verdict, run.arms) for verdict in run.of(Verdict)],
        "quality": [_quality(result, run.arms) for result in run.of(Quality)],
        "damage": run.damage,
        "files": files(run.path),
    }
    plain: dict[str, Any] = _finite(content)
    return plain


def files(path: Path) -> list[dict[str, Any]]:
    """Every file of a run folder with its size; the summary itself is left out because it changes by being written."""
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [
        {"path": file.relative_to(path).as_posix(), "bytes": file.stat().st_size}
        for file in found
        if file != path / SUMMARY
    ]


def _case(case: Case, arms: dict[str, str]) -> dict[str, Any]:
    plain = case.model_dump(exclude={"type", "t_ns"})
    return {**plain, "slot": case.arm, "arm": arms.get(case.arm) if case.arm else None}


def _verdict(verdict: Verdict, arms: dict[str, str]) -> dict[str, Any]:
    plain = {key: getattr(verdict, key) for key in VERDICT_KEYS}
    if verdict.cell is not None:
        plain["cell"] = verdict.cell
    names = {"arm_a": arms.get(verdict.arm_a, verdict.arm_a), "arm_b": arms.get(verdict.arm_b, verdict.arm_b)}
    return {"metric": plain.pop("metric"), **names, **plain}


def _quality(result: Quality, arms: dict[str, str]) -> dict[str, Any]:
    plain = result.model_dump(exclude={"type", "t_ns", "arm"})
    return {"slot": result.arm, "arm": arms.get(result.arm, result.arm), **plain}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
