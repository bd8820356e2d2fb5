"""The project's exceptions and exit codes: every fault becomes one line, and exit code 2 where the user caused it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from messages import marked

EXIT_OK = 0
# Something was done, but not all of it: what there is, is kept.
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class UsageError(Exception):
    """Bad input: the message says what is wrong, where, and what to do. Shown without a traceback; exit code 2."""


class DataError(UsageError):
    """A data set is missing, truncated or not what its checksum says."""


class CheckpointError(UsageError):
    """A checkpoint is missing, truncated, foreign, or does not fit the model."""


class UnavailableError(UsageError):
    """A framework, device or option that was asked for cannot be used on this machine."""


class StorageError(Exception):
    """The run folder cannot be written any more (disk full, gone, read-only); what was measured before is safe.

    Attributes:
        reason: what the system says.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DeviceError(RuntimeError):
    """A device, or a compiler for it, gave up on the way; what was finished before is kept. Exit code 1.

    The message is what it said itself, and what to do.
    """


_ROOM = marked("make room on the disk")
_OLDER = marked("give Jittor an older g++ by cc_path (Debian: apt install g++-14, then cc_path=/usr/bin/g++-14)")
_TOOLS = marked("install the C++ compiler (Debian: apt install g++), or name another by cc_path")
_GPU = marked("the driver lost the GPU or a kernel crashed: see dmesg for Xid, then nvidia-smi")
# What says why in the pages of a compiler, a driver, or a framework that quotes them, and what to do about it. The
# first that is found anywhere counts: others in those pages are its consequence.
_CAUSES = tuple((re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in (
    (r"no space left on device|disk quota exceeded", _ROOM),  # English
    (r"file too large|file size limit exceeded",  # English
     marked("raise the limit on the size of files (ulimit -f)")),
    (r"read-only file system", marked("set HOME to a writable folder")),  # English
    (r"unsupported (gnu|clang) version(! gcc versions later than \d+ are not supported)?", _OLDER),  # English
    (r"(^|[/ ])(g\+\+|gcc|c\+\+|cc)[-\d.]*: (no such file or directory|(command )?not found)|"
     r"cannot execute .?cc1plus", _TOOLS),  # English
    (r"failed to preprocess host compiler", _TOOLS),  # English
    (r"cannot find -l\S+", marked("install the library, or set up the environment again")),  # English
    (r"virtual memory exhausted|cannot allocate memory|killed signal terminated program",  # English
     marked("the compiler ran out of memory: end other programs")),
    (r"out of memory|memory is overflow|cudaErrorMemoryAllocation|unable to alloc cuda device memory",  # English
     marked("choose a smaller batch, or end what else holds the memory")),
    (r"unspecified launch failure|cudaErrorLaunchFailure|device lost|gpu is lost|cudaErrorDevicesUnavailable|"
     r"uncorrectable (ecc|nvlink) error|cudaErrorECCUncorrectable|fallen off the bus", _GPU),  # English
    (r"nvcc fatal", marked("see its whole output in the log")),  # English
))
_LONGEST = 160
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Cause:
    """Why something failed, in a compiler's or a driver's own words.

    Attributes:
        line: the words.
        advice: what to do about it.
    """

    line: str
    advice: str

    def __str__(self) -> str:
        return f"{self.line}: {self.advice}"

    def after(self, message: str) -> str:
        """A message with the cause, of which it may hold the words already."""
        return f"{message}: {self.advice if self.line[:80] in message else self}"


def cause(lines: Iterable[str]) -> Cause | None:
    """Why something failed, out of pages of output; None where no line is known to say it."""
    clean = [" ".join(_COLOURS.sub("", line).split()) for line in lines]
    for pattern, advice in _CAUSES:
        for line in clean:
            found = pattern.search(line)
            if found:
                # What stands around the words may be long. Whole words are shown before them, where there are any.
                least = max(0, found.end() - _LONGEST)
                first = line.find(" ", least - 1, found.start()) + 1 if least else 0
                near = line[(first or min(least, found.start())) : found.end()]
                return Cause(line if len(line) <= _LONGEST else near, advice)
    return None


def gave_up(error: Exception, after: str = "") -> DeviceError | None:
    """What a framework raised because its device or compiler gave up, in one line; None where the fault is another.

    Args:
        error: as it was raised.
        after: ends the line.
    """
    if isinstance(error, DeviceError):
        return error
    why = cause(str(error).splitlines()) if isinstance(error, RuntimeError) else None
    return None if why is None else DeviceError(f"{why}{after}")
