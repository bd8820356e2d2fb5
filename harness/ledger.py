"""What a run has said: its cases and findings, each once, written to the journal and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.processes.scratch import Neighbour
from harness.processes.session import WorkerFailedError, log_tail
from harness.progress import Progress
from harness.record.events import ArmSlot, Case, Event, Finding, PartName, Severity
from harness.record.findings import BUSY_MACHINE, END_CODES, OTHER_RUN, Kind
from harness.record.run import RecordedRun
from harness.record.writer import RunWriter
from impls.errors import UsageError
from messages import marked, recorded, shown, tell

SEVERITIES: Mapping[Severity, str] = {"info": marked("info"), "warning": marked("warning"), "error": marked("error")}


@dataclass
class Ledger:
    """Writes a run's cases and findings.

    Attributes:
        writer: the run folder.
        progress: what the user sees.
        arms: slot -> arm name.
        neighbours: other runs that are measuring now.
        measured_cases: cases that are in the journal.
        found: codes of findings that are reported once.
        met: other runs that are in the journal.
        failed_before: cases that had failed when the run was interrupted.
        part: whose cases are written now; None for what all parts of a run share.
    """

    writer: RunWriter
    progress: Progress
    arms: Mapping[ArmSlot, str]
    neighbours: Callable[[], Sequence[Neighbour]] = tuple
    measured_cases: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    met: set[Neighbour] = field(default_factory=set)
    failed_before: set[str] = field(default_factory=set)
    part: PartName | None = None

    def goes_on(self, resumed: RecordedRun) -> None:
        """Know what an interrupted run has said."""
        self.failed_before |= {case.case_id for case in resumed.of(Case) if case.status == "failed"}
        self.measured_cases |= {case.case_id for case in resumed.of(Case)}
        # The machine may be as busy again.
        self.found |= {finding.code for finding in resumed.of(Finding)} - END_CODES - {BUSY_MACHINE.code}

    @property
    def anything_measured(self) -> bool:
        """Whether the run folder is worth keeping."""
        return bool(self.measured_cases)

    def log(self, name: str) -> Path:
        """A log file of this run."""
        return self.writer.path / "logs" / f"{name}.log"

    def record(self, events: Iterable[Event]) -> None:
        """Write lines; a finding is shown too."""
        for event in events:
            if isinstance(event, Finding):
                self.find(event)
            elif isinstance(event, Case):
                self.case(event)
            else:
                self.writer.append(event)

    def find(self, finding: Finding) -> None:
        """Record a finding and show it, with what helps where it is a warning."""
        self.writer.append(finding)
        self.progress.say(tell("{severity}: {message}", severity=tell(SEVERITIES[finding.severity]),
                               message=shown(finding.message)))
        if finding.severity != "info" and finding.advice:
            self.progress.say(tell("  what helps: {advice}", advice=shown(finding.advice)))

    def find_once(self, finding: Finding) -> None:
        """Record a finding unless one of its code is known already."""
        if finding.code not in self.found:
            self.found.add(finding.code)
            self.find(finding)

    def known(self, kind: Kind) -> bool:
        """Whether a finding of this kind, which is reported once, is there."""
        return kind.code in self.found

    def look_around(self, block: int | None = None) -> None:
        """Record other runs on this machine, each of them once."""
        for other in self.neighbours():
            if other not in self.met:
                self.met.add(other)
                self.find(OTHER_RUN.found(recorded(
                    "another ddpm-bench run (pid {pid}, {run}) is measuring on this machine", pid=other.pid,
                    run=other.run), block=block))

    def case(self, case: Case) -> None:
        """Record a case of this part."""
        self.writer.append(case.model_copy(update={"part": self.part}))

    def measured(self, case: Case) -> None:
        """Record a case that was measured: from now on a run folder is worth keeping."""
        self.measured_cases.add(case.case_id)
        self.case(case)

    def recovered(self, case_id: str, slot: ArmSlot, log_name: str) -> None:
        """Record that what failed before the interruption now works; nothing where it had not failed."""
        if case_id in self.failed_before:
            self.failed_before.remove(case_id)
            self.measured(Case(case_id=case_id, arm=slot, block=None, status="measured", log=f"logs/{log_name}.log"))

    def fail(self, case_id: str, slot: ArmSlot, block: int | None, error: WorkerFailedError, log_name: str) -> None:
        """Record that an arm could not go on with a case.

        Raises:
            UsageError: the user can mend it and nothing has been measured yet, so the run need not begin.
        """
        name = self.arms[slot]
        if error.cause == "usage" and not self.anything_measured:
            told = shown(error.message)
            raise UsageError(told if name in error.message else f"{name}: {told}") from error
        log = self.log(log_name)
        tail = log_tail(log)
        if error.detail:
            tail = [*tail, *error.detail.splitlines()][-40:]
        self.case(Case(case_id=case_id, arm=slot, block=block, status="failed", reason=error.message,
                       log=f"logs/{log.name}", log_tail=tail))
        self.progress.say(tell("FAILED {arm} in {case}: {error} (log: {log})", arm=name, case=case_id,
                               error=shown(error.message), log=log))
