"""Lines about drawn images: what they look like, whether they agree, and how they are timed wrongly."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from harness.record.events.base import ArmSlot, Event, PartName
from impls.recipe.precision import Precision


class Trap(Event):
    """The same chain timed wrongly and rightly, after one start: when it was asked for, and when it was finished."""

    type: Literal["trap"] = "trap"
    subject: ClassVar = ("arm", "block", "cell")
    part: ClassVar[PartName] = "sampling"
    arm: ArmSlot
    block: int
    cell: str
    images: int
    unsynchronised_ns: int
    synchronised_ns: int


class SamplesDrawn(Event):
    """Images of one arm from the run's seed: a grid and a GIF of the denoising, as files of the run folder.

    `why_no_gif` says why `gif` is None.
    """

    type: Literal["samples"] = "samples"
    subject: ClassVar = ("arm", "cell")
    part: ClassVar[PartName] = "sampling"
    arm: ArmSlot
    cell: str
    seed: int
    images: int
    weights: str = Field(description="where the weights come from")
    grid: str = Field(description="PNG, relative to the run folder")
    gif: str | None = Field(None, description="GIF, relative to the run folder")
    why_no_gif: str | None = None


class SampleAgreement(Event):
    """Images of arm `arm_b` against those of `arm_a`: the same weights, seed and settings.

    `within_one` is the share of all uint8 values that differ by at most one level.
    """

    type: Literal["sample-agreement"] = "sample-agreement"
    subject: ClassVar = ("arm_a", "arm_b", "cell")
    part: ClassVar[PartName] = "sampling"
    arm_a: ArmSlot
    arm_b: ArmSlot
    cell: str
    images: int
    within_one: float
    largest: int = Field(description="largest difference in levels")
    tolerance: float
    precision: Precision | None = Field(None, description="the coarser of both arms' number formats, whose tolerance "
                                                          "this is; None in older runs")
    passed: bool
    reason: str | None = None
