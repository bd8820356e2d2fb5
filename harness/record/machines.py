"""The environments of a run, several after `--resume --allow-env-change`: their lasting facts, and their blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events.base import Event
from harness.record.events.run import BlockState, EnvironmentRecorded

# Recorded facts that move all the time by themselves.
VOLATILE = ("load1", "memory_available_bytes", "swap_used_bytes", "cpu_frequency_mhz")
VOLATILE_ENDS = ("_processes", "_memory_used_bytes", "_temperature_c", "_sm_clock_mhz")


@dataclass(frozen=True)
class Machine:
    """One environment of a run.

    Attributes:
        recorded: its facts, as recorded first.
        blocks: the finished blocks that were measured in it, in order.
    """

    recorded: EnvironmentRecorded
    blocks: tuple[int, ...]


def machines(events: Iterable[Event]) -> list[Machine]:
    """The environments of a run, oldest first; those that agree in all starred facts are one."""
    found: list[tuple[EnvironmentRecorded, list[int]]] = []
    current: list[int] | None = None
    for event in events:
        if isinstance(event, EnvironmentRecorded):
            same = [blocks for recorded, blocks in found if _starred(recorded) == _starred(event)]
            if not same:
                found.append((event, []))
            current = same[0] if same else found[-1][1]
        elif isinstance(event, BlockState) and current is not None:
            current.append(event.block)
    return [Machine(recorded, tuple(blocks)) for recorded, blocks in found]


def lasting(recorded: EnvironmentRecorded) -> dict[str, str | int | float | bool | None]:
    """The facts that do not move by themselves."""
    return {name: value for name, value in recorded.facts.items() if not moves(name)}


def moves(name: str) -> bool:
    """Whether a fact moves all the time by itself."""
    return name in VOLATILE or name.endswith(VOLATILE_ENDS)


def _starred(recorded: EnvironmentRecorded) -> dict[str, str | int | float | bool | None]:
    return {name: recorded.facts.get(name) for name in recorded.starred}
