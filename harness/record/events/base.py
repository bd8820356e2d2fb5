"""What every line of the journal shares, and the words that several of them use."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
# Ends the metric of a verdict on an arm against itself.
SELF_CHECK = " (self-check)"
ArmSlot = Literal["A", "B", "C", "D", "E", "F", "G", "H"]
# A part of a suite, in a lower-case word: one of the registry, or of a suite that registers itself from outside.
PartName = str
Severity = Literal["info", "warning", "error"]
SteadyClass = Literal["flat", "warmup", "slowdown", "no-steady-state"]
Word = Literal["A-faster", "B-faster", "equivalent", "inconclusive", "not-comparable"]


class Event(BaseModel):
    """Base of all journal lines: `t_ns` is the monotonic stamp of the writing.

    Two lines that agree in the fields of `subject` tell of the same thing, and the newer one counts; without any, every
    line stands for itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    subject: ClassVar[tuple[str, ...]] = ()
    t_ns: int = 0

    @property
    def key(self) -> tuple[object, ...] | None:
        """What the line tells of; None where it stands for itself."""
        return (type(self), _told_by(self.subject)(self)) if self.subject else None


@cache
def _told_by(subject: tuple[str, ...]) -> attrgetter[object]:
    return attrgetter(*subject)


class ArmEntry(BaseModel):
    """One arm of the run: `slot` is its letter in the run, `name` the text of `--arms`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slot: ArmSlot
    name: str
