"""Lines about the first layer at which two arms part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.record.events.base import ArmSlot, Event, PartName
from messages import plural, shown, tell

Stage = Literal["input", "forward", "loss", "backward", "optimizer", "steps"]


class Difference(BaseModel):
    """How far one array of an arm is from the reference's, and how far it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    place: str = Field(description="'output 0', 'gradient of input 0', 'gradient of weight', 'running_mean afterwards'")
    fed: bool = Field(description="whether the call was made alone, with the reference's inputs and gradients")
    max_abs: float | None = Field(description="largest absolute difference; None where there is nothing to hold "
                                              "against it")
    max_rel: float | None = Field(description="that over the reference's largest number")
    cosine: float | None = Field(description="of the angle between both")
    tolerance: float | None = Field(description="what the reference's own rounding allows, absolute")
    agrees: bool
    reason: str | None = None


class AlignedLayer(Event):
    """One call of a module of the reference, and the other arm's beside it."""

    type: Literal["aligned-layer"] = "aligned-layer"
    subject: ClassVar = ("part", "arm_a", "arm_b", "number")
    part: PartName
    arm_a: ArmSlot
    arm_b: ArmSlot
    number: int = Field(description="in the order in which the reference's calls begin")
    name: str = Field(description="where the module stands in the network; empty for the whole network")
    kind: str
    nth: int = Field(description="which call of this module, from 0")
    within: int | None = Field(description="the number of the call that it is a part of")
    differences: list[Difference]


class Culprit(BaseModel):
    """Where two arms part."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: Stage
    number: int | None = Field(description="of the call; None where it is no module's")
    name: str
    kind: str
    where: str = Field(description="in words: the module itself, or its own code beside the modules in it")
    place: str = Field(description="which array tells")


class Alignment(Event):
    """Where arm B parts from arm A; the reference, which the other one is held against, is PyTorch where there is one.

    `word` "agree": no layer, no gradient, no step differs by more than rounding; "differ": `culprit` is the first.
    """

    type: Literal["alignment"] = "alignment"
    subject: ClassVar = ("part", "arm_a", "arm_b")
    part: PartName
    arm_a: ArmSlot
    arm_b: ArmSlot
    reference: ArmSlot
    batch_size: int
    calls: int = Field(description="of modules of the reference")
    compared: int = Field(description="of these, how many the other arm made too")
    twins: list[str] = Field(description="what the tolerances rest on: 'double' and 'perturbed' twins of the reference")
    training: list[Difference] = Field(description="loss, optimiser fed with the reference's gradients, whole steps")
    word: Literal["agree", "differ", "not-traced"]
    culprit: Culprit | None = None
    further: list[str] = Field([], description="modules that differ too when fed, in words")
    hints: list[str] = Field([], description="known causes that the culprit's arrays bear out")
    notes: list[str] = Field([], description="differences of the frameworks themselves, which are no fault")
    kinks: list[str] = Field([], description="gradients that differ at a kink alone, as of ReLU, which is no fault")
    unmatched: list[str] = Field([], description="calls that one arm alone made")
    reason: str | None = None

    def excused(self, most: int = 3) -> str | None:
        """Which gradients differ at kinks, the first of them, in the reader's language."""
        if not self.kinks:
            return None
        said = list(map(shown, self.kinks[:most]))
        if (more := len(self.kinks) - most) > 0:
            said.append(plural(more, "more gradient like it", "more gradients like it"))
        if self.culprit is None:
            said.append(tell("all fed modules agree"))
        return tell("; ").join(said)

    def sentence(self, arms: Mapping[str, str]) -> str:
        """What it says of arms of these names by slot, for the terminal."""
        a, b = (arms.get(slot, slot) for slot in (self.arm_a, self.arm_b))
        if self.word == "not-traced":
            return tell("align: {a} and {b}: not traced: {reason}", a=a, b=b, reason=shown(str(self.reason)))
        if self.culprit is None:
            agree = tell("align: {a} and {b}: all {n} compared layers agree, forward, backward, and in training", a=a,
                         b=b, n=self.compared)
            return tell("; ").join(filter(None, [agree, self.excused()]))
        first = tell("align: {a} and {b} part first in {where} ({stage}: {place})", a=a, b=b,
                     where=shown(self.culprit.where), stage=self.culprit.stage, place=shown(self.culprit.place))
        return tell("; ").join([first, *map(shown, self.hints)])
