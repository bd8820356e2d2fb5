"""What a reader must know before the numbers: recorded findings, and what the journal itself lacks."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.record.events import BlockState, Case, Finding, RunEnded, Verdict
from messages import choice, marked, plural, shown, tell, words
from reports.page.blocks import Code, Note, Section, Table, section, table_of
from reports.text import DASH, Value, commas, semicolons, sentences
from reports.view.clock import of_one_boot
from reports.view.run import RunView

ORDER = {"error": 0, "warning": 1, "info": 2}
# Status of a run without its end -> what it means, what to do.
CUT_SHORT = {
    "interrupted": (
        marked("The run was interrupted; the figures cover what was measured until then"),
        marked("finish it with: {command}"),
    ),
    "unfinished": (
        marked("The journal has no end: the run is still going on or was cut off"),
        marked("if it was cut off, finish it with: {command}"),
    ),
}

STATUSES = {"failed": marked("failed"), "skipped": marked("skipped")}


def out(seen: RunView) -> str:
    """The results folder as the run was told."""
    told = seen.bench("out")
    return told if isinstance(told, str) else "results"


def resume(seen: RunView) -> str:
    """The command that goes on with this run."""
    return shlex.join(["python", "run_bench.py", "--resume", f"{out(seen)}/{seen.run.path.name}"])


def notes(seen: RunView, further: Iterable[Note] = (), timed: bool = True) -> tuple[Note, ...]:
    """What a reader must know, the worst first.

    Args:
        seen: the run.
        further: what its chapters add; what a finding says already is left out.
        timed: whether the run was to time anything.
    """
    findings = seen.run.of(Finding)
    counted = Counter((one.severity, one.message, one.advice, where(seen, one)) for one in findings)
    said = {shown(one.message) for one in findings}
    found = [
        *(
            Note(severity, shown(message), shown(advice) if advice else advice, place, times)
            for (severity, message, advice, place), times in counted.items()
        ),
        *(note for note in further if note.message not in said),
        *journal_notes(seen, timed),
    ]
    return tuple(sorted(found, key=lambda note: ORDER.get(note.severity, 1)))


def where(seen: RunView, finding: Finding) -> str | None:
    """The arm and block that a finding is about."""
    parts = [
        seen.label(finding.arm) if finding.arm else None,
        tell("block {block}", block=finding.block) if finding.block is not None else None,
    ]
    return commas(part for part in parts if part) or None


def journal_notes(seen: RunView, timed: bool) -> Sequence[Note]:
    """What a reader must know about the journal: cut off, damaged, partly measured again."""
    run, found = seen.run, []
    if run.status in CUT_SHORT:
        message, what = CUT_SHORT[run.status]
        found.append(Note("warning", tell(message), tell(what, command=resume(seen))))
    elif run.status == "failed":
        found.append(Note("error", tell("Some cases of this run failed; see What was not measured")))
    if run.damage:
        damage = shown(str(run.damage[0]))
        if len(run.damage) > 1:
            more = plural(len(run.damage) - 1, "further line")
            said = tell("The journal is damaged: {damage} (and {more})", damage=damage, more=more)
        else:
            said = tell("The journal is damaged: {damage}", damage=damage)
        found.append(Note("warning", said, tell("figures leave these lines out")))
    if run.discarded:
        found.append(Note("info", choice(
            run.discarded, "{n} event were left out: measured again after a resume",
            "{n} events were left out: measured again after a resume")))  # fmt: skip
    if restarted := of_one_boot(seen).restarted:
        whole = tell("What has no time axis, verdicts included, covers the whole run")
        found.append(Note("info", sentences(restarted, whole)))
    if timed and not run.of(Verdict) and run.last(RunEnded):
        found.append(Note("info", tell("This run gave no verdict: one arm alone, or too little was measured")))
    return found


def blocks(view: RunView) -> Table | None:
    """State of every block."""
    rows = (
        (
            Value(str(state.block)),
            Value(tell("disturbed"), mark="warn") if state.dirty else Value(tell("clean"), mark="good"),
            Value(semicolons(map(shown, state.reasons)) or DASH),
            Value(tell("block {block}", block=state.repeats) if state.repeats is not None else DASH),
            Value(str(state.order_seed)),
        )
        for state in view.run.of(BlockState)
    )
    return table_of(tell("Blocks"), words("block", "state", "reasons", "repeats", "order seed"), rows)


def failed(seen: RunView) -> Section | None:
    """Cases that failed or were skipped, each with the end of its log."""
    bad = [case for case in seen.run.of(Case) if case.status != "measured"]
    rows = (
        (
            Value(case.case_id),
            Value(tell(STATUSES.get(case.status, case.status)), mark="bad" if case.status == "failed" else "warn"),
            Value(shown(case.reason) if case.reason else tell("no reason recorded")),
            Value(case.log or DASH),
        )
        for case in bad
    )
    tails = (
        Code("\n".join(case.log_tail), tell("Last lines of {log}", log=case.log or case.case_id))
        for case in bad
        if case.status == "failed" and case.log_tail
    )
    table = table_of(tell("Cases without a measurement"), words("case", "status", "reason", "log"), rows)
    return section("failed", tell("What was not measured"), table, *tails)
