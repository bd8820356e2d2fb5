"""May two runs be compared? What must be alike, what is under test and only listed, and what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.record.events import DatasetRecorded, EnvironmentRecorded, PairRecorded, WorkerStarted
from harness.record.run import RecordedRun, machines, moves
from impls.errors import UsageError
from impls.recipe.config import with_later
from messages import marked, shown, tell
from reports.chapters.evidence.machine import plain
from reports.suites.registry import settings_of
from reports.text import one_line, semicolons
from reports.view.run import leaves

# Fields of an experiment that cost no time: runs that differ in them measured the same work. The cells of a sampling
# (`steps`) are matched one by one.
COSTLESS = {"train": ("lr", "warmup_steps"), "sample": ("steps",)}
NOT_RECORDED = marked("not recorded")
TOGETHER = marked("arms measured together")
# Checks that events tell of by their `passed`; the name of one more is that of its suite.
CHECKS = (marked("sample agreement"), marked("scaling gate"))
MOST_NAMED = 4
# (framework's name for it, for people): what an arm's process must have proved alike in both runs.
ARM_FIELDS = {"device": marked("device"), "device_name": marked("device name"), "dtype": marked("dtype"),
              "threads": marked("threads")}

Role = Literal["refused", "machine", "software", "other"]


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in two runs.

    Attributes:
        field: its name, as a message.
        before: its value in the first run, as text.
        after: its value in the other run.
        role: "refused" forbids the comparison; "machine" does unless the user allows it; "software" is what a
            regression comparison is for; "other" is only listed.
        arm: the arm that it is about; None for the whole run.
    """

    field: str
    before: str
    after: str
    role: Role
    arm: str | None = None

    @property
    def name(self) -> str:
        """The field with its arm."""
        field = tell(self.field)
        return tell("{field} of {arm}", field=field, arm=self.arm) if self.arm else field

    def __str__(self) -> str:
        return tell("{field}: {before} against {after}", field=self.name, before=self.before, after=self.after)


def differences(before: RecordedRun, after: RecordedRun, slots: Mapping[str, tuple[str, str]]) -> list[Difference]:
    """Everything that differs between two runs, what forbids their comparison first.

    Args:
        before: the first run.
        after: the other run.
        slots: label of every arm that both runs have -> its slots in them.
    """
    found = [*_kind(before, after), *_experiment(before, after), *_data(before, after), *_equal_work(before, after)]
    for label, (one, other) in slots.items():
        found += _arm(label, _workers(before, one), _workers(after, other))
    found += _environment(before, after)
    order = {"refused": 0, "machine": 1, "software": 2, "other": 3}
    return sorted(found, key=lambda one: order[one.role])


def refuse(before: RecordedRun, after: RecordedRun, told: Sequence[Difference], allow_env_change: bool) -> None:
    """Refuse an unfair pair, with the fields named.

    Raises:
        UsageError: the runs must not be compared.
    """
    faults = [one for one in told if one.role == "refused"]
    machine = [one for one in told if one.role == "machine"] if not allow_env_change else []
    if not faults and not machine:
        return
    named = listed([*faults, *machine][:MOST_NAMED])
    more = len(faults) + len(machine) - MOST_NAMED
    known = {"after": after.path, "before": before.path, "differences": named,
             "advice": tell("compare runs that are alike in this") if faults else
             tell("the machine differs; --allow-env-change compares all the same and marks it")}
    if more > 0:
        raise UsageError(tell("{after} cannot be compared with {before}: {differences}; and {more} more: {advice}",
                              **known, more=more))
    raise UsageError(tell("{after} cannot be compared with {before}: {differences}: {advice}", **known))


def listed(found: Sequence[Difference]) -> str:
    """Differences in one line."""
    return semicolons(map(one_line, found))


def _differ(field: str, before: Any, after: Any, role: Role, arm: str | None = None) -> Iterator[Difference]:
    if before != after:
        yield Difference(field, plain(before) or tell(NOT_RECORDED), plain(after) or tell(NOT_RECORDED), role, arm)


def _kind(before: RecordedRun, after: RecordedRun) -> Iterator[Difference]:
    left, right = before.started, after.started
    assert left and right, "no run is compared without its first line"  # English
    alike = settings_of(before) & settings_of(after)
    yield from _differ(marked("suite"), left.suite, right.suite, "other" if alike else "refused")
    # Alternating windows find other caches than uninterrupted ones.
    yield from _differ(marked("schedule"), left.bench.get("schedule"), right.bench.get("schedule"), "refused")
    one, other = (", ".join(sorted(run.arms.values())) for run in (before, after))
    yield from _differ(TOGETHER, one, other, "other")


def _experiment(before: RecordedRun, after: RecordedRun) -> Iterator[Difference]:
    one, other = (with_later(run.started.experiment) if run.started else {} for run in (before, after))
    used = settings_of(before) & settings_of(after)
    left, right = _flat(one), _flat(other)
    for key in dict.fromkeys([*left, *right]):
        part, _, field = key.partition(".")
        if part in COSTLESS and part not in used:
            continue
        costless = key == "seed" or field in COSTLESS.get(part, ())
        # A setting that only one version of the program knows can't be held against the other.
        both = key in left and key in right
        role: Role = "refused" if both and not costless else "other"
        yield from _differ(key.replace("_", " ").replace(".", ": "), left.get(key), right.get(key), role)


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        ".".join(keys): ", ".join(map(plain, value)) if isinstance(value, list) else value
        for keys, value in leaves(data)
    }


