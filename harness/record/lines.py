"""The lines of a journal: numbered and checked one by one, so that damage is noticed and nothing counts twice."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.record.events import (
    SCHEMA_VERSION,
    Case,
    Event,
    Finding,
    Resumed,
    RunEnded,
    RunStarted,
    Verdict,
    reader,
)
from harness.record.findings import END_CODES
from impls.errors import UsageError
from impls.recipe.config import as_json
from messages import recorded, tell

# Cases of work that every resumed run does again.
REPEATED_CASES = "prewarm-"
MOST_SPANS = 5

_CHECKED = re.compile(rb'(.*),"crc":"([0-9a-f]{8})"\}', re.DOTALL)
_NUMBERED = re.compile(rb'(.*),"seq":(0|[1-9]\d{0,17})', re.DOTALL)
# Digits as zeros: where a number is long is found many times as fast as by a pattern.
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_LARGEST = 2**63


@dataclass(frozen=True)
class Lines:
    """What the lines of a journal hold.

    Attributes:
        events: every intact line, in the order of writing.
        faults: one sentence for every line that is not as it was written.
        lost: first and last of the numbers that are missing in a row.
        next_number: the number of the next line to be written.
    """

    events: tuple[Event, ...]
    faults: list[str]
    lost: list[tuple[int, int]]
    next_number: int

    @property
    def damage(self) -> list[str]:
        """One sentence for everything that is not as it was written."""
        return self.damage_of(self.next_number)

    def damage_of(self, numbered: int) -> list[str]:
        """The same once so many lines have a number."""
        if not self.lost:
            return list(self.faults)
        count = sum(last - first + 1 for first, last in self.lost)
        lost = recorded("{count} of {numbered} numbered lines are lost: {spans}", count=count, numbered=numbered,
                        spans=_spans(self.lost))
        return [*self.faults, lost]


class DamagedError(Exception):
    """Why a line cannot be trusted; `unchecked` where it looks whole but for a checksum."""

    def __init__(self, why: str, unchecked: bool = False) -> None:
        super().__init__(why)
        self.unchecked = unchecked


def encode(event: Event, number: int) -> bytes:
    """One line: the event as JSON, behind it its number `seq`, and the CRC-32 of all that stands before `,"crc"`."""
    body = as_json(event)[:-1] + b',"seq":%d' % number
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def decode(raw: bytes, path: Path) -> Lines:
    """Read lines as far as they are intact.

    Args:
        raw: the content of a journal.
        path: the run folder, for the error line.

    Raises:
        UsageError: written by a newer version of this program.
    """
    numbered: list[tuple[int, int, Event]] = []
    known: set[bytes] = set()
    faults: list[str] = []
    newest, unchecked = -1, 0
    lines = raw.split(b"\n")
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event, number = decode_line(line, path)
        except DamagedError as error:
            unchecked += error.unchecked
            faults.append(
                recorded("line {place} cannot be read (torn: the run was cut off here): {error}", place=place,
                         error=error) if place == len(lines) else
                recorded("line {place} cannot be read: {error}", place=place, error=error))
            continue
        if line in known:
            faults.append(recorded("line {place} is a copy of an earlier one: left out", place=place))
            continue
        if number < newest:
            faults.append(recorded("line {place} stands behind later ones: put back", place=place))
        known.add(line)
        # Two lines share a number where Ctrl-C came between a line and the counting of it.
        numbered.append((number, place, event))
        newest = max(newest, number)
    numbered.sort(key=lambda item: item[:2])
    order = [-1, *(number for number, _, _ in numbered)]
    lost = [(one + 1, other - 1) for one, other in pairwise(order) if other - one > 1]
    if not numbered and unchecked == len(faults) > 1:
        faults = [recorded("none of its {n} lines has a checksum: a version of this program that was never released "
                           "wrote it, or it is no journal", n=unchecked)]
    return Lines(tuple(event for _, _, event in numbered), faults, lost, newest + 1)


class Told:
    """The events of a journal as they come, but for what was done again.

    That is: blocks that a resumed run discarded, earlier ends, and all but the newest of those that tell of the same.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._count = 0
        self._kept: list[Event] = []
        self._newest: dict[object, Event] = {}
        self._by_kind: dict[type[Event], dict[object, Event]] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take the next one."""
        self._count += 1
        if isinstance(event, Resumed):
            gone = set(event.discarded_blocks)
            self._kept = [old for old in self._kept if not _done_again(old, gone)]
            self._newest, self._by_kind = {}, {}
            for old in self._kept:
                self._put(old)
        self._kept.append(event)
        self._put(event)

    @property
    def events(self) -> tuple[Event, ...]:
        """What counts, oldest first."""
        return tuple(self._newest.values())

    def of(self, kinds: tuple[type[Event], ...]) -> tuple[Event, ...]:
        """The same of some kinds alone, kind by kind, without looking at the others."""
        return tuple(event for kind, found in self._by_kind.items() if issubclass(kind, kinds)
                     for event in found.values())

    @property
    def discarded(self) -> int:
        """How many do not count."""
        return self._count - len(self._newest)

    def _put(self, event: Event) -> None:
        key = event.key or object()
        of_kind = self._by_kind.setdefault(type(event), {})
        if self._newest.pop(key, None) is not None:
            del of_kind[key]
        self._newest[key] = of_kind[key] = event


def _done_again(event: Event, blocks: set[int]) -> bool:
    if getattr(event, "block", None) in blocks or isinstance(event, Verdict | RunEnded):
        return True
    if isinstance(event, Case):
        return event.case_id.startswith(REPEATED_CASES)
    return isinstance(event, Finding) and event.code in END_CODES


def decode_line(line: bytes, path: Path) -> tuple[Event, int]:
    """The event of a line and its number.

    Raises:
        DamagedError: not as it was written, or never an event.
        UsageError: written by a newer version of this program.
    """
    checked = _CHECKED.fullmatch(line)
    if checked is None:
        _refuse_newer(path, line)
        raise DamagedError(recorded("it has no checksum"), unchecked=line.endswith(b"}"))
    body, crc = checked.groups()
    numbered = _NUMBERED.fullmatch(body)
    if numbered is None or zlib.crc32(body) != int(crc, 16):
        raise DamagedError(recorded("its checksum does not match"))
    line, number = numbered[1] + b"}", int(numbered[2])
    try:
        event = reader().validate_json(line)
    except ValidationError as error:
        _refuse_newer(path, line)
        raise DamagedError(_first_line(error)) from error
    if isinstance(event, RunStarted) and event.schema_version > SCHEMA_VERSION:
        raise _newer(path, event.schema_version)
    if _LONG_NUMBER in line.translate(_ZEROS) and _beyond(event):
        raise DamagedError(recorded("it holds a number beyond 64 bits"))
    return event, number


def _beyond(value: Any) -> bool:
    if isinstance(value, int):
        return not -_LARGEST <= value < _LARGEST
    if isinstance(value, BaseModel):
        return any(_beyond(item) for _, item in value)
    if isinstance(value, dict):
        return any(_beyond(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_beyond(item) for item in value)


def _refuse_newer(path: Path, line: bytes) -> None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise _newer(path, version)


def _newer(path: Path, version: int) -> UsageError:
    return UsageError(tell("{path}: written in results schema {version}, this program reads up to {known}: update it",
                           path=path, version=version, known=SCHEMA_VERSION))


def _first_line(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'line'}: {fault['msg']}"[:200]


def _spans(spans: Sequence[tuple[int, int]]) -> str:
    """First and last numbers for people, e.g. "4, 7 to 9"."""
    texts = [str(first) if first == last else recorded("{n} to {m}", n=first, m=last)
             for first, last in spans[:MOST_SPANS]]
    return ", ".join([*texts, "..."] if len(spans) > MOST_SPANS else texts)
