"""What a worker answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.protocol.base import Message


class Hello(Message):
    """A worker's first words: which launch it belongs to."""

    kind: Literal["hello"] = "hello"
    token: str
    pid: int


class Note(Message):
    """A line for people while a command is under way."""

    kind: Literal["note"] = "note"
    text: str


class Failure(Message):
    """The command failed; the worker goes on if it can.

    `cause` "usage": the user can mend it; "memory": out of memory; "error": a fault of the program or the framework.
    """

    kind: Literal["failure"] = "failure"
    cause: Literal["usage", "memory", "error"]
    message: str
    traceback: str


class Done(Message):
    """Nothing to report."""

    kind: Literal["done"] = "done"


class Created(Message):
    """`info` is the BackendInfo as JSON; `compiled_files` counts the cache before the import, None if unknowable."""

    kind: Literal["created"] = "created"
    import_ns: int
    info: dict[str, Any]
    compiled_files: int | None


class Built(Message):
    """`info` with the operators and flags in force; `shapes` of a sampler's weights by name."""

    kind: Literal["built"] = "built"
    build_ns: int
    parameter_count: int
    info: dict[str, Any]
    shapes: dict[str, tuple[int, ...]] = {}


class StepTimes(Message):
    """Monotonic start and duration of every step, and the end of the last."""

    kind: Literal["step-times"] = "step-times"
    start_ns: list[int]
    step_ns: list[int]
    end_ns: int


class Span(Message):
    """Monotonic ends of a window."""

    kind: Literal["span"] = "span"
    start_ns: int
    end_ns: int
    steps: int


class EpochTime(Message):
    """One epoch: synchronised ends, host-side stamps of the enqueueing, and waits for batches."""

    start_ns: int
    end_ns: int
    gap_ns: int | None
    step_start_ns: list[int]
    loader_wait_ns: list[int]


class EpochTimes(Message):
    """All epochs of one request."""

    kind: Literal["epoch-times"] = "epoch-times"
    epochs: list[EpochTime]


class TrapTimes(Message):
    """From one start: until the work was asked for, and until it was finished."""

    kind: Literal["trap-times"] = "trap-times"
    unsynchronised_ns: int
    synchronised_ns: int


class OverheadTimes(Message):
    """Paired durations of as many steps."""

    kind: Literal["overhead-times"] = "overhead-times"
    bare_ns: list[int]
    harness_ns: list[int]


class SyncEvidence(Message):
    """Pending work around a synchronisation, and the durations of few and of many steps."""

    kind: Literal["sync-evidence"] = "sync-evidence"
    pending_before: int | None
    pending_after: int | None
    pending_base: int | None
    short_ns: int
    long_ns: int
    residue_ns: int | None = None


class Rate(Message):
    """Floating-point operations per second."""

    kind: Literal["rate"] = "rate"
    flops: float


class LossValues(Message):
    """Losses, oldest first."""

    kind: Literal["loss-values"] = "loss-values"
    losses: list[float]


class MemoryValues(Message):
    """Memory in bytes; None with the reason where unreadable."""

    kind: Literal["memory-values"] = "memory-values"
    rss_peak_bytes: int | None
    device_allocated_bytes: int | None
    device_peak_bytes: int | None
    device_reserved_bytes: int | None
    reason: str | None


class CacheCount(Message):
    """Compiled files in the arm's cache; None when the backend cannot tell."""

    kind: Literal["cache-count"] = "cache-count"
    compiled_files: int | None


Reply = Annotated[
    Hello | Note | Failure | Done | Created | Built | StepTimes | Span | EpochTimes | OverheadTimes | SyncEvidence
    | TrapTimes | Rate | LossValues | MemoryValues | CacheCount,
    Field(discriminator="kind"),
]
