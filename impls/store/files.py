"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from impls.errors import UsageError
from messages import tell

ABANDONED_S = 3600.0


@contextmanager
def replacement(path: Path, durable: bool = False) -> Iterator[Path]:
    """A name to write to in the folder of `path`, which becomes `path` when the block ends without an error.

    Whatever fails, the renaming included, whatever stood at `path` is still there and nothing else is left.

    Args:
        path: the final name; its folder exists.
        durable: wait until the disk has the content, for what a later run relies on.

    Raises:
        OSError: the disk does not take it.
    """
    scratch = _partial(path)
    try:
        yield scratch
        if durable:
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        with suppress(OSError):
            scratch.unlink()


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, for as long as the block, from which what becomes `path` may be renamed.

    Raises:
        OSError: it cannot be made.
    """
    remove_abandoned(path)
    folder = _partial(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes left of a `replacement` of `path` or in its `staging`.

    Process ids say nothing about another machine that shares the disk; what has not changed for an hour is nobody's.
    """
    import psutil

    for left in path.parent.glob(f".{path.name}.*.partial"):
        with suppress(OSError, ValueError):
            writer, age_s = int(left.name.rsplit(".", 2)[1]), time.time() - left.stat().st_mtime
            if age_s >= ABANDONED_S and not psutil.pid_exists(writer):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _partial(path: Path) -> Path:
    # The process id keeps two writers apart, and tells harness.processes.janitor whose it was should all of them be
    # killed; the same folder makes the replacement atomic.
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say in one line for people, a `UsageError`, that `path` cannot be written, e.g. because the disk is full."""
    try:
        yield
    except OSError as error:
        raise UsageError(tell("{path}: cannot be written: {reason}", path=path,
                              reason=error.strerror or error)) from error


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """A `replacement` for what a person asked to write: its folder is made where it is missing.

    Raises:
        UsageError: it cannot be written, e.g. because the disk is full; whatever stood at `path` is still there.
    """
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path, durable) as scratch:
            yield scratch
