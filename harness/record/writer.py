"""The run folder: a journal that only grows, and a summary written atomically."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from harness.record.events import Event, RunEnded
from harness.record.lines import DamagedError, Told, decode, decode_line, encode
from harness.record.run import JOURNAL, RecordedRun
from harness.record.summary import SUMMARISED, SUMMARY, summary
from impls.errors import StorageError, UsageError
from impls.store.files import replacement
from messages import recorded, tell

FOLDERS = ("logs", "figures", "samples")


def check_results(results: Path) -> None:
    """Refuse a results folder in which no run folder can be made; it need not exist.

    Raises:
        UsageError: it, or what it would be made in, is no folder or cannot be written.
    """
    there = next(folder for folder in (results, *results.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise _no_room(results, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(there, os.W_OK | os.X_OK):
        raise _no_room(results, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _no_room(results: Path, error: OSError) -> UsageError:
    return UsageError(tell("--out {results}: cannot write there ({error}): give a writable folder", results=results,
                           error=error.strerror or error))


class RunWriter:
    """Appends events to a run folder; safe to use from several threads.

    Attributes:
        path: the run folder.
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Open the journal behind its last line.

        Raises:
            UsageError: it cannot be written, or another process is writing it.
        """
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._fault: StorageError | None = None
        try:
            self._file = _locked(path / JOURNAL)
            raw = (path / JOURNAL).read_bytes()
            if raw and not raw.endswith(b"\n"):
                self._write(b"\n")
                raw += b"\n"
        except BlockingIOError as error:
            raise UsageError(tell("{path}: that run is still going on in another process: wait for its end",
                                  path=path)) from error
        except OSError as error:
            raise UsageError(tell("{path}: cannot write {file} ({error}): make the folder writable and see that the "
                                  "disk has room", path=path, file=JOURNAL, error=error.strerror or error)) from error
        self._found = decode(raw, path)
        self._number, self._told = self._found.next_number, Told(self._found.events)

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
            shutil.rmtree(path, ignore_errors=True)
            raise _no_room(results, error) from error

    @property
    def run(self) -> RecordedRun:
        """The run as a reader of the journal finds it now, which need not be read for it."""
        with self._lock:
            return self._recorded(self._told.events)

    def append(self, event: Event) -> None:
        """Write one line, stamped now unless the event brings its own stamp.

        Raises:
            StorageError: it cannot be written whole; nothing of it is left then, and no thread can append any more.
        """
        if not event.t_ns:
            event = event.model_copy(update={"t_ns": self._clock()})
        with self._lock:
            if self._fault is not None:
                raise self._fault
            line = encode(event, self._number)
            try:
                self._write(line)
            except OSError as error:
                self._fault = self._cannot(JOURNAL, error)
                raise self._fault from error
            try:
                self._told.add(decode_line(line.rstrip(), self.path)[0])
            except DamagedError as error:
                # An absurd number; the run goes on, and the next line takes this one's number, which no reader sees.
                place = (self.path / JOURNAL).read_bytes().count(b"\n")
                self._found.faults.append(recorded("line {place} cannot be read: {error}", place=place, error=error))
            else:
                self._number += 1

    def summarise(self) -> None:
        """Make everything appended so far survive a power cut, and write `run.json`, atomically; as often as wanted.

        Raises:
            StorageError: one of them cannot be written; the journal has everything all the same.
        """
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._cannot(JOURNAL, error) from error
        with self._lock:
            run = self._recorded(self._told.of(SUMMARISED))
        try:
            write_atomically(self.path / SUMMARY, summary(run).text())
        except OSError as error:
            raise self._cannot(SUMMARY, error, ended=run.last(RunEnded) is not None) from error

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
        """Close the journal and let others write it; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _recorded(self, events: tuple[Event, ...]) -> RecordedRun:
        return RecordedRun(self.path, events, self._found.damage_of(self._number), self._told.discarded)

    def _write(self, data: bytes) -> None:
        """Append all bytes or, as far as the file can still be cut, none; an OSError where the disk takes no more."""
        end = os.fstat(self._file).st_size
        try:
            while data:
                # The system may take fewer bytes than it is given, as it does when the disk is almost full.
                data = data[os.write(self._file, data) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise

    def _cannot(self, name: str, error: OSError, ended: bool = False) -> StorageError:
        then = f"python -m reports build {self.path}" if ended else f"run_bench.py --resume {self.path}"  # English
        reason = error.strerror or str(error)
        return StorageError(tell("{path}: cannot write: {reason}: what was measured is safe; make room on the disk, "
                                 "then: {then}", path=self.path / name, reason=reason, then=then), reason)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a reader sees the old or the new file, never half of one."""
    with replacement(path, durable=True) as scratch:
        scratch.write_text(text, encoding="utf-8")


def _locked(path: Path) -> int:
    """Open a file, made where it is missing, that no other process may open so meanwhile.

    Raises:
        BlockingIOError: another process has it open.
        OSError: it cannot be opened for writing.
    """
    # An appending descriptor, because a file cut short after a failed write must go on at its new end.
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise
    except OSError:
        # Where a file system has no locks, the run has to do without.
        pass
    return file