def _data(before: RecordedRun, after: RecordedRun) -> Iterator[Difference]:
    if "train" not in settings_of(before) & settings_of(after):
        return
    own, others = before.last(PairRecorded), after.last(PairRecorded)
    yield from _differ(marked("pair of models"), own and f"{own.name} {own.sha256[:12]}",
                       others and f"{others.name} {others.sha256[:12]}", "refused")
    one, other = before.last(DatasetRecorded), after.last(DatasetRecorded)
    yield from _differ(marked("data set"), one and one.name, other and other.name, "refused")
    if one and other and one.name == other.name:
        yield from _differ(marked("data set's SHA-256"), one.sha256, other.sha256, "refused")


def _equal_work(before: RecordedRun, after: RecordedRun) -> Iterator[Difference]:
    """An arm that no longer computes what it should is not faster or slower."""
    one, other = _failed(before), _failed(after)
    for check in dict.fromkeys([*one, *other]):
        yield Difference(check.replace("-", " "), one.get(check) or tell("passed"), other.get(check) or tell("passed"),
                         "refused")


def _failed(run: RecordedRun) -> dict[str, str]:
    """Kind of check -> why it failed first, for checks of any part that did."""
    found: dict[str, str] = {}
    for event in run.events:
        if getattr(event, "passed", True) is False:
            check = str(type(event).model_fields["type"].default)
            reason = shown(getattr(event, "reason", None) or "") or tell("no reason recorded")
            found.setdefault(check, tell("failed ({reason})", reason=reason))
    return found


def _workers(run: RecordedRun, slot: str) -> list[WorkerStarted]:
    return [worker for worker in run.of(WorkerStarted) if worker.arm == slot and worker.role == "measure"]


def _arm(label: str, before: list[WorkerStarted], after: list[WorkerStarted]) -> Iterator[Difference]:
    if not before or not after:
        return

    def told(workers: list[WorkerStarted], key: str) -> str:
        return tell(" and ").join(sorted({plain(worker.info.get(key)) for worker in workers}))

    for key, name in ARM_FIELDS.items():
        yield from _differ(name, told(before, key), told(after, key), "refused", label)
    one, other = _uuids(before), _uuids(after)
    if one and other:
        yield from _differ(marked("device UUID"), one, other, "machine", label)
    if "cuda" in (before[-1].info.get("device"), after[-1].info.get("device")):
        # The CPU has no TF32, whatever the switch says.
        yield from _differ("TF32", told(before, "tf32"), told(after, "tf32"), "refused", label)
    counts = [tell(" and ").join(sorted({str(worker.parameter_count) for worker in workers}))
              for workers in (before, after)]
    yield from _differ(marked("parameter count"), counts[0], counts[1], "refused", label)
    for key in (marked("framework"), marked("version")):
        yield from _differ(key, told(before, key), told(after, key), "software", label)
    for group in ("operators", "flags"):
        left, right = _group(before[-1], group), _group(after[-1], group)
        for key in dict.fromkeys([*left, *right]):
            name = tell("operator {name}", name=key) if group == "operators" else tell("flag {name}", name=key)
            yield from _differ(name, left.get(key), right.get(key), "software", label)


def _uuids(workers: list[WorkerStarted]) -> str:
    known = {str(worker.info["device_uuid"]) for worker in workers if worker.info.get("device_uuid")}
    return tell(" and ").join(sorted(uuid.lower().removeprefix("gpu-") for uuid in known))


def _group(worker: WorkerStarted, name: str) -> dict[str, str]:
    found = worker.info.get(name)
    return {key: plain(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _environment(before: RecordedRun, after: RecordedRun) -> Iterator[Difference]:
    """What differs between the machines; a run that went on in another environment has several."""
    one, other = _recorded(before), _recorded(after)
    if not one or not other:
        told = [tell("recorded") if known else tell(NOT_RECORDED) for known in (one, other)]
        yield from _differ(marked("environment"), told[0], told[1], "machine")
        return
    starred = {name for recorded in (*one, *other) for name in recorded.starred}
    for name in dict.fromkeys(name for recorded in (*one, *other) for name in recorded.facts):
        if moves(name):
            continue
        role: Role = "software" if is_software(name) else "machine" if name in starred else "other"
        yield from _differ(name, _told(one, name), _told(other, name), role)


def _recorded(run: RecordedRun) -> list[EnvironmentRecorded]:
    """The environments that blocks were measured in; the newest where there are no blocks."""
    found = machines(run.events)
    return [one.recorded for one in found if one.blocks] or [one.recorded for one in found[-1:]]


def _told(recorded: Sequence[EnvironmentRecorded], name: str) -> str | None:
    values = dict.fromkeys(plain(one.facts.get(name)) for one in recorded)
    return tell(" and ").join(value or tell(NOT_RECORDED) for value in values) if any(values) else None


def is_software(name: str) -> bool:
    """Software is what changes on purpose; what the machine is must not change with it."""
    return name.startswith(("version_", "git_", "interpreter_", "source_")) or name in (
        "python", "gpu_driver", "gpu_cuda_driver")
