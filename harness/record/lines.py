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
    EVENT,
    SCHEMA_VERSION,
    AnyEvent,
    BlockState,
    Case,
    Energy,
    Epoch,
    Event,
    Finding,
    ImagesSampled,
    Losses,
    Memory,
    NearestImages,
    Overhead,
    ParityResult,
    Peak,
    Quality,
    QualityDifference,
    ReferenceFeatures,
    Resumed,
    RunEnded,
    RunStarted,
    SampleAgreement,
    SamplesDrawn,
    SyncProof,
    Trained,
    Trap,
    Verdict,
    WarmUp,
    Window,
    WorkerStarted,
)
from harness.record.findings import END_CODES
from impls.errors import UsageError

# Two lines that agree in these fields tell of the same thing, and the newer one counts.
SAME: dict[type[Event], tuple[str, ...]] = {
    WorkerStarted: ("role", "arm", "block"),
    WarmUp: ("arm", "block"),
    Window: ("kind", "arm", "block", "pair", "cell", "images"),
    Epoch: ("arm", "block", "epoch"),
    Losses: ("randomness", "arm", "block", "first_step"),
    Memory: ("arm", "block"),
    Peak: ("arm", "part"),
    Overhead: ("what", "arm", "part"),
    SyncProof: ("arm", "part", "attempt"),
    Trap: ("arm", "block", "cell"),
    Energy: ("source", "arm", "block", "start_ns"),
    ParityResult: ("arm_a", "arm_b"),
    SamplesDrawn: ("arm", "cell"),
    SampleAgreement: ("arm_a", "arm_b", "cell"),
    Trained: ("arm", "steps"),
    ImagesSampled: ("arm", "cell", "train_steps"),
    ReferenceFeatures: ("extractor", "label"),
    Quality: ("arm", "cell", "train_steps", "extractor", "label"),
    QualityDifference: ("arm_a", "arm_b", "cell", "train_steps", "label"),
    NearestImages: ("arm", "cell"),
    Case: ("case_id",),
    BlockState: ("block",),
    Verdict: ("metric", "arm_a", "arm_b", "cell"),
}
# Cases of work that every resumed run does again.
REPEATED_CASES = "prewarm-"
MOST_SPANS = 5

_CHECKED = re.compile(rb'(.*),"crc":"([0-9a-f]{8})"\}', re.DOTALL)
_NUMBERED = re.compile(rb'(.*),"seq":(0|[1-9]\d{0,17})', re.DOTALL)
_LONG_NUMBER = re.compile(rb"\d{19}")
_LARGEST = 2**63


@dataclass(frozen=True)
class Lines:
    """What the lines of a journal hold.

    Attributes:
        events: every intact line, in the order of writing.
        damage: one sentence for everything that is not as it was written.
        next_number: the number of the next line to be written.
    """

    events: tuple[AnyEvent, ...]
    damage: list[str]
    next_number: int


class _DamagedError(Exception):
    """Why a line cannot be trusted; `unchecked` where it has no checksum."""

    def __init__(self, why: str, unchecked: bool = False) -> None:
        super().__init__(why)
        self.unchecked = unchecked


def encode(event: Event, number: int) -> bytes:
    """One line: the event as JSON, behind it its number `seq`, and the CRC-32 of all that stands before `,"crc"`."""
    body = event.model_dump_json().encode()[:-1] + b',"seq":%d' % number
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def decode(raw: bytes, path: Path) -> Lines:
    """Read lines as far as they are intact.

    Args:
        raw: the content of a journal.
        path: the run folder, for the error line.

    Raises:
        UsageError: written by a newer version of this program.
    """
    numbered: list[tuple[int, int, AnyEvent]] = []
    known: set[bytes] = set()
    damage: list[str] = []
    newest, unchecked = -1, 0
    lines = raw.split(b"\n")
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event, number = _line(line, path)
        except _DamagedError as error:
            unchecked += error.unchecked
            torn = " (torn: the run was cut off here)" if place == len(lines) else ""
            damage.append(f"line {place} cannot be read{torn}: {error}")
            continue
        if line in known:
            damage.append(f"line {place} is a copy of an earlier one: left out")
            continue
        if number < newest:
            damage.append(f"line {place} stands behind later ones: put back")
        known.add(line)
        # Two lines share a number where Ctrl-C came between a line and the counting of it.
        numbered.append((number, place, event))
        newest = max(newest, number)
    numbered.sort(key=lambda item: item[:2])
    order = [-1, *(number for number, _, _ in numbered)]
    if lost := [(one + 1, other - 1) for one, other in pairwise(order) if other - one > 1]:
        count = sum(last - first + 1 for first, last in lost)
        damage.append(f"{count} of {newest + 1} numbered lines are lost: {_spans(lost)}")
    if not numbered and unchecked > 1:
        damage = [f"none of its {unchecked} lines has a checksum: a version of this program that was never released "
                  "wrote it, or it is no journal"]
    return Lines(tuple(event for _, _, event in numbered), damage, newest + 1)


def without_repeated(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Drop what was done again: blocks that a resumed run discarded, earlier ends, and all but the newest of a kind."""
    kept: list[AnyEvent] = []
    for event in events:
        if isinstance(event, Resumed):
            gone = set(event.discarded_blocks)
            kept = [old for old in kept if not _done_again(old, gone)]
        kept.append(event)
    keys = [subject(event) for event in kept]
    newest = {key: index for index, key in enumerate(keys)}
    return [event for index, (event, key) in enumerate(zip(kept, keys, strict=True))
            if key is None or newest[key] == index]


def _done_again(event: AnyEvent, blocks: set[int]) -> bool:
    if getattr(event, "block", None) in blocks or isinstance(event, Verdict | RunEnded):
        return True
    if isinstance(event, Case):
        return event.case_id.startswith(REPEATED_CASES)
    return isinstance(event, Finding) and event.code in END_CODES


def subject(event: Event) -> tuple[object, ...] | None:
    """What a line tells of; None where every line stands for itself."""
    fields = SAME.get(type(event))
    return None if fields is None else (type(event), *(getattr(event, name) for name in fields))


def _line(line: bytes, path: Path) -> tuple[AnyEvent, int]:
    """The event of a line and its number.

    Raises:
        _DamagedError: not as it was written, or never an event.
    """
    checked = _CHECKED.fullmatch(line)
    if checked is None:
        _refuse_newer(path, line)
        raise _DamagedError("it has no checksum", unchecked=True)
    body, crc = checked.groups()
    numbered = _NUMBERED.fullmatch(body)
    if numbered is None or zlib.crc32(body) != int(crc, 16):
        raise _DamagedError("its checksum does not match")
    line, number = numbered[1] + b"}", int(numbered[2])
    try:
        event = EVENT.validate_json(line)
    except ValidationError as error:
        _refuse_newer(path, line)
        raise _DamagedError(_first_line(error)) from error
    if isinstance(event, RunStarted) and event.schema_version > SCHEMA_VERSION:
        raise _newer(path, event.schema_version)
    if _LONG_NUMBER.search(line) and _beyond(event):
        raise _DamagedError("it holds a number beyond 64 bits")
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
    return UsageError(
        f"{path}: written in results schema {version}, this program reads up to {SCHEMA_VERSION}: update it")


def _first_line(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'line'}: {fault['msg']}"[:200]


def _spans(spans: Sequence[tuple[int, int]]) -> str:
    """First and last numbers for people, e.g. "4, 7 to 9"."""
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in spans[:MOST_SPANS]]
    return ", ".join([*texts, "..."] if len(spans) > MOST_SPANS else texts)
