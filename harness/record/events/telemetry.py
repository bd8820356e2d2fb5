"""Lines of the monitors: samples, their sources, energy."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.record.events.base import ArmSlot, Event


class Sample(Event):
    """One telemetry sample of `source` ("host", "process:A", "gpu:0"); `values` has units in its names."""

    type: Literal["sample"] = "sample"
    source: str
    values: dict[str, float | int | None]


class MonitorState(Event):
    """Whether a telemetry source works; `reason` when it does not or stopped."""

    type: Literal["monitor"] = "monitor"
    source: str
    available: bool
    reason: str | None = None
    static: dict[str, str | int | float | None] = {}


class Energy(Event):
    """Energy of one device over a window from its counter; None with the reason when unreadable."""

    type: Literal["energy"] = "energy"
    subject: ClassVar = ("source", "arm", "block", "start_ns")
    source: str
    arm: ArmSlot
    block: int
    start_ns: int
    end_ns: int
    energy_mj: int | None
    steps: int
    reason: str | None = None
