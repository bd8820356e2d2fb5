"""Lines about times that every suite measures: workers, warm-up, windows, memory, cost, overhead, proofs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.record.events.base import ArmSlot, Event, PartName, SteadyClass


class WorkerStarted(Event):
    """A worker process is built: what it proved to run and what starting cost.

    `cache` says whether this start compiled anything: "cold" a fresh cache folder, "warm" nothing compiled,
    "partial" something compiled into an existing cache, None when the backend cannot tell.
    """

    type: Literal["worker"] = "worker"
    subject: ClassVar = ("role", "arm", "block")
    arm: ArmSlot
    block: int
    role: Literal["measure", "parity", "align", "epochs", "cold-start"] = "measure"
    pid: int
    spawn_ns: int = Field(description="process launch until it connected")
    import_ns: int = Field(description="framework import and device initialisation")
    build_ns: int = Field(description="network, optimiser and data built")
    first_step_ns: int = Field(description="first optimisation step, synchronised, compilation included")
    first_stamp_ns: int = Field(description="monotonic start of the first step")
    compile_ns: int | None = Field(None, description="first step less a typical step; None before that is known")
    cache: Literal["cold", "warm", "partial"] | None = None
    parameter_count: int
    images: int | None = Field(None, description="of a step, where the worker alone knows them")
    info: dict[str, Any] = Field(description="BackendInfo as JSON")

    @property
    def checks(self) -> bool:
        """Whether it was started to find out, before anything is timed, if the arms compute the same."""
        return self.role == "parity"


class WarmUp(Event):
    """All steps before measuring, every one kept, with the detector's verdict on them."""

    type: Literal["warmup"] = "warmup"
    subject: ClassVar = ("arm", "block")
    arm: ArmSlot
    block: int
    start_ns: list[int]
    step_ns: list[int]
    classification: SteadyClass
    steady_from: int | None = Field(description="index of the first steady step; None without a steady state")
    capped: bool = Field(description="stopped by the cap, not by the detector")


class Window(Event):
    """One measured window. `kind` stepwise: synchronised after every step; free: synchronised at its ends only.

    `sample`: one whole batch of images, from noise to uint8 on the host; a step is a network call. `sweep`: the same at
    other batch sizes, measured once. `pair` numbers the pairs of a block (of a cell, where there are cells) from 0;
    `position` is 0 for the arm that ran first in the pair.
    """

    type: Literal["window"] = "window"
    subject: ClassVar = ("kind", "arm", "block", "pair", "cell", "images")
    kind: Literal["stepwise", "free", "sample", "sweep"]
    arm: ArmSlot
    block: int
    pair: int
    position: int
    start_ns: int
    end_ns: int
    steps: int
    step_ns: list[int] = Field(description="stepwise: one duration per step; else empty")
    cell: str | None = Field(None, description="sample, sweep: method and network calls, e.g. ddim-50")
    images: int | None = Field(None, description="sample, sweep: images in the batch")
    others_cpu_ns: dict[ArmSlot, int] = Field({}, description="CPU time the waiting arms used during this window")

    @property
    def part(self) -> PartName | None:
        """The part whose windows are of this kind; None where those of several are."""
        return {"free": "training", "sample": "sampling", "sweep": "sampling"}.get(self.kind)


class Memory(Event):
    """Memory of one worker at the end of its block."""

    type: Literal["memory"] = "memory"
    subject: ClassVar = ("arm", "block")
    arm: ArmSlot
    block: int
    rss_peak_bytes: int | None
    device_allocated_bytes: int | None
    device_peak_bytes: int | None
    device_reserved_bytes: int | None
    reason: str | None = None


class Peak(Event):
    """The machine's best float32 matrix-product rate in this run, as measured by one arm."""

    type: Literal["peak"] = "peak"
    subject: ClassVar = ("arm", "part")
    arm: ArmSlot
    matmul_n: int
    flops: float = Field(description="floating-point operations per second")
    part: PartName = Field(description="what was measured when this was")


class StepCost(Event):
    """Analytic cost of one step at the run's batch size: the same count for every arm.

    A step is an optimisation step or a network call of sampling, by `part`.
    """

    type: Literal["step-cost"] = "step-cost"
    forward_flop_per_image: int
    step_flop: int
    part: PartName


class Overhead(Event):
    """Harness windows against a bare loop of the same steps in the same process, paired."""

    type: Literal["overhead"] = "overhead"
    subject: ClassVar = ("what", "arm", "part")
    arm: ArmSlot
    what: Literal["harness", "monitors"]
    bare_ns: list[int]
    harness_ns: list[int]
    part: PartName = Field(description="what was measured when this was")


class SyncProof(Event):
    """Evidence that `synchronize` waits: pending work falls to its base, and k times the steps take k times as long."""

    type: Literal["sync-proof"] = "sync-proof"
    subject: ClassVar = ("arm", "part", "attempt")
    arm: ArmSlot
    pending_before: int | None
    pending_after: int | None
    pending_base: int | None
    steps_short: int
    steps_long: int
    short_ns: int
    long_ns: int
    residue_ns: int | None = Field(None, description="reading the losses right after the long run; None in sampling")
    attempt: int = Field(0, description="tries before it: a busy machine can spoil one")
    part: PartName = Field(description="what was measured when this was")
