"""The parts of one run: which of them are there, whole, and of one kind, so that their ratios may be pooled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from harness.options import FREE_ON_RESUME
from harness.record.events import DatasetRecorded, EnvironmentRecorded, PairRecorded, RunStarted, WorkerStarted
from harness.record.run import JOURNAL, RecordedRun, finished_blocks, machines, read_run
from impls.errors import UsageError
from messages import marked, plural, shown, tell

MOST_NAMED = 4
# Options in which parts differ.
_OWN_OPTIONS = FREE_ON_RESUME | {"share", "sbatch", "tasks"}
# What a process proved to run that must be alike; the rest tells of the one GPU or of paths.
_PROVED = ("framework", "version", "device", "device_name", "dtype", "tf32", "threads", "operators")
_PARAMETERS = marked("parameter count")
# A launcher binds tasks that share a host to different processors, which must be as many.
BOUND_TO, AS_MANY = "cpu_affinity", "cpu_usable"


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        number: which, from 0.
        of: how many there are.
        run: its journal.
        started: its first line.
        environment: where it was measured.
    """

    number: int
    of: int
    run: RecordedRun
    started: RunStarted
    environment: EnvironmentRecorded

    @property
    def name(self) -> str:
        """For people."""
        return tell("part {number} ({path})", number=self.number, path=self.run.path)


def read_parts(paths: Sequence[Path]) -> list[Part]:
    """The parts of one run, in order.

    Args:
        paths: run folders, or folders that hold one each.

    Raises:
        UsageError: one is missing, unfinished, there twice or no part; or they differ in what must be alike.
    """
    parts = sorted((_read(path) for path in paths), key=lambda part: part.number)
    first = parts[0]
    for one, other in zip(parts, parts[1:], strict=False):
        if one.of != other.of:
            raise UsageError(tell("{other} is one of {of_other}, {one} one of {of_one}: they belong to different runs",
                                  other=other.name, of_other=other.of, one=one.name, of_one=one.of))
        if one.number == other.number:
            raise UsageError(tell("part {number} is there twice, in {one} and {other}: leave one out",
                                  number=one.number, one=one.run.path, other=other.run.path))
    _require_whole(parts)
    for part in parts[1:]:
        found = list(differences(first, part))
        if found:
            more = [tell("and {more} more", more=len(found) - MOST_NAMED)] if len(found) > MOST_NAMED else []
            raise UsageError(tell(
                "{part} was not measured as {first} was: {differences}: measure it again with the same program on a "
                "machine of the same kind", part=part.name, first=first.name,
                differences="; ".join([*found[:MOST_NAMED], *more])))
    return parts


def _require_whole(parts: Sequence[Part]) -> None:
    of, there = parts[0].of, {part.number for part in parts}
    faults = [tell("part {number} is missing: measure it alone (sbatch --array={number} SCRIPT, or run_bench.py with "
                   "--share {number}/{of})", number=number, of=of) for number in range(of) if number not in there]
    for part in parts:
        if part.run.status not in ("complete", "failed"):
            done = len(finished_blocks(part.run))
            faults.append(tell("{part} is {status} after {blocks}: go on with run_bench.py --resume {path}",
                               part=part.name, status=shown(part.run.status), blocks=plural(done, "block"),
                               path=quote(str(part.run.path))))
        elif part.run.damage:
            faults.append(tell("{part} is damaged: {damage}", part=part.name, damage=shown(part.run.damage[0])))
    if faults:
        raise UsageError("; ".join(faults))


def _read(path: Path) -> Part:
    run = read_run(_folder(path))
    started = run.started
    if started is None:
        raise UsageError(tell("{path}: the first line of its journal is damaged: measure that part again",
                              path=run.path))
    share = re.fullmatch(r"(\d{1,4})/(\d{1,4})", str(started.bench.get("share")))
    if share is None:
        raise UsageError(tell("{path}: is a whole run and no part of one (--share): only parts can be merged",
                              path=run.path))
    found = machines(run.events)
    if len(found) != 1:
        raise UsageError(tell("{path}: was measured in {environments} environments: measure that part again, in one",
                              path=run.path, environments=len(found)))
    return Part(int(share[1]), int(share[2]), run, started, found[0].recorded)


def _folder(path: Path) -> Path:
    """A run folder, or the only one in a folder; runs that were ended before their first line are none."""
    if (path / JOURNAL).exists():
        return path
    try:
        inside = sorted(one.parent for one in path.glob(f"*/{JOURNAL}") if one.stat().st_size)
    except OSError as error:
        raise UsageError(tell("{path}: cannot be read: {why}", path=path, why=error.strerror or error)) from error
    if not inside:
        raise UsageError(tell("{path}: holds no run: is that part measured?", path=path))
    if len(inside) > 1:
        raise UsageError(tell("{path}: holds {runs} runs: name one of them", path=path, runs=len(inside)))
    return inside[0]


def differences(first: Part, other: Part) -> Iterator[str]:
    """What is not alike in two parts and has to be, in words."""
    one, two = first.started, other.started
    yield from _differ(tell("suite"), one.suite, two.suite)
    yield from _differ(tell("arms"), [arm.name for arm in one.arms], [arm.name for arm in two.arms])
    for name in dict.fromkeys([*one.bench, *two.bench]):
        if name not in _OWN_OPTIONS:
            yield from _differ(f"--{name.replace('_', '-')}", one.bench.get(name), two.bench.get(name))
    yield from _differ(tell("experiment"), one.config_sha256[:12], two.config_sha256[:12])
    yield from _differ(tell("device"), one.declared.get("device"), two.declared.get("device"))
    for kind, name in ((DatasetRecorded, tell("SHA-256 of the data set")), (PairRecorded, tell("SHA-256 of the pair"))):
        told = [getattr(part.run.last(kind), "sha256", None) for part in (first, other)]
        yield from _differ(name, *told)
    yield from _differ(tell("failed checks"), _failed(first.run), _failed(other.run))
    left, right = first.environment, other.environment
    for name in must_match(left, right):
        yield from _differ(name, left.facts.get(name), right.facts.get(name))
    for slot in first.run.arms:
        proved = [_proved(part.run, slot) for part in (first, other)]
        for name in (*_PROVED, _PARAMETERS):
            if all(proved):
                yield from _differ(tell("{name} of {arm}", name=shown(name), arm=first.run.arms[slot]),
                                   proved[0].get(name), proved[1].get(name))


def must_match(*recorded: EnvironmentRecorded) -> list[str]:
    """The facts in which parts must be alike."""
    starred = dict.fromkeys(name for one in recorded for name in one.starred)
    return [AS_MANY if name == BOUND_TO else name for name in starred]


def _failed(run: RecordedRun) -> list[str]:
    """Kinds of checks that did not pass, of any part of the suite."""
    return sorted({str(type(event).model_fields["type"].default) for event in run.events
                   if getattr(event, "passed", True) is False})


def _proved(run: RecordedRun, slot: str) -> Mapping[str, Any]:
    workers = [worker for worker in run.of(WorkerStarted) if worker.arm == slot and worker.role == "measure"]
    return {**workers[-1].info, _PARAMETERS: workers[-1].parameter_count} if workers else {}


def _differ(name: str, one: object, other: object) -> Iterator[str]:
    if one != other:
        yield tell("{name} is {found}, not {other}", name=name, found=_value(other), other=_value(one))


def _value(value: object) -> str:
    return tell("not known") if value is None else f"{json.dumps(value, default=str):.60}"
