"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from impls.errors import UsageError


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """A name to write to in the same folder, which becomes `path` when the block ends without an error.

    Args:
        path: the final name; its folder is made where it is missing.
        durable: wait until the disk has it, for what a later run relies on.

    Raises:
        UsageError: it cannot be written, e.g. because the disk is full; whatever stood at `path` is still there.
    """
    # The process id keeps two writers apart; the same folder makes the replacement atomic.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
