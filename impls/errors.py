"""The project's exceptions and exit codes: every fault becomes one line, and exit code 2 where the user caused it."""

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
