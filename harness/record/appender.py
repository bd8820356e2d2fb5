"""A file that only grows, by whole pieces: what cannot be written whole leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class Appender:
    """Appends to a file that no other process may append to meanwhile.

    Args:
        path: the file, made where it is missing.

    Raises:
        BlockingIOError: another process has it open.
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        # An appending descriptor, because a file cut short after a failed write must go on at its new end.
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            _lock(self._file)
        except BaseException:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        """Write all bytes or, as far as the file can still be cut, none.

        Raises:
            OSError: the file does not take them.
        """
        end = os.fstat(self._file).st_size
        try:
            while data:
                # The system may take fewer bytes than it is given, as it does when the disk is almost full.
                data = data[os.write(self._file, data) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise

    def sync(self) -> None:
        """Wait until the disk has everything.

        Raises:
            OSError: it does not take it.
        """
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file and let others write it; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _lock(file: int) -> None:
    """Keep other processes out; where a file system has no locks, the run has to do without.

    Raises:
        BlockingIOError: another process has the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
