"""Messages about whatever advances a step at a time, and about what the process and its device can do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.protocol.life import Command, Reply
from impls.recipe.isolated import Spec


class StepTimes(Reply):
    """Monotonic start and duration of every step, and the end of the last."""

    kind: Literal["step-times"] = "step-times"
    start_ns: list[int]
    step_ns: list[int]
    end_ns: int


class Stepwise(Command[StepTimes]):
    """Run steps, synchronised after each."""

    op: Literal["stepwise"] = "stepwise"
    steps: int


class PhaseTimes(Reply):
    """Duration of every phase of every step, by phase in order; empty where the arm does not cut its steps."""

    kind: Literal["phase-times"] = "phase-times"
    phase_ns: dict[str, list[int]]


class Phased(Command[PhaseTimes]):
    """Run steps, synchronised after each of their phases."""

    op: Literal["phased"] = "phased"
    steps: int


class Span(Reply):
    """Monotonic ends of a window."""

    kind: Literal["span"] = "span"
    start_ns: int
    end_ns: int
    steps: int


class Free(Command[Span]):
    """Run steps, synchronised at the ends only."""

    op: Literal["free"] = "free"
    steps: int


class OverheadTimes(Reply):
    """Paired durations of as many steps."""

    kind: Literal["overhead-times"] = "overhead-times"
    bare_ns: list[int]
    harness_ns: list[int]


class Overhead(Command[OverheadTimes]):
    """Pairs of a bare loop and a harness window of as many steps."""

    op: Literal["overhead"] = "overhead"
    pairs: int
    steps: int


class SyncEvidence(Reply):
    """Pending work around a synchronisation, and the durations of few and of many steps."""

    kind: Literal["sync-evidence"] = "sync-evidence"
    pending_before: int | None
    pending_after: int | None
    pending_base: int | None
    short_ns: int
    long_ns: int
    residue_ns: int | None = None


class ProveSync(Command[SyncEvidence]):
    """Gather evidence that synchronising waits."""

    op: Literal["prove-sync"] = "prove-sync"
    steps_short: int
    steps_long: int


class OperatorTimes(Reply):
    """Durations of windows of as many runs of one operator; none where the arm has no such operator of its own.

    `offered` is whether it has any that it can run alone.
    """

    kind: Literal["operator-times"] = "operator-times"
    offered: bool
    runs: int
    window_ns: list[int]


class Operate(Command[OperatorTimes]):
    """Build one operator of the network alone and time windows of several runs of it."""

    op: Literal["operate"] = "operate"
    spec: Spec
    batch: int
    training: bool = Field(description="with its backward pass")
    windows: int
    window_ns: int = Field(description="about how long a window takes; one run where that takes longer")


class Rate(Reply):
    """Floating-point operations per second."""

    kind: Literal["rate"] = "rate"
    flops: float


class Matmul(Command[Rate]):
    """Measure the best matrix-product rate."""

    op: Literal["matmul"] = "matmul"
    n: int
    repeats: int


class MemoryValues(Reply):
    """Memory in bytes; None with the reason where unreadable."""

    kind: Literal["memory-values"] = "memory-values"
    rss_peak_bytes: int | None
    device_allocated_bytes: int | None
    device_peak_bytes: int | None
    device_reserved_bytes: int | None
    reason: str | None


class ReadMemory(Command[MemoryValues]):
    """Memory of the process."""

    op: Literal["memory"] = "memory"
