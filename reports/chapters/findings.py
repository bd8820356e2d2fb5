"""What a reader must know before the numbers: recorded findings, and what the journal itself lacks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.record.events import Finding, RunEnded, Verdict
from reports.page.blocks import Note
from reports.suites.quality import cards as quality_cards
from reports.suites.quality import facts as quality
from reports.text import plural
from reports.view.clock import of_one_boot
from reports.view.run import RunView

ORDER = {"error": 0, "warning": 1, "info": 2}


def out(seen: RunView) -> str:
    """The results folder as the run was told."""
    told = seen.bench("out")
    return told if isinstance(told, str) else "results"


def resume(seen: RunView) -> str:
    """The command that goes on with this run."""
    return shlex.join(["python", "run_bench.py", "--resume", f"{out(seen)}/{seen.run.path.name}"])


def notes(seen: RunView) -> tuple[Note, ...]:
    """Recorded findings, the worst first and equal ones once, then what the journal itself lacks."""
    counted: dict[tuple[str, str, str | None, str | None], int] = {}
    for finding in seen.run.of(Finding):
        counted[(finding.severity, finding.message, finding.advice, where(seen, finding))] = (
            counted.get((finding.severity, finding.message, finding.advice, where(seen, finding)), 0) + 1
        )
    found = [
        Note(severity, message, advice, place, times) for (severity, message, advice, place), times in counted.items()
    ]
    said = {finding.message for finding in seen.run.of(Finding)}
    found += quality_cards.notes(seen, said)
    return tuple(sorted([*found, *journal_notes(seen)], key=lambda note: ORDER.get(note.severity, 1)))


def where(seen: RunView, finding: Finding) -> str | None:
    """The arm and block that a finding is about."""
    parts = [
        seen.label(finding.arm) if finding.arm else None,
        f"block {finding.block}" if finding.block is not None else None,
    ]
    return ", ".join(part for part in parts if part) or None


def journal_notes(seen: RunView) -> Sequence[Note]:
    """What a reader must know about the journal: cut off, damaged, partly measured again."""
    run, found = seen.run, []
    if run.status == "interrupted":
        found.append(
            Note(
                "warning",
                "The run was interrupted; the figures cover what was measured until then",
                f"finish it with: {resume(seen)}",
            )
        )
    elif run.status == "unfinished":
        found.append(
            Note(
                "warning",
                "The journal has no end: the run is still going on or was cut off",
                f"if it was cut off, finish it with: {resume(seen)}",
            )
        )
    elif run.status == "failed":
        found.append(Note("error", "Some cases of this run failed; see What was not measured"))
    if run.damage:
        first = run.damage[0]
        more = f" (and {plural(len(run.damage) - 1, 'further line')})" if len(run.damage) > 1 else ""
        found.append(Note("warning", f"The journal is damaged: {first}{more}", "figures leave these lines out"))
    if run.discarded:
        found.append(Note("info", f"{plural(run.discarded, 'event')} were left out: measured again after a resume"))
    if restarted := of_one_boot(seen).restarted:
        found.append(Note("info", f"{restarted} What has no time axis, verdicts included, covers the whole run"))
    if not run.of(Verdict) and run.last(RunEnded) and not quality.alone(run):
        found.append(Note("info", "This run gave no verdict: one arm alone, or too little was measured"))
    return found
