"""The standard streams of a command, whatever it was started with: a reader who leaves costs no work."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

SHOWN = "ddpm-bench-shown"


class Outlet(io.FileIO):
    """A descriptor that takes everything: what cannot be written is dropped, and the first reason is kept.

    Attributes:
        fault: why something was dropped; None where nothing was.
    """

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or drop, all of `data`."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.fault is None:
            try:
                taken = super().write(left)
                if taken is None:
                    # Whoever made the descriptor wants no waiting; the words do.
                    select.select([], [self], [])
            except OSError as error:
                self.fault = error
            else:
                left = left[taken or 0 :]
        return size


def mend() -> None:
    """Make the process's streams safe to write to: open, and of an encoding that takes every text.

    A descriptor that is closed becomes the null device: otherwise the next file that is opened gets its number, and
    what a library prints ends up in that file. Streams that something else has put in place, such as a test, stay.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is the one that was just found closed.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
    codecs.register_error(SHOWN, _shown)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr)


def lacking(text: str) -> str | None:
    """The encoding of a stream that has not all letters of `text`; None where both have."""
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return encoding
    return None


def settle() -> OSError | None:
    """Write what is buffered; why some results on stdout were lost, or None where nothing was or nobody reads them."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    fault = outlet.fault if isinstance(outlet, Outlet) else None
    return None if fault is None or fault.errno == errno.EPIPE else fault


def _stream(number: int, old: TextIO | None) -> TextIO:
    encoding, at_once = "utf-8", number == 2
    if isinstance(old, io.TextIOWrapper):
        old.flush()
        encoding, at_once = old.encoding, old.line_buffering or old.write_through
    return io.TextIOWrapper(io.BufferedWriter(Outlet(number, "w", closefd=False)), encoding, SHOWN,
                            line_buffering=at_once)


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name as they are, and what the encoding lacks as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    piece = error.object[error.start : error.end]
    escaped = b"".join(one.encode("ascii", "surrogateescape" if "\udc80" <= one <= "\udcff" else "backslashreplace")
                       for one in piece)
    return escaped, error.end
