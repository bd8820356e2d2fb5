"""What a profiler tells of training steps: kernels by phase, and spans where it knows when they ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """All runs of one kernel in one phase of the profiled steps.

    Attributes:
        name: as the profiler calls it, readable.
        phase: of a step: "data", "forward", "backward" or "optimizer".
        operator_class: "attention", "norm", "convolution" or "linear"; None where its name does not tell.
        count: launches.
        ns: all of them together.
    """

    name: str
    phase: str
    operator_class: str | None
    count: int
    ns: float


@dataclass(frozen=True)
class Span:
    """Something that ran from one moment to another.

    Attributes:
        name: what ran.
        track: where: "phases", "operators", "device".
        start_ns: on the profiler's clock.
        duration_ns: how long.
    """

    name: str
    track: str
    start_ns: float
    duration_ns: float


@dataclass(frozen=True)
class Profile:
    """What a profiler told of some steps.

    Attributes:
        tool: the profiler.
        kernels: what computed.
        spans: what ran when; without kernels where the profiler knows only their sums.
        note: what a reader of these numbers must know of the profiler.
    """

    tool: str
    kernels: Sequence[Kernel]
    spans: Sequence[Span]
    note: str
