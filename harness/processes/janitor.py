"""Cleans up after a run, however the run ended: a process of its own, whose standard input is the run's lifeline.

It needs the standard library alone, because it must be there before anything else and outlive all of it. A process
belongs to a run when it was started with the run's mark in its environment, which even a grandchild in a session of its
own has, and which no reused process id can have.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "DDPM_BENCH_OWNER"
PREFIX = "ddpm-bench-"
OWNER = "owner"
SHARED_MEMORY = Path("/dev/shm")
KILL_LIMIT_S = 5.0
# What `impls.store.files.replacement` has written to until it is renamed.
PARTIAL = re.compile(r"\..+\.(\d+)\.partial")
SEGMENT = re.compile(r"torch_(\d+)_.+")


def marked(mark: str) -> set[int]:
    """Processes that were started with `mark`, or one below it, in their environment; never this one."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        # Gone by now, or somebody else's.
        with suppress(OSError):
            variables = Path("/proc", name, "environ").read_bytes().split(b"\0")
            if any(one == wanted or one.startswith(wanted + b"/") for one in variables):
                found.add(int(name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def end_marked(mark: str) -> set[int]:
    """Kill every process that carries `mark` until none is left; their ids."""
    ended: set[int] = set()
    until = time.monotonic() + KILL_LIMIT_S
    # More than once, because one may have forked in between; not for ever, because a sick driver can hold one back.
    while (found := marked(mark)) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= found
        time.sleep(0.01)
    return ended


def remove_segments(pids: Collection[int]) -> None:
    """Remove the shared memory that killed PyTorch processes left; its names hold the process id of their maker."""
    for path in SHARED_MEMORY.glob("torch_*"):
        found = SEGMENT.fullmatch(path.name)
        if found and int(found[1]) in pids and not alive(int(found[1])):
            with suppress(OSError):
                path.unlink()


def ours(folder: Path) -> bool:
    """Whether this is a run's temporary folder of this user, and no link to something else."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return folder.name.startswith(PREFIX) and stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()


def clean(folder: Path, pids: Collection[int]) -> set[int]:
    """End what is left of a run and remove its folder and shared memory; the processes that were ended.

    Args:
        folder: the run's temporary folder.
        pids: processes that it had, which may have ended meanwhile.
    """
    ended = end_marked(str(folder))
    remove_segments({*pids, *ended})
    if ours(folder):
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def remove_partials(paths: Iterable[Path], gone: Collection[int] = ()) -> None:
    """Remove those that a killed process was writing to; `gone` have been killed, though they may be seen a little."""
    for path in paths:
        found = PARTIAL.fullmatch(path.name)
        if found and (int(found[1]) in gone or not alive(int(found[1]))):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> int:
    """`janitor.py TEMP`: make a folder in TEMP, print its name, clean up when the standard input ends.

    Lines of the standard input, a word and JSON: `pid N`, a process of the run; `run "FOLDER"`, where it writes its
    results; `cache "FOLDER"`, where it may put what outlives it; `done` alone, that it ends by itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told: dict[str, list[Any]] = {"pid": [], "run": [], "cache": []}
    # A killed process closes its end of the line before it is gone from the table of processes.
    gone = {os.getppid()}
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=sys.argv[1]))
    except OSError:
        # Whoever reads no name knows.
        return 2
    try:
        # Held by this process and by the run: whoever can take it alone knows that both are gone. It has its name only
        # once it is held.
        owner = os.open(folder / f"{OWNER}.new", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(owner, fcntl.LOCK_SH)
        os.rename(folder / f"{OWNER}.new", folder / OWNER)
        print(folder, flush=True)
        for line in sys.stdin:
            word, _, value = line.partition(" ")
            # A line that the run's death cut off has no end.
            if line == "done\n":
                gone.clear()
            elif line.endswith("\n"):
                told[word].append(json.loads(value))
    finally:
        gone |= clean(folder, told["pid"])
    for run in map(Path, told["run"]):
        beside = [path for name in ("index.html", "feed.xml") for path in run.parent.glob(f".{name}.*.partial")]
        remove_partials([*run.rglob(".*"), *beside], gone)
    for cache in told["cache"]:
        remove_partials(Path(cache).glob(".*"), gone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
