"""The run folder: a journal that only grows, and a summary written atomically."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from harness.record.appender import Appender
from harness.record.events import Event, RunEnded
from harness.record.lines import decode, encode
from harness.record.run import JOURNAL, read_run
from harness.record.summary import SUMMARY, summary
from impls.errors import UsageError
from impls.store.files import replacement

FOLDERS = ("logs", "figures", "samples")


class StorageError(Exception):
    """The run folder cannot be written any more (disk full, gone, read-only); what was measured before is safe.

    Attributes:
        reason: what the system says.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RunWriter:
    """Appends events to a run folder; safe to use from several threads.

    Attributes:
        path: the run folder.

    Raises:
        UsageError: another process is writing it.
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
            self._journal = Appender(path / JOURNAL)
            raw = (path / JOURNAL).read_bytes()
            if raw and not raw.endswith(b"\n"):
                self._journal.append(b"\n")
        except BlockingIOError as error:
            raise UsageError(f"{path}: that run is still going on in another process: wait for its end") from error
        except OSError as error:
            raise UsageError(f"{path}: cannot write {JOURNAL} ({error.strerror or error}): "
                             "make the folder writable and see that the disk has room") from error
        self._number = decode(raw, path).next_number

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
            raise UsageError(f"--out {results}: cannot write there ({error.strerror or error}): "
                             "give a writable folder") from error

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
            try:
                self._journal.append(encode(event, self._number))
            except OSError as error:
                self._fault = self._cannot(JOURNAL, error)
                raise self._fault from error
            self._number += 1

    def sync(self) -> None:
        """Make everything appended so far survive a power cut; a StorageError where the disk does not take it."""
        try:
            self._journal.sync()
        except OSError as error:
            raise self._cannot(JOURNAL, error) from error

    def summarise(self) -> None:
        """Write `run.json` from the journal, atomically; may be called as often as wanted.

        Raises:
            StorageError: it cannot be written; the journal has everything all the same.
        """
        self.sync()
        run = read_run(self.path)
        text = json.dumps(summary(run), indent=2, allow_nan=False) + "\n"
        try:
            write_atomically(self.path / SUMMARY, text)
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
        """Close the journal; idempotent."""
        self._journal.close()

    def _cannot(self, name: str, error: OSError, ended: bool = False) -> StorageError:
        then = f"python -m reports build {self.path}" if ended else f"run_bench.py --resume {self.path}"
        reason = error.strerror or str(error)
        return StorageError(f"{self.path / name}: cannot write: {reason}: what was measured is safe; make room on the "
                            f"disk, then: {then}", reason)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a reader sees the old or the new file, never half of one."""
    with replacement(path, durable=True) as scratch:
        scratch.write_text(text, encoding="utf-8")
