"""Where the time of a first run went, from its first line to its report: compiling, checking, measuring."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from harness.record.events import BLOCKS, COLD, CORE, GATE, Resumed, RunEnded, WarmUp, WorkerStarted
from harness.record.run import RecordedRun
from messages import marked, tell

WHOLE_CORE, KERNELS = marked("the framework's core"), marked("kernels")
# What `make` notes of the installation, in the environment that it made.
STAMP = ".installed"


def first_run(run: RecordedRun) -> bool:
    """Whether kernels were compiled that later runs find; False of a run that was interrupted."""
    found = {one.cache for one in run.of(WorkerStarted) if one.role != "cold-start"}
    return not run.of(Resumed) and not found.isdisjoint({"cold", "partial"})


def spent(run: RecordedRun, report_s: float) -> dict[str, float]:
    """Seconds from the run's first line to its report, by what they went to; together they are all of it.

    Args:
        run: what was recorded, its end included.
        report_s: what building the report took.
    """
    end = run.last(RunEnded)
    told, whole = (end.spent_s, end.wall_s) if end is not None else ({}, 0.0)
    measuring = [one for one in run.of(WorkerStarted) if one.role == "measure"]
    checking = [one for one in run.of(WorkerStarted) if one.checks]
    compiled, compiled_before = (_seconds(one.compile_ns or 0 for one in some) for some in (measuring, checking))
    starts = _seconds(one.spawn_ns + one.import_ns + one.build_ns for one in measuring)
    warm = _seconds(one.start_ns[-1] + one.step_ns[-1] - one.start_ns[1] for one in run.of(WarmUp)
                    if len(one.start_ns) > 1)
    found = {
        WHOLE_CORE: told.get(CORE, 0.0),
        KERNELS: compiled_before + compiled,
        GATE: told.get(GATE, 0.0) - compiled_before,
        marked("cold starts"): told.get(COLD, 0.0),
        marked("starting processes"): starts,
        marked("warm-up"): warm,
        marked("windows"): told.get(BLOCKS, 0.0) - starts - compiled - warm,
    }
    return {**found, marked("the rest"): whole - sum(found.values()), marked("report"): report_s}


def lines(run: RecordedRun, report_s: float, install_s: float | None) -> list[str]:
    """What a first run took, and what the next one will not; nothing of any other run.

    Args:
        run: what was recorded, its end included.
        report_s: what building the report took.
        install_s: what `make` took to install; None where it did not.
    """
    if not first_run(run):
        return []
    found = spent(run, report_s)
    parts = tell(", ").join(f"{tell(name)} {seconds:.0f} s" for name, seconds in found.items() if seconds >= 0.5)
    whole, once = sum(found.values()), found[WHOLE_CORE] + found[KERNELS]
    took = f"{whole / 60:.1f}"
    return [tell("this first run took {took} min: {parts}", took=took, parts=parts) if install_s is None else
            tell("this first run took {took} min: {parts}; the installation before it: {seconds} s", took=took,
                 parts=parts, seconds=f"{install_s:.0f}"),
            tell("core and kernels are kept: the next run takes about {takes} min", takes=f"{(whole - once) / 60:.1f}")]


def installed_s(environment: Path = Path(sys.prefix)) -> float | None:
    """Seconds that `make` took to install what this interpreter runs with; None where it noted none."""
    with suppress(OSError, ValueError):
        return float((environment / STAMP).read_text(encoding="utf-8"))
    return None


def _seconds(parts_ns: Iterable[int]) -> float:
    return sum(parts_ns) / 1e9
