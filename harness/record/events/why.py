"""Lines about why one arm is slower: steps cut into phases, and the shares of the gap that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from harness.record.events.base import ArmSlot, Event, PartName


class Phases(Event):
    """Steps of one arm, some whole and as many cut into phases, each phase waited for.

    `pair` numbers the turns of a block; `position` is 0 for the arm that ran first in it.
    """

    type: Literal["phases"] = "phases"
    subject: ClassVar = ("part", "arm", "block", "pair")
    part: PartName
    arm: ArmSlot
    block: int
    pair: int
    position: int
    whole_ns: list[int] = Field(description="one duration per whole step, synchronised at its end")
    phase_ns: dict[str, list[int]] = Field(description="phase, in order -> one duration per cut step; empty where the "
                                                       "arm does not cut its steps")


class Share(Event):
    """What a phase holds of the gap between two arms: (time A - time B) of the phase over that of whole steps."""

    type: Literal["share"] = "share"
    subject: ClassVar = ("part", "arm_a", "arm_b", "method", "cause")
    part: PartName
    arm_a: ArmSlot
    arm_b: ArmSlot
    method: Literal["cuts"]
    cause: str = Field(description="a phase; 'all' for the sum of all, which is 1 where nothing is left over")
    a_ns: float | None = Field(description="time of a step's phase in arm A, mean over blocks")
    b_ns: float | None
    share: float | None
    ci_low: float | None
    ci_high: float | None
    blocks: int
    word: Literal["explains", "does-not-explain", "works-against", "inconclusive", "adds-up", "does-not-add-up",
                  "no-gap", "not-measured"]
    reason: str | None = None
    next_action: str | None = None

    def sentence(self, arms: Mapping[str, str]) -> str:
        """What it says of arms of these names by slot, for the terminal."""
        a, b = (arms.get(slot, slot) for slot in (self.arm_a, self.arm_b))
        what = "all phases" if self.cause == "all" else self.cause
        if self.share is None or self.ci_low is None or self.ci_high is None:
            return f"why: {what} of {a} and {b}: {self.word}: {self.reason}"
        return (f"why: {what}: {self.share:.0%} [{self.ci_low:.0%}, {self.ci_high:.0%}] of the gap between {a} and {b} "
                f"[{self.word}]" + (f" ({self.reason})" if self.reason else ""))
