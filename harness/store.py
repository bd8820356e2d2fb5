"""The run folder: a journal that only grows, a summary written atomically, and the reader both share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.events import (
    EVENT,
    SCHEMA_VERSION,
    AnyEvent,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Event,
    Finding,
    Resumed,
    RunEnded,
    RunStarted,
    Verdict,
)
from impls.errors import UsageError

JOURNAL = "journal.jsonl"
SUMMARY = "run.json"
FOLDERS = ("logs", "figures", "samples")
VERDICT_KEYS = ("metric", "ratio", "ci_low", "ci_high", "blocks", "word", "reason", "next_action")

SomeEvent = TypeVar("SomeEvent", bound=Event)


@dataclass(frozen=True)
class RecordedRun:
    """One run as its journal tells it.

    Attributes:
        path: the run folder.
        events: every readable line, oldest first; lines that a later `--resume` measured again are left out.
        damage: one sentence for every line that could not be read.
        discarded: number of events left out because their block was measured again.
    """

    path: Path
    events: tuple[AnyEvent, ...]
    damage: list[str] = field(default_factory=list)
    discarded: int = 0

    def of(self, kind: type[SomeEvent]) -> list[SomeEvent]:
        """All events of one class, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[SomeEvent]) -> SomeEvent | None:
        """The newest event of one class, or None."""
        found = self.of(kind)
        return found[-1] if found else None

    @property
    def started(self) -> RunStarted | None:
        """The first line; None when it was damaged."""
        return self.last(RunStarted)

    @property
    def arms(self) -> dict[str, str]:
        """Slot -> arm name, in the order of `--arms`."""
        return {arm.slot: arm.name for arm in self.started.arms} if self.started else {}

    @property
    def status(self) -> str:
        """How it ended: complete, failed, interrupted, or unfinished where the journal has no end."""
        end = self.last(RunEnded)
        return end.status if end else "unfinished"


class RunWriter:
    """Appends events to a run folder; safe to use from several threads.

    Attributes:
        path: the run folder.

    Raises:
        UsageError: another process is writing it.
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        # One write per line on an appending descriptor: a signal or a crash can tear at most the last line.
        self._journal = os.open(path / JOURNAL, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._journal)
            raise UsageError(f"{path}: another process is writing this run: wait until it has ended") from error
        size = os.fstat(self._journal).st_size
        if size and os.pread(self._journal, 1, size - 1) != b"\n":
            os.write(self._journal, b"\n")

    @classmethod
    def create(cls, results: Path, suite: str, clock: Callable[[], int] = time.monotonic_ns) -> RunWriter:
        """A new folder `<suite>-<UTC stamp>-<short id>` under `results`.

        Raises:
            UsageError: the folder cannot be written.
        """
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = results / f"{suite}-{stamp}-{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
            for name in FOLDERS:
                (path / name).mkdir()
            return cls(path, clock)
        except OSError as error:
            raise UsageError(
                f"--out {results}: cannot write there ({error.strerror or error}): give a writable folder"
            ) from error

    def append(self, event: Event) -> None:
        """Write one line, stamped now unless the event brings its own stamp."""
        if not event.t_ns:
            event = event.model_copy(update={"t_ns": self._clock()})
        line = event.model_dump_json().encode() + b"\n"
        with self._lock:
            os.write(self._journal, line)

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        os.fsync(self._journal)

    def summarise(self) -> None:
        """Write `run.json` from the journal, atomically; may be called as often as wanted."""
        self.sync()
        text = json.dumps(summary(read_run(self.path)), indent=2, allow_nan=False) + "\n"
        write_atomically(self.path / SUMMARY, text)

    def finish(self, end: RunEnded) -> None:
        """Append the last line and write the summary."""
        self.append(end)
        self.summarise()

    def discard(self) -> None:
        """Remove the folder of a run that could not begin, and the results folder if that leaves it empty."""
        self.close()
        shutil.rmtree(self.path)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def close(self) -> None:
        """Close the journal; idempotent."""
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a reader sees the old or the new file, never half of one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def read_run(path: Path) -> RecordedRun:
    """Read a run folder; lines that cannot be read are reported in `damage`, a torn last line included.

    Raises:
        UsageError: no journal there, or one written by a newer version of this program.
    """
    try:
        raw = (path / JOURNAL).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: not a run folder: cannot read {JOURNAL}: {error.strerror or error}") from error
    events: list[AnyEvent] = []
    damage: list[str] = []
    lines = raw.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            events.append(EVENT.validate_json(line))
        except ValidationError as error:
            _refuse_newer(path, line)
            torn = " (torn: the run was cut off here)" if number == len(lines) else ""
            damage.append(f"line {number} cannot be read{torn}: {_first_line(error)}")
    kept = _without_repeated(events)
    return RecordedRun(path, tuple(kept), damage, len(events) - len(kept))


def summary(run: RecordedRun) -> dict[str, Any]:
    """The content of `run.json`: plain JSON, NaN and infinities as null."""
    started, environment, dataset = run.started, run.last(EnvironmentRecorded), run.last(DatasetRecorded)
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
        "environment": environment.model_dump(exclude={"type", "t_ns"}) if environment else None,
        "dataset": dataset.model_dump(exclude={"type", "t_ns"}) if dataset else None,
        "arms": [{"slot": slot, "name": name} for slot, name in run.arms.items()],
        "cases": [_case(case, run.arms) for case in cases.values()],
        "findings": [finding.model_dump(exclude={"type", "t_ns"}) for finding in run.of(Finding)],
        "verdicts": [_verdict(verdict, run.arms) for verdict in run.of(Verdict)],
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


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _without_repeated(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Drop what a resumed run measured again: blocks it discarded, and earlier verdicts and ends."""
    kept: list[AnyEvent] = []
    for event in events:
        if isinstance(event, Resumed):
            gone = set(event.discarded_blocks)
            kept = [old for old in kept if getattr(old, "block", None) not in gone]
            kept = [old for old in kept if not isinstance(old, Verdict | RunEnded)]
        kept.append(event)
    return kept


def _refuse_newer(path: Path, line: bytes) -> None:
    try:
        data = json.loads(line)
    except ValueError:
        return
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(
            f"{path}: written in results schema {version}, this program reads up to {SCHEMA_VERSION}: update it"
        )


def _first_line(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'line'}: {fault['msg']}"[:200]
