"""One journal of all parts of a run, judged as that of one run, with the host as a factor."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.machine.disturbance import disturbed_blocks
from harness.merge.parts import BOUND_TO, Part, must_match
from harness.options import BenchConfig
from harness.plan import Plan, declared, make_plans
from harness.record.events import (
    BlockState,
    Case,
    EnvironmentRecorded,
    Event,
    Finding,
    Resumed,
    RunEnded,
    RunStarted,
    Sample,
)
from harness.record.findings import BLOCKS_DISTURBED, MERGED
from harness.record.run import HOST, RecordedRun, machines
from harness.record.writer import FOLDERS, RunWriter
from harness.run.resolve import asked_of
from impls.errors import EXIT_FAILED, EXIT_OK, UsageError
from impls.recipe.config import ExperimentConfig, validated
from impls.registry import Device
from impls.store.files import staging
from messages import recorded, tell

# Fields that are moments on the monotonic clock, of whatever line.
_STAMPS = ("t_ns", "start_ns", "end_ns", "first_stamp_ns", "step_start_ns")
# Between the last moment of a part and the first of the next.
_APART_NS = 1_000_000_000


def write(parts: Sequence[Part], out: Path) -> None:
    """Make the folder of the merged run; it appears when all of it is there, but for its report.

    Args:
        parts: of one run, all of them.
        out: the folder.

    Raises:
        UsageError: there is such a folder, or it cannot be written.
    """
    if out.exists():
        raise _there_already(out)
    try:
        with staging(out) as folder:
            for name in FOLDERS:
                (folder / name).mkdir()
            for part in parts:
                _copy(part.run.path, folder)
            writer = RunWriter(folder)
            for event in merged(parts, out.name):
                writer.append(event)
            for event in _judged(parts, writer.run):
                writer.append(event)
            _end(parts, writer)
            writer.close()
            folder.rename(out)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR) and out.exists():
            # Another process was faster.
            raise _there_already(out) from error
        raise UsageError(tell("--out {path}: cannot be written: {why}: choose another folder", path=out,
                              why=error.strerror or error)) from error
    writer = RunWriter(out)
    writer.summarise()
    writer.close()


def _there_already(out: Path) -> UsageError:
    return UsageError(tell("--out {path}: is there already: choose another name, or remove it", path=out))


def merged(parts: Sequence[Part], run_id: str) -> Iterator[Event]:
    """The lines of all parts, one part behind another, as far as they are measured.

    The first part has told what a run tells once. Moments of a later one are put behind those of the one before it: the
    clocks of two machines have no common beginning.
    """
    first, started = parts[0], parts[0].started
    current: dict[str, object] | None = None
    options, recipe = whole(first)
    plans = _plans(first)
    yield started.model_copy(update={
        "run_id": run_id, "bench": options.model_dump(mode="json"),
        "declared": {**started.declared, **_as_one(declared(plans, recipe), started.declared)}})
    behind, told = 0, set[tuple[str, str]]()
    for part in parts:
        derived = _derived(part)
        stamps = [moment for event in part.run.events for moment in _moments(event)]
        shift = behind - min(stamps, default=0) if part is not first else 0
        behind = max(stamps, default=0) + shift + _APART_NS
        environment = _of_host(part.environment)
        host: dict[str, object] = {name: environment.facts.get(name) for name in environment.starred}
        if host != current:
            current = host
            yield _moved(environment, shift)
        for event in part.run.events:
            if isinstance(event, RunStarted | RunEnded | Resumed | EnvironmentRecorded) or _is_derived(event, derived):
                continue
            if part is not first and not _of_blocks(event):
                continue
            if isinstance(event, Finding):
                if (event.code, event.message) in told:
                    continue
                told.add((event.code, event.message))
            yield _moved(event, shift)


def whole(part: Part) -> tuple[BenchConfig, ExperimentConfig]:
    """Options and recipe of the run that a part belongs to.

    Raises:
        UsageError: another version of this program measured it.
    """
    return _options(part, share=None), validated(part.started.experiment, f"{part.run.path}: experiment")  # English


def _options(part: Part, **changed: Any) -> BenchConfig:
    try:
        return BenchConfig.model_validate({**part.started.bench, "config": None, "resume": None, "sbatch": None,
                                           **changed})
    except ValidationError as error:
        raise UsageError(tell("{path}: was measured by another version of this program: merge with that one",
                              path=part.run.path)) from error


def _plans(part: Part, options: BenchConfig | None = None) -> tuple[Plan, ...]:
    """The plans of the whole run, or with a part's own options of that."""
    own, recipe = whole(part)
    device: Device = "cuda" if part.started.declared.get("device") == "cuda" else "cpu"
    return make_plans(asked_of(options or own, device, recipe, {}, part.started.declared))


