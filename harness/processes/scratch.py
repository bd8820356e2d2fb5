"""One run's temporary folder, which does not outlive it, and the runs beside it on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.processes import janitor
from harness.processes.janitor import MARK, OWNER, PREFIX
from impls.errors import UsageError
from impls.recipe.config import require_text
from messages import tell

CLEAN_LIMIT_S = 15.0
# A socket's path has at most 107 characters; the frameworks put sockets of theirs two folders further down.
LONGEST_PATH = 60


@dataclass(frozen=True)
class Neighbour:
    """Another run that is measuring on this machine.

    Attributes:
        pid: its process.
        run: its run folder.
    """

    pid: int
    run: str


class Scratch:
    """A folder in the system's temporary folder, and a janitor that removes it however this process ends.

    Everything that this process starts until `close` carries the folder's name in its environment, by which the janitor
    knows what to kill.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        temp = tempfile.gettempdir()
        require_text(temp, "TMPDIR")
        sweep(Path(temp))
        # Isolated and without packages: it starts in milliseconds, and nothing installed can break it.
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", janitor.__file__, temp], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, encoding="utf-8", errors="surrogateescape", start_new_session=True, cwd="/",
            env={name: value for name, value in os.environ.items() if name != MARK})
        made = self._janitor.stdout.readline().strip() if self._janitor.stdout else ""
        if not made:
            self._janitor.communicate()
            raise UsageError(tell("{temp}: no temporary folder can be made there: set TMPDIR to a writable folder",
                                  temp=temp))
        self.path = Path(made)
        self._owner = os.open(self.path / OWNER, os.O_RDWR)
        fcntl.flock(self._owner, fcntl.LOCK_SH)
        self._pids: set[int] = set()
        self._outer = os.environ.get(MARK)
        os.environ[MARK] = made
        if len(made) > LONGEST_PATH:
            self.close()
            raise UsageError(tell("{temp}: too long a path for sockets: set TMPDIR to a folder of at most {most} "
                                  "characters", temp=temp, most=LONGEST_PATH - len(made) + len(temp)))

    @contextmanager
    def folder(self, purpose: str) -> Iterator[Path]:
        """A folder below this one for as long as the block."""
        path = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.path))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def has_process(self, pid: int) -> None:
        """This process belongs to the run."""
        self._pids.add(pid)
        self._tell(f"pid {pid}")  # English

    def writes(self, run: Path) -> None:
        """The run writes its results here; from now on it counts as measuring."""
        self._tell(f"run {json.dumps(str(run.resolve()))}")  # English
        os.pwrite(self._owner, json.dumps({"pid": os.getpid(), "run": str(run.resolve())}).encode(), 0)

    def fills(self, cache: Path) -> None:
        """The run may put files here that outlive it."""
        self._tell(f"cache {json.dumps(str(cache.resolve()))}")  # English

    def neighbours(self) -> list[Neighbour]:
        """Other runs that are measuring now."""
        found = []
        for folder in _folders(self.path.parent):
            lock = None if folder == self.path else _alone(folder)
            if lock is not None:
                os.close(lock)
            elif folder != self.path:
                # Empty while it only asks for devices; half written for a moment.
                with suppress(OSError, ValueError):
                    told = json.loads((folder / OWNER).read_text())
                    found.append(Neighbour(told["pid"], told["run"]))
        return found

    def close(self) -> None:
        """Have the janitor clean up, and wait for it; idempotent."""
        if self._owner < 0:
            return
        os.close(self._owner)
        self._owner = -1
        if self._outer is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = self._outer
        self._tell("done")
        with suppress(OSError, subprocess.TimeoutExpired):
            self._janitor.communicate(timeout=CLEAN_LIMIT_S)
        if self.path.exists():
            # Somebody killed the janitor.
            janitor.clean(self.path, self._pids)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _tell(self, line: str) -> None:
        with suppress(OSError):
            print(line, file=self._janitor.stdin, flush=True)


def sweep(temp: Path) -> None:
    """Clean up after runs of this user whose janitor was killed too; a folder that anybody may still hold stays."""
    for folder in _folders(temp):
        lock = _alone(folder)
        if lock is not None:
            janitor.clean(folder, ())
            os.close(lock)


def _folders(temp: Path) -> list[Path]:
    return [path for path in temp.glob(f"{PREFIX}*") if janitor.ours(path) and (path / OWNER).is_file()]


def _alone(folder: Path) -> int | None:
    """The folder's lock, taken alone, which the caller must close or drop; None while its run is there."""
    try:
        lock = os.open(folder / OWNER, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
