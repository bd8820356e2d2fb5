"""The page to read first: what worked, what did not and why, and what the GPU did meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.machine import gpu
from harness.processes.session import log_tail
from harness.record.events import EnvironmentRecorded, Sample
from harness.record.run import RecordedRun, read_run
from messages import marked, shown, tell, words

# Lines of the log of what failed; a crash leaves two stacks.
TAIL = 60
TOLD = ("gpu_driver", "gpu_cuda_driver", "version_torch", "version_jittor", "python", "compiler", "kernel",
        "git_commit", "source_sha256")
# What a result hangs on; the program itself is told by the hash of its source.
GROUND = tuple(name for name in TOLD if name != "git_commit")

Status = Literal["done", "failed", "skipped"]
STATUSES: Mapping[Status, str] = {"done": marked("done"), "failed": marked("failed"), "skipped": marked("skipped")}


@dataclass(frozen=True)
class Result:
    """How a part ended.

    Attributes:
        name: of the part.
        what: it did, in English.
        command: the whole command line.
        ground: driver, libraries and program that it was found on.
        status: how it ended.
        seconds: it took.
        told: one line for people, in English.
        run: the run folder that it left, inside the evidence.
    """

    name: str
    what: str
    command: list[str]
    ground: dict[str, str | int | float | bool | None]
    status: Status
    seconds: float
    told: str
    run: str | None = None


def markdown(folder: Path, machine: EnvironmentRecorded, results: Sequence[Result]) -> str:
    """The page.

    Args:
        folder: of the evidence; links lead into it.
        machine: its facts.
        results: of the parts so far.
    """
    known = {name: value for name in TOLD if (value := machine.facts.get(name)) is not None}
    report, log = words("report", "log")
    rows = [f"| {one.name} | {tell(STATUSES[one.status])} | {one.seconds:.0f} | {_cell(shown(one.told))} | "
            f"{f'[{report}]({one.run}/report.md), ' if one.run else ''}"
            f"{'' if one.status == 'skipped' else f'[{log}](logs/{one.name}.log)'} |" for one in results]
    ran = [(one.name, read_run(folder / one.run)) for one in results if one.run]
    failed = [one.name for one in results if one.status == "failed"]
    return "\n".join([
        f"# {tell('GPU check')}", "",
        f"GPU: {shown(gpu.words()) or tell('NVML names none')}, {uuid_of(machine)}", "",
        *(f"- {name}: {value}" for name, value in known.items()), "",
        _head(words("part", "result", "seconds", "told", "more")), "|---|---|---|---|---|", *rows, "",
        _head(words("telemetry of", "GPU", "readings", "utilisation, %", "power, W", "memory, GiB")),
        "|---|---|---|---|---|---|",
        *(line for name, run in ran for line in _telemetry(name, run)), "",
        *(line for name in failed for line in _log_of(folder, name))])


def _telemetry(name: str, run: RecordedRun) -> list[str]:
    """A line of the summary for every GPU that a run has readings of."""
    readings = [sample for sample in run.of(Sample) if sample.source.startswith("gpu:")]

    def mean(source: str, quantity: str, unit: float) -> str:
        values = [float(value) for sample in readings
                  if sample.source == source and (value := sample.values.get(quantity)) is not None]
        return f"{sum(values) / len(values) / unit:.1f}" if values else "n/a"

    return [f"| {name} | {source} | {sum(sample.source == source for sample in readings)} | "
            f"{mean(source, 'utilisation_percent', 1)} | {mean(source, 'power_mw', 1000)} | "
            f"{mean(source, 'memory_used_bytes', gpu.GIB)} |" for source in sorted({one.source for one in readings})]


def _log_of(folder: Path, name: str) -> list[str]:
    return [f"## {name}", "", "```", *log_tail(folder / "logs" / f"{name}.log", TAIL), "```", ""]


def uuid_of(machine: EnvironmentRecorded) -> str:
    """Of the GPU that is measured on."""
    return str(machine.facts.get(f"{machine.facts.get('gpu_measured')}_uuid"))


def _head(names: Sequence[str]) -> str:
    return f"| {' | '.join(names)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
