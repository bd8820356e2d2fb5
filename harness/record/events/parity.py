"""Lines about parity: whether arms compute the same."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from harness.record.events.base import ArmSlot, Event
from impls.recipe.precision import Precision


class ParityResult(Event):
    """Arm `arm_b` against `arm_a` on the same weights and batches; a None figure was not measured.

    `loss_rel_diff` and `control_rel_diff` are per step; the control is arm A against itself, its weights perturbed by
    1e-7.
    """

    type: Literal["parity"] = "parity"
    subject: ClassVar = ("arm_a", "arm_b")
    arm_a: ArmSlot
    arm_b: ArmSlot
    preset: str
    batch_size: int
    parameters_equal: bool
    forward_max_abs: float | None
    gradient_worst_rel: float | None
    gradient_worst_name: str | None
    adam_max_abs: float | None
    loss_rel_diff: list[float]
    control_rel_diff: list[float]
    tolerances: dict[str, float]
    precision: Precision | None = Field(None, description="the coarser of both arms' number formats, whose tolerances "
                                                          "these are; None in older runs")
    passed: bool
    reason: str | None = None