def _as_one(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What a run declares of its blocks, from its parts' numbers, which go further than those of one run."""
    found = {**now, **{key: before[key] for key in ("block_numbers",) if key in before}}
    if isinstance(now.get("by_part"), dict):
        found["by_part"] = {name: _as_one(one, before.get("by_part", {}).get(name, {}))
                            for name, one in now["by_part"].items()}
    return found


def _derived(part: Part) -> tuple[set[type[Event]], set[object]]:
    """What a part judged of itself: kinds of lines, and codes and cases of those kinds that are also measured."""
    events = [event for plan in _plans(part, _options(part))
              for event in plan.part.judge(part.run.part(plan.part.name), plan)]
    named: set[object] = {BLOCKS_DISTURBED.code}
    named |= {event.code if isinstance(event, Finding) else event.case_id for event in events
              if isinstance(event, Finding | Case)}
    return {type(event) for event in events if not isinstance(event, Finding | Case)}, named


def _is_derived(event: Event, derived: tuple[set[type[Event]], set[object]]) -> bool:
    kinds, named = derived
    if isinstance(event, Finding):
        return event.code in named
    return type(event) in kinds or (isinstance(event, Case) and event.case_id in named)


def _of_blocks(event: Event) -> bool:
    """Whether a later part's line belongs into the run: of a block, of the machine, or that something failed."""
    if isinstance(event, Case) and event.block is None:
        return event.status == "failed"
    block = getattr(event, "block", None)
    role = getattr(event, "role", "measure")
    return isinstance(event, Sample | Finding) or (block is not None and block >= 0 and role == "measure")


def _of_host(machine: EnvironmentRecorded) -> EnvironmentRecorded:
    """A machine of which the host counts, and not which of its processors."""
    starred = [*dict.fromkeys([*must_match(machine), HOST])]
    return machine.model_copy(update={"starred": [name for name in starred if name != BOUND_TO]})


def _moments(event: Event) -> Iterator[int]:
    for name in _STAMPS:
        value = getattr(event, name, 0)
        yield from (one for one in (value if isinstance(value, list) else [value]) if one)


def _moved(event: Event, shift_ns: int) -> Event:
    """The line as if it had been written so much later."""
    moved = {}
    for name in _STAMPS if shift_ns else ():
        value = getattr(event, name, 0)
        if value:
            moved[name] = [one + shift_ns for one in value] if isinstance(value, list) else value + shift_ns
    return event.model_copy(update=moved) if moved else event


def _judged(parts: Sequence[Part], run: RecordedRun) -> Iterator[Event]:
    """What all blocks together amount to."""
    yield from disturbed_blocks(run.of(BlockState))
    for plan in _plans(parts[0]):
        of_part = run.part(plan.part.name)
        yield from (event.model_copy(update={"part": plan.part.name}) if isinstance(event, Case) else event
                    for event in plan.part.judge(of_part, plan))
        yield MERGED.found(recorded("measured in {parts} parts, which the time axes show one behind another; {hosts}",
                                    parts=len(parts), hosts=_by_host(of_part, plan)))


def _by_host(run: RecordedRun, plan: Plan) -> str:
    """The ratio on every host, for a journal."""
    found = [(str(one.recorded.facts.get(HOST)), one.blocks) for one in machines(run.events)]
    told = [recorded("host {name} blocks {blocks}", name=name, blocks=", ".join(map(str, sorted(blocks))))
            for name, blocks in found]
    if len(found) > 1 and plan.timed is not None:
        for question, ratios in plan.timed.asked(run, plan.comparisons).items():
            if question.metric == plan.timed.metrics.main.name and len(ratios.by_machine) == len(found):
                each = ", ".join(f"{math.exp(sum(values) / len(values)):.4f} on {name}"  # English
                                 for values, (name, _) in zip(ratios.by_machine, found, strict=True))
                names = [run.arms.get(slot, slot) for slot in (question.comparison.a, question.comparison.b)]
                cell = f", {question.cell}" if question.cell else ""
                told.append(f"{question.metric}{cell} of {names[0]} / {names[1]}: {each}")  # English
    return "; ".join(told)


def _end(parts: Sequence[Part], writer: RunWriter) -> None:
    ends = [end for part in parts if (end := part.run.last(RunEnded)) is not None]
    failed = any(case.status == "failed" for case in writer.run.of(Case))
    spent: dict[str, float] = {}
    for end in ends:
        for what, seconds in end.spent_s.items():
            spent[what] = spent.get(what, 0.0) + seconds
    writer.append(RunEnded(status="failed" if failed else "complete", exit_code=EXIT_FAILED if failed else EXIT_OK,
                           wall_s=sum(end.wall_s for end in ends), spent_s=spent))


def _copy(folder: Path, to: Path) -> None:
    """What lies beside a journal and is no page; of two files of one name the first part's stays."""
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        page = len(place.parts) == 1 or place.parts[0] == "figures"
        if path.is_file() and not page and not (to / place).exists() and not path.name.startswith("."):
            (to / place).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(path, to / place)
