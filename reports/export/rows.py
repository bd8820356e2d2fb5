"""From a journal to the rows of the exported tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

from harness.record.events import BlockState, Case, DatasetRecorded, Quality, Sample, Verdict, Window
from harness.record.run import RecordedRun
from reports.export.schema import CaseRow, QualityRow, RunRow, SampleRow, StepRow, VerdictRow, WindowRow
from reports.view.run import nested, spent_ns

Kind = TypeVar("Kind")


def tables(run: RecordedRun) -> dict[str, list[tuple[Any, ...]]]:
    """Table -> its rows."""
    run_id, arms = run.path.resolve().name, run.arms
    dirty = {state.block: state.dirty for state in run.of(BlockState)}
    cases = {case.case_id: case for case in run.of(Case)}
    return {
        "runs": [_run(run, run_id)],
        "steps": [row for window in run.of(Window) for row in _steps(window, run_id, arms, dirty)],
        "windows": [_window(window, run_id, arms, dirty) for window in run.of(Window)],
        "verdicts": [_verdict(verdict, run_id, arms) for verdict in run.of(Verdict)],
        "cases": [
            CaseRow(run_id, case.case_id, case.arm, arms.get(case.arm) if case.arm else None, case.block, case.status,
                    case.reason, case.log)
            for case in cases.values()
        ],
        "samples": [
            SampleRow(run_id, sample.t_ns, sample.source, quantity, finite(value))
            for sample in run.of(Sample)
            for quantity, value in sample.values.items()
        ],
        "quality": [row for quality in run.of(Quality) for row in _quality(quality, run_id, arms)],
    }  # fmt: skip


def finite(value: float | None) -> float | None:
    """A number; None where it is none, or infinite in 64 bits."""
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None


def _run(run: RecordedRun, run_id: str) -> RunRow:
    started, data = run.started, run.last(DatasetRecorded)
    experiment = started.experiment if started else {}

    def setting(kind: type[Kind], source: Any, *keys: str) -> Kind | None:
        value = nested(source, keys)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    return RunRow(
        run_id,
        started.suite if started else None,
        started.started_utc if started else None,
        run.status,
        setting(str, started.declared if started else {}, "device"),
        setting(str, experiment, "preset"),
        data.name if data else None,
        setting(int, experiment, "train", "batch_size"),
        setting(int, experiment, "sample", "batch_size"),
        setting(int, experiment, "seed"),
        started.config_sha256 if started else None,
    )


def _steps(window: Window, run_id: str, arms: dict[str, str], dirty: dict[int, bool]) -> Iterator[StepRow]:
    start_ns = window.start_ns
    for step, step_ns in enumerate(window.step_ns):
        yield StepRow(run_id, window.arm, arms.get(window.arm), window.block, window.pair, window.position, window.kind,
                      step, start_ns, step_ns, window.cell, window.images, dirty.get(window.block))  # fmt: skip
        start_ns += step_ns


def _window(window: Window, run_id: str, arms: dict[str, str], dirty: dict[int, bool]) -> WindowRow:
    others_cpu_ns = sum(window.others_cpu_ns.values()) if window.others_cpu_ns else None
    return WindowRow(run_id, window.arm, arms.get(window.arm), window.block, window.pair, window.position, window.kind,
                     window.start_ns, window.end_ns, window.steps, spent_ns(window), window.cell, window.images,
                     others_cpu_ns, dirty.get(window.block))  # fmt: skip


def _verdict(verdict: Verdict, run_id: str, arms: dict[str, str]) -> VerdictRow:
    return VerdictRow(run_id, verdict.metric, verdict.cell, verdict.arm_a, arms.get(verdict.arm_a), verdict.arm_b,
                      arms.get(verdict.arm_b), finite(verdict.ratio), finite(verdict.ci_low), finite(verdict.ci_high),
                      verdict.blocks, verdict.word, verdict.reason, verdict.next_action, finite(verdict.mean_ratio),
                      finite(verdict.sign_flip_p), verdict.further_blocks, finite(verdict.alpha))  # fmt: skip


def _quality(quality: Quality, run_id: str, arms: dict[str, str]) -> Iterator[QualityRow]:
    for figure in quality.figures:
        yield QualityRow(run_id, quality.arm, arms.get(quality.arm), quality.cell, quality.train_steps,
                         quality.extractor, quality.label, quality.images, figure.metric, finite(figure.value),
                         finite(figure.ci_low), finite(figure.ci_high), figure.reason)  # fmt: skip
