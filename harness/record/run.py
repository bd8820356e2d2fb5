"""A recorded run, read back: its events, parts, environments and blocks; nothing is measured or judged here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from harness.collector import without_collector
from harness.record.events import (
    BlockState,
    Case,
    EnvironmentRecorded,
    Event,
    PartName,
    RunEnded,
    RunStarted,
)
from harness.record.lines import Told, decode
from impls.errors import UsageError
from messages import tell

JOURNAL = "journal.jsonl"
# Recorded facts that move all the time by themselves.
VOLATILE = ("load1", "memory_available_bytes", "swap_used_bytes", "cpu_frequency_mhz")
VOLATILE_ENDS = ("_processes", "_memory_used_bytes", "_temperature_c", "_sm_clock_mhz")
# The fact that tells hosts apart.
HOST = "host"
# More blocks than a run can have.
MOST_BLOCKS = 10_000

SomeEvent = TypeVar("SomeEvent", bound=Event)
Slot = TypeVar("Slot", bound=str)


@dataclass(frozen=True)
class RecordedRun:
    """One run as its journal tells it.

    Attributes:
        path: the run folder.
        events: every intact line, oldest first; of what was done again, only the newest.
        damage: one sentence for every line that could not be read, or is lost, doubled or out of place.
        discarded: number of events left out because they were done again.
    """

    path: Path
    events: tuple[Event, ...]
    damage: list[str] = field(default_factory=list)
    discarded: int = 0

    def of(self, kind: type[SomeEvent]) -> list[SomeEvent]:
        """All events of one class, oldest first."""
        found = [event for one, events in self.by_class.items() if issubclass(one, kind) for event in events]
        several = sum(issubclass(one, kind) for one in self.by_class) > 1
        return [event for event in self.events if isinstance(event, kind)] if several else cast(list[SomeEvent], found)

    def last(self, kind: type[SomeEvent]) -> SomeEvent | None:
        """The newest event of one class, or None."""
        found = self.of(kind)
        return found[-1] if found else None

    @cached_property
    def by_class(self) -> dict[type[Event], list[Event]]:
        """Sorted once: a report asks some seventy times."""
        found: dict[type[Event], list[Event]] = {}
        for event in self.events:
            found.setdefault(type(event), []).append(event)
        return found

    @property
    def started(self) -> RunStarted | None:
        """The first line; None when it was damaged."""
        return self.last(RunStarted)

    @property
    def arms(self) -> dict[str, str]:
        """Slot -> arm name, in the order of `--arms`."""
        return {arm.slot: arm.name for arm in self.started.arms} if self.started else {}

    @property
    def status(self) -> str:
        """How it ended: complete, failed, interrupted, or unfinished where the journal has no end."""
        end = self.last(RunEnded)
        return end.status if end else "unfinished"

    @property
    def parts(self) -> tuple[PartName, ...]:
        """What its suite measures, in order, as declared; where that line is lost, what its other lines name."""
        declared = self.started.declared.get("parts") if self.started else None
        named = declared if declared and isinstance(declared, list) else map(own_part, self.events)
        return tuple(dict.fromkeys(part for part in named if isinstance(part, str)))

    def part(self, name: PartName) -> RecordedRun:
        """The run without what belongs to its other parts; a line that belongs to none stays.

        A line belongs to the part that it names, else to that of its block; what stands before all blocks, and a block
        of which neither a line nor the declaration tells whose it is, belong to the first part.
        """
        owners, first = self._owners, next(iter(self.parts), None)

        def ours(event: Event) -> bool:
            block = _block(event)
            owner = own_part(event) or (None if block is None else owners.get(block, first))
            return owner in (None, name)

        return replace(self, events=tuple(event for event in self.events if ours(event)))

    @cached_property
    def _owners(self) -> dict[int, PartName]:
        """Block -> its part, as far as the declaration or one of its lines tells."""
        owners: dict[int, PartName] = {}
        by_part = self.started.declared.get("by_part") if self.started else None
        for part, declared in by_part.items() if isinstance(by_part, dict) else ():
            match declared:
                case {"block_numbers": [int(least), int(most)]} if most < least + MOST_BLOCKS:
                    owners.update((block, part) for block in range(least, most + 1))
        for event in self.events:
            block, part = _block(event), own_part(event)
            if block is not None and part is not None:
                owners[block] = part
        return owners


@dataclass(frozen=True)
class Machine:
    """One environment of a run.

    Attributes:
        recorded: its facts, as recorded first.
        blocks: the finished blocks that were measured in it, in order.
    """

    recorded: EnvironmentRecorded
    blocks: tuple[int, ...]


# The collector goes through all that was read time and again and finds no circle in it.
@without_collector()
def read_run(path: Path) -> RecordedRun:
    """Read a run folder as far as it is intact; `damage` says what is not, a torn last line included.

    Raises:
        UsageError: no journal there, or one written by a newer version of this program.
    """
    try:
        raw = (path / JOURNAL).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(tell("{path}: not a run folder: cannot read {file}: {why}", path=path, file=JOURNAL,
                              why=why)) from error
    lines = decode(raw, path)
    told = Told(lines.events)
    return RecordedRun(path, told.events, lines.damage, told.discarded)


def joined(slots: Sequence[Slot], pairs: Iterable[tuple[Slot, Slot]]) -> tuple[tuple[Slot, ...], ...]:
    """The slots in groups, each of those that pairs join; a pair of which not both are among them joins nothing."""
    of = {slot: {slot} for slot in slots}
    for a, b in pairs:
        if a in of and b in of:
            both = of[a] | of[b]
            of.update(dict.fromkeys(both, both))
    return tuple(dict.fromkeys(tuple(slot for slot in slots if slot in of[one]) for one in slots))


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


def finished_blocks(run: RecordedRun) -> dict[int, BlockState]:
    """Blocks that every arm finished: kept."""
    failed = {case.block for case in run.of(Case) if case.status != "measured"}
    return {state.block: state for state in run.of(BlockState) if state.block not in failed}


def unfinished_blocks(run: RecordedRun) -> list[int]:
    """Blocks that left lines but did not finish: measured again."""
    seen = {block for event in run.events if (block := _block(event)) is not None and block >= 0}
    return sorted(seen - finished_blocks(run).keys())


def report_due(path: Path) -> bool:
    """Whether a run that has ended lacks its report or its place in the index: it was stopped while they were built."""
    made = [path / JOURNAL, path / "report.html", path.parent / "index.html"]
    try:
        # Each is written after the one before it.
        times = [file.stat().st_mtime_ns for file in made]
    except OSError:
        return True
    return times != sorted(times)


def own_part(event: Event) -> PartName | None:
    """The part that a line itself belongs to, whatever its block; None where it doesn't tell."""
    part: PartName | None = getattr(event, "part", None)
    return part


def _block(event: Event) -> int | None:
    return getattr(event, "block", None)


def _starred(recorded: EnvironmentRecorded) -> dict[str, str | int | float | bool | None]:
    return {name: recorded.facts.get(name) for name in recorded.starred}
