"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from impls.errors import UsageError


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
    # The process id keeps two writers apart, and tells harness.janitor whose it was; the same folder makes the
    # replacement atomic.
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
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
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """A `replacement` for what a person asked to write: its folder is made where it is missing.

    Raises:
        UsageError: it cannot be written, e.g. because the disk is full; whatever stood at `path` is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path, durable) as scratch:
            yield scratch
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
