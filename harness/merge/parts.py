"""The parts of one run: which of them are there, whole, and of one kind, so that their ratios may be pooled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.options import FREE_ON_RESUME
from harness.record.events import DatasetRecorded, EnvironmentRecorded, PairRecorded, RunStarted, WorkerStarted
from harness.record.run import JOURNAL, RecordedRun, finished_blocks, machines, read_run
from impls.errors import UsageError

MOST_NAMED = 4
# Options in which parts differ.
_OWN_OPTIONS = FREE_ON_RESUME | {"share", "sbatch", "tasks"}
# What a process proved to run that must be alike; the rest tells of the one GPU or of paths.
_PROVED = ("framework", "version", "device", "device_name", "dtype", "tf32", "threads", "operators")
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
        return f"part {self.number} ({self.run.path})"


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
            raise UsageError(f"{other.name} is one of {other.of}, {one.name} one of {one.of}: they belong to different "
                             "runs")
        if one.number == other.number:
            raise UsageError(f"part {one.number} is there twice, in {one.run.path} and {other.run.path}: leave one out")
    _require_whole(parts)
    for part in parts[1:]:
        found = list(differences(first, part))
        if found:
            more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            named = "; ".join(found[:MOST_NAMED]) + more
            raise UsageError(f"{part.name} was not measured as {first.name} was: {named}: "
                             "measure it again with the same program on a machine of the same kind")
    return parts


def _require_whole(parts: Sequence[Part]) -> None:
    of, there = parts[0].of, {part.number for part in parts}
    faults = [f"part {number} is missing: measure it alone (sbatch --array={number} SCRIPT, or run_bench.py with "
              f"--share {number}/{of})" for number in range(of) if number not in there]
    for part in parts:
        if part.run.status not in ("complete", "failed"):
            done = len(finished_blocks(part.run))
            faults.append(f"{part.name} is {part.run.status} after {done} block{'' if done == 1 else 's'}: go on with "
                          f"run_bench.py --resume {part.run.path}")
        elif part.run.damage:
            faults.append(f"{part.name} is damaged: {part.run.damage[0]}")
    if faults:
        raise UsageError("; ".join(faults))


def _read(path: Path) -> Part:
    run = read_run(_folder(path))
    started = run.started
    if started is None:
        raise UsageError(f"{run.path}: the first line of its journal is damaged: measure that part again")
    number, slash, of = str(started.bench.get("share") or "").partition("/")
    if not slash:
        raise UsageError(f"{run.path}: is a whole run and no part of one (--share): only parts can be merged")
    found = machines(run.events)
    if len(found) != 1:
        raise UsageError(f"{run.path}: was measured in {len(found)} environments: measure that part again, in one")
    return Part(int(number), int(of), run, started, found[0].recorded)


def _folder(path: Path) -> Path:
    """A run folder, or the only one in a folder; runs that were ended before their first line are none."""
    if (path / JOURNAL).exists():
        return path
    try:
        inside = sorted(one.parent for one in path.glob(f"*/{JOURNAL}") if one.stat().st_size)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(inside) != 1:
        raise UsageError(f"{path}: holds {len(inside) or 'no'} run{'s' if len(inside) > 1 else ''}: "
                         + ("name one of them" if inside else "is that part measured?"))
    return inside[0]


def differences(first: Part, other: Part) -> Iterator[str]:
    """What is not alike in two parts and has to be, in words."""
    one, two = first.started, other.started
    yield from _differ("suite", one.suite, two.suite)
    yield from _differ("arms", [arm.name for arm in one.arms], [arm.name for arm in two.arms])
    for name in dict.fromkeys([*one.bench, *two.bench]):
        if name not in _OWN_OPTIONS:
            yield from _differ(f"--{name.replace('_', '-')}", one.bench.get(name), two.bench.get(name))
    yield from _differ("experiment", one.config_sha256[:12], two.config_sha256[:12])
    yield from _differ("device", one.declared.get("device"), two.declared.get("device"))
    for kind, field in ((DatasetRecorded, "data set"), (PairRecorded, "pair")):
        told = [getattr(part.run.last(kind), "sha256", None) for part in (first, other)]
        yield from _differ(f"SHA-256 of the {field}", *told)
    yield from _differ("failed checks", _failed(first.run), _failed(other.run))
    left, right = first.environment, other.environment
    for name in must_match(left, right):
        yield from _differ(name, left.facts.get(name), right.facts.get(name))
    for slot in first.run.arms:
        proved = [_proved(part.run, slot) for part in (first, other)]
        for name in (*_PROVED, "parameter count"):
            if all(proved):
                yield from _differ(f"{name} of {first.run.arms[slot]}", proved[0].get(name), proved[1].get(name))


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
    return {**workers[-1].info, "parameter count": workers[-1].parameter_count} if workers else {}


def _differ(name: str, one: object, other: object) -> Iterator[str]:
    if one != other:
        yield f"{name} is {_shown(other)}, not {_shown(one)}"


def _shown(value: object) -> str:
    return "not known" if value is None else f"{json.dumps(value, default=str):.60}"
