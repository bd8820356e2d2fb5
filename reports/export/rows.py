"""From a journal to the rows of the exported tables."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, TypeVar

from harness.record.events import BlockState, Case, DatasetRecorded, Event, Sample, Verdict, Window
from harness.record.run import RecordedRun
from reports.export.schema import OF_SUITES, CaseRow, RunRow, SampleRow, StepRow, VerdictRow, WindowRow
from reports.view.run import nested
from reports.view.windows import spent_ns

Kind = TypeVar("Kind")


def tables(run: RecordedRun) -> dict[str, list[tuple[Any, ...]]]:
    """Table -> its rows."""
    run_id, arms = run.path.resolve().name, run.arms
    dirty = {state.block: state.dirty for state in run.of(BlockState)}

    def row(kind: type[Any], event: Event, **more: Any) -> Any:
        """What the event holds under the names of the row's columns, and `more`."""
        told: dict[str, Any] = {"run_id": run_id, **dict(event), **more}
        slot: Any = told.get("arm")
        block: Any = told.get("block")
        told |= {"arm_slot": slot, "arm": arms.get(slot), "dirty": dirty.get(block)}
        return kind(*(finite(told[name]) if isinstance(told[name], float) else told[name] for name in kind._fields))

    return {
        "runs": [_run(run, run_id)],
        "steps": [
            row(StepRow, window, step=step, start_ns=start_ns, step_ns=step_ns)
            for window in run.of(Window)
            for step, (step_ns, start_ns) in enumerate(
                zip(window.step_ns, accumulate(window.step_ns, initial=window.start_ns), strict=False))
        ],
        "windows": [
            row(WindowRow, window, spent_ns=spent_ns(window),
                others_cpu_ns=sum(window.others_cpu_ns.values()) if window.others_cpu_ns else None)
            for window in run.of(Window)
        ],
        "verdicts": [
            row(VerdictRow, verdict, arm_slot_a=verdict.arm_a, arm_a=arms.get(verdict.arm_a),
                arm_slot_b=verdict.arm_b, arm_b=arms.get(verdict.arm_b))
            for verdict in run.of(Verdict)
        ],
        "cases": [row(CaseRow, case) for case in run.of(Case)],
        "samples": [
            row(SampleRow, sample, quantity=quantity, value=finite(value))
            for sample in run.of(Sample)
            for quantity, value in sample.values.items()
        ],
        **{name: [row(table.kind, event, **more) for event, more in table.told(run)]
           for name, table in OF_SUITES.items()},
    }  # fmt: skip


def finite(value: float | None) -> float | None:
    """A number; None where it is none, or infinite in 64 bits."""
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None


def _run(run: RecordedRun, run_id: str) -> RunRow:
    started, data = run.started, run.last(DatasetRecorded)
    experiment, declared = (started.experiment, started.declared) if started else ({}, {})

    def setting(kind: type[Kind], source: Any, *keys: str) -> Kind | None:
        value = nested(source, keys)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    def batch(section: str) -> int | None:
        """As the first part declares it that takes any; of runs that declare none, the recipe's."""
        if nested(declared, ("batch_sizes",)) is None:
            return setting(int, experiment, section, "batch_size")
        told = (setting(int, declared, "batch_sizes", part, section) for part in run.parts)
        return next((size for size in told if size is not None), None)

    return RunRow(
        run_id,
        started.suite if started else None,
        started.started_utc if started else None,
        run.status,
        setting(str, declared, "device"),
        setting(str, experiment, "preset"),
        data.name if data else None,
        batch("train"),
        batch("sample"),
        setting(int, experiment, "seed"),
        started.config_sha256 if started else None,
    )
