"""Lines about training: epochs and losses."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from harness.record.events.base import ArmSlot, Event, PartName


class Epoch(Event):
    """One whole pass over `images` images; `gap_ns` is from the last step before it to its first step.

    `start_ns`..`end_ns` is the epoch, synchronised at both ends;
    `step_start_ns` are host-side stamps of the enqueueing.
    """

    type: Literal["epoch"] = "epoch"
    subject: ClassVar = ("arm", "block", "epoch")
    part: ClassVar[PartName] = "training"
    arm: ArmSlot
    block: int
    epoch: int
    loader: Literal["resident", "native"]
    num_workers: int
    images: int
    start_ns: int
    end_ns: int
    gap_ns: int | None
    step_start_ns: list[int]
    loader_wait_ns: list[int]


class Losses(Event):
    """Training losses from `first_step` on.

    `matched`: the same weights, data and noise in every arm; `control`: the same with perturbed weights.
    """

    type: Literal["losses"] = "losses"
    subject: ClassVar = ("randomness", "arm", "block", "first_step")
    arm: ArmSlot
    block: int
    randomness: Literal["native", "matched", "control"]
    first_step: int
    losses: list[float]
    loss_scale: float | None = Field(None, description="what the loss is multiplied by after these steps, for "
                                                       "gradients in float16; None where it is not scaled")
    skipped: int | None = Field(None, description="how many of these steps were left out because a gradient overflowed")
