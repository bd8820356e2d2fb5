"""Lines about what more ranks bring: groups of them, their steps and sums, the gate, and what all that amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.record.events.base import ArmSlot, Event, PartName
from messages import shown, tell

# Strong: the batch is that of all ranks. Weak: it grows with them.
Mode = Literal["strong", "weak"]


class GroupStarted(Event):
    """The ranks of an arm met, in a block, or for the gate before all blocks (block -1)."""

    type: Literal["group"] = "group"
    subject: ClassVar = ("arm", "block", "size")
    part: PartName
    arm: ArmSlot
    block: int
    size: int = Field(description="how many ranks")
    launcher: str = Field(description="what started them; none for one process")
    hosts: list[str] = Field(description="by rank")
    pids: list[int] = Field(description="by rank")
    spawn_ns: int = Field(description="launch until the last rank had connected")
    import_ns: int = Field(description="framework import and meeting, of the slowest rank")
    build_ns: int = Field(description="network, optimiser and data built, of the slowest rank")
    parameter_count: int
    info: dict[str, Any] = Field(description="BackendInfo of rank 0 as JSON")


class ScaledWindow(Event):
    """A window of steps of one cell. On one host a group's time is from its first start to its last end."""

    type: Literal["scaled-window"] = "scaled-window"
    subject: ClassVar = ("arm", "block", "mode", "size", "averaged", "pair")
    part: PartName
    arm: ArmSlot
    block: int
    mode: Mode
    size: int
    averaged: bool = Field(description="gradients were averaged over the ranks; without, each trained for itself")
    pair: int
    position: int
    steps: int
    images: int = Field(description="of a step, of all ranks together")
    start_ns: int
    time_ns: int = Field(description="of all steps")
    rank_ns: list[int] = Field(description="the same of each rank by its own clock")


class RanksSummed(Event):
    """Sums of float32 numbers over all ranks, nothing else running."""

    type: Literal["ranks-summed"] = "ranks-summed"
    subject: ClassVar = ("arm", "block", "size", "floats")
    part: PartName
    arm: ArmSlot
    block: int
    size: int
    floats: int
    round_ns: list[int] = Field(description="of every sum, by the slowest rank")


class ScalingGate(Event):
    """Matched steps of a group of ranks against those of one process of the same arm."""

    type: Literal["scaling-gate"] = "scaling-gate"
    subject: ClassVar = ("arm", "size")
    part: PartName
    arm: ArmSlot
    size: int
    images: int = Field(description="of a step, of all ranks together")
    losses: list[float]
    loss_rel_diff: list[float] = Field(description="per step")
    tolerance: float
    unequal: list[str] = Field(description="of weights, averaged weights and moments, those whose hash differs between "
                                           "ranks")
    passed: bool
    reason: str | None = None


class Estimate(BaseModel):
    """A mean over blocks with its t interval; without limits where there is one block."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    value: float
    ci_low: float | None
    ci_high: float | None


class Scaled(Event):
    """What so many ranks bring one arm. Figures are None where the gate refused them or nothing was measured."""

    type: Literal["scaled"] = "scaled"
    subject: ClassVar = ("arm", "mode", "size")
    part: PartName
    arm: ArmSlot
    mode: Mode
    size: int
    images: int = Field(description="of a step, of all ranks together")
    blocks: int
    step_ns: float | None = Field(None, description="median over blocks")
    speedup: Estimate | None = Field(None, description="images per second over those of one process")
    efficiency: Estimate | None = Field(None, description="speed-up / ranks")
    exposed: Estimate | None = Field(None, description="share of a step that is gone where gradients are not averaged")
    bus_bytes_per_s: float | None = Field(None, description="of a sum of all gradients: V / t * 2 (N - 1) / N")
    straggler: float | None = Field(None, description="the slowest rank's step over the median rank's, not averaged")
    slowest_rank: int | None = None
    slowest_host: str | None = None
    reason: str | None = None

    def sentence(self, arms: Mapping[str, str]) -> str:
        """What it says of arms of these names by slot, for the terminal."""
        what = tell("scaling: {arm}, {mode}, {size} ranks", arm=arms.get(self.arm, self.arm), mode=shown(self.mode),
                    size=self.size)
        if self.speedup is None or self.efficiency is None:
            return f"{what}: {shown(str(self.reason))}"
        low, high = self.speedup.ci_low, self.speedup.ci_high
        limits = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
        places = {"what": what, "speedup": f"{self.speedup.value:.2f}{limits}",
                  "efficiency": f"{self.efficiency.value:.0%}"}
        if self.exposed is None:
            return tell("{what}: {speedup} times one process, efficiency {efficiency}", **places)
        return tell("{what}: {speedup} times one process, efficiency {efficiency}, communication {share} of a step",
                    share=f"{max(0.0, self.exposed.value):.0%}", **places)


class Point(BaseModel):
    """One place of a predicted curve."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mode: Mode
    size: int
    step_ns: float
    speedup: float


class Predicted(Event):
    """What more ranks than were measured would bring if they worked and were joined as those: no measurement."""

    type: Literal["predicted"] = "predicted"
    subject: ClassVar = ("arm",)
    part: PartName
    arm: ArmSlot
    fitted_at: int = Field(description="ranks whose steps and sums gave the constants")
    latency_ns: float = Field(description="of a message from one rank to the next")
    bandwidth_bytes_per_s: float = Field(description="of a long one")
    gradient_bytes: int
    fixed_ns: float | None = Field(None, description="part of a rank's step that stays however small its share of the "
                                                     "batch; None where all of one rank's time was divided")
    divided_ns: float | None = Field(None, description="what the whole batch takes beside that")
    points: list[Point]
    stops_paying: int | None = Field(None, description="strong: ranks from which twice as many would take no less time")
