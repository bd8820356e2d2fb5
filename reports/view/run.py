"""A recorded run seen arm by arm: the journal's events sorted for the report; nothing is measured or judged here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from harness.record.events import (
    SELF_CHECK,
    BlockState,
    Event,
    MonitorState,
    PairRecorded,
    PartName,
    Peak,
    RunEnded,
    Sample,
    StepCost,
    Verdict,
    Window,
    WorkerStarted,
)
from harness.record.run import RecordedRun, SomeEvent
from messages import marked, plural, tell
from reports.text import Floats, commas
from reports.view.windows import Windows, grouped, pair_codes
from reports.view.words import STEPS, Unit

View = TypeVar("View")
Given = ParamSpec("Given")
Result = TypeVar("Result")

EMPTY = Windows(())


def remembered(
    compute: Callable[Concatenate[View, Given], Result],
) -> Callable[Concatenate[View, Given], Result]:
    """Computes once for a view and what else is given, and keeps the result with the view."""

    @wraps(compute)
    def once(of: View, /, *args: Given.args, **options: Given.kwargs) -> Result:
        memory = vars(of).setdefault("remembered", {})
        key = (compute, args, tuple(options.items()))
        if key not in memory:
            memory[key] = compute(of, *args, **options)
        found: Result = memory[key]
        return found

    return once


@dataclass(frozen=True, eq=False)
class ArmView:
    """Everything the journal holds about one arm.

    Attributes:
        slot: its letter.
        name: its text in `--arms`.
        label: what the report calls it: the name, with the letter where two arms share it.
        lines: its lines by their class, oldest first.
        blocks: those whose windows count; None for all.
    """

    slot: str
    name: str
    label: str
    lines: Mapping[type[Event], Sequence[Any]]
    blocks: frozenset[int] | None = None

    def of(self, kind: type[SomeEvent]) -> Sequence[SomeEvent]:
        """All its lines of one class, oldest first."""
        return self.lines.get(kind, ())

    def windows(self, kind: str) -> Sequence[Window]:
        """Its windows of one kind, in blocks that count."""
        return self._windows.get(kind, ())

    def table(self, kind: str) -> Windows:
        """The same as arrays."""
        return self._tables.get(kind, EMPTY)

    @cached_property
    def tables(self) -> tuple[Windows, ...]:
        """All its windows as arrays: of each kind, and those in blocks that do not count."""
        return (*self._tables.values(), *([Windows(self._left_out)] if self._left_out else []))

    @cached_property
    def _tables(self) -> dict[str, Windows]:
        return {kind: Windows(lines) for kind, lines in self._windows.items()}

    @cached_property
    def _windows(self) -> dict[str, list[Window]]:
        found: dict[str, list[Window]] = {}
        for window in self.of(Window):
            if self.blocks is None or window.block in self.blocks:
                found.setdefault(window.kind, []).append(window)
        return found

    @cached_property
    def _left_out(self) -> list[Window]:
        if self.blocks is None or sum(map(len, self._windows.values())) == len(self.of(Window)):
            return []
        return [window for window in self.of(Window) if window.block not in self.blocks]

    @property
    def workers(self) -> list[WorkerStarted]:
        """Its processes that measured, by block."""
        return [worker for worker in self.of(WorkerStarted) if worker.role == "measure"]

    @property
    def starts(self) -> list[WorkerStarted]:
        """Processes whose start tells what a user waits for; a parity check loads weights and reads gradients first."""
        return self.workers + [worker for worker in self.of(WorkerStarted) if worker.role == "cold-start"]

    @property
    def stepwise(self) -> Sequence[Window]:
        """Windows whose steps were synchronised one by one."""
        return self.windows("stepwise")

    @cached_property
    def steps_by_block(self) -> dict[int, Floats]:
        """Durations of the stepwise-measured steps of every block that has windows, in journal order."""
        table = self.table("stepwise")
        found = grouped(np.repeat(table.block, table.timed_steps), table.step_ns)
        # A block whose windows have no durations is there all the same.
        return {block: found.get(block, np.empty(0)) for block in np.unique(table.block).tolist()}

    @property
    def step_ns(self) -> Floats:
        """Durations of all stepwise-measured steps, in journal order."""
        return self.table("stepwise").step_ns

    def info(self, key: str) -> Any:
        """A field of BackendInfo as the newest measured worker proved it, else any; None when none got that far."""
        found = self.infos(key)
        return found[-1] if found else None

    def infos(self, key: str) -> list[Any]:
        """The same of every measured worker, oldest first: a run that went on elsewhere has several values."""
        return [worker.info.get(key) for worker in self.workers or self.of(WorkerStarted)]


@dataclass(frozen=True, eq=False)
class RunView:
    """A run with its arms.

    Attributes:
        run: the journal.
        arms: the arms in the order of `--arms`.
        t0_ns: the journal's first stamp, origin of all time axes.
        unit: what a step is called here.
        alone: whether the run times nothing else.
        origin: what happened at `t0_ns`, in words.
        part: which part of a run this is; of the whole run, the first.
        restarts: how often the machine was restarted, of a part of a run that this cut in two; else 0.
    """

    run: RecordedRun
    arms: tuple[ArmView, ...]
    t0_ns: int
    unit: Unit = STEPS
    alone: bool = True
    origin: str = marked("the start of the run")
    restarts: int = 0
    part: PartName = ""

    def peak(self, of: ArmView) -> Peak | None:
        """The best matrix-product rate of the machine in this run; None when not measured.

        In TF32 it is several times that in float32: it is sought among the arms that have the same of both as `of`.
        """
        alike = {arm.slot for arm in self.arms if bool(arm.info("tf32")) == bool(of.info("tf32"))}
        found = [peak for peak in self.run.of(Peak) if np.isfinite(peak.flops) and peak.flops and peak.arm in alike]
        return max(found, key=lambda peak: peak.flops, default=None)

    @cached_property
    def cost(self) -> StepCost | None:
        """Analytic cost of a step; None when not recorded."""
        return self.run.last(StepCost)

    @property
    def no_cost(self) -> str:
        """Why it is not."""
        if self.pair:
            return tell("nobody has counted the operations of a pair")
        return tell("the cost of a step was not recorded")

    @property
    def restarted(self) -> str:
        """Which part of a run this is that a restart of the machine cut in two, as a sentence; else ""."""
        if not self.restarts:
            return ""
        return tell(
            "The machine was restarted while the run was interrupted ({restarts}), and its clock began anew: time axes "
            "show one part without a restart, with {blocks}.",
            restarts=plural(self.restarts, "restart"), blocks=blocks_in(self.run.events),
        )  # fmt: skip

    @cached_property
    def pair(self) -> PairRecorded | None:
        """The user's own models; None where the U-Net was measured."""
        return self.run.last(PairRecorded)

    @cached_property
    def dirty(self) -> set[int]:
        """Blocks flagged as disturbed."""
        return {state.block for state in self.run.of(BlockState) if state.dirty}

    def arm(self, slot: str) -> ArmView | None:
        """The arm with this letter."""
        return next((arm for arm in self.arms if arm.slot == slot), None)

    @cached_property
    def compared(self) -> list[tuple[ArmView, ArmView]]:
        """The pairs of arms that the run declared to compare, self-checks aside; none where it declared none."""
        declared = self.declared("comparisons")
        pairs = [tuple(self.arm(str(nested(one, (key,)))) for key in "ab") for one in declared
                 if not nested(one, ("selfcheck",))] if isinstance(declared, list) else []
        return [(one, other) for one, other in pairs if one and other]

    def label(self, slot: str | None) -> str:
        """The name of an arm in the report."""
        arm = self.arm(slot) if slot else None
        return arm.label if arm else str(slot)

    def setting(self, *keys: str) -> Any:
        """A value of the resolved experiment, e.g. `setting("train", "batch_size")`; None when not recorded."""
        return nested(self.run.started.experiment, keys) if self.run.started else None

    def bench(self, *keys: str) -> Any:
        """A value of the resolved bench configuration; None when not recorded."""
        return nested(self.run.started.bench, keys) if self.run.started else None

    def declared(self, *keys: str) -> Any:
        """A value declared before measuring; None when not recorded."""
        return nested(self.run.started.declared, keys) if self.run.started else None

    @cached_property
    def batch_sizes(self) -> dict[str, int]:
        """Images of a training step ("train") and of a sampled batch ("sample"), of those that this part takes."""
        started = self.run.started
        told = batch_sizes(started.declared, started.experiment, self.part, self.unit) if started else {}
        counted = {worker.images for arm in self.arms for worker in arm.of(WorkerStarted) if worker.images}
        return told or ({self.unit.settings: counted.pop()} if len(counted) == 1 else {})

    @property
    def batch_size(self) -> int | None:
        """Images per step."""
        return self.batch_sizes.get(self.unit.settings)

    @property
    def cells(self) -> list[str]:
        """The cells in the order in which they were declared, then those that were only measured."""
        declared = self.declared("cells")
        named = [name for name in declared if isinstance(name, str)] if isinstance(declared, list) else []
        seen = [window.cell for arm in self.arms for window in arm.windows(self.unit.windows) if window.cell]
        return list(dict.fromkeys([*named, *seen]))

    @property
    def devices(self) -> list[str]:
        """The devices that the arms' processes proved to run on."""
        return sorted({str(arm.info("device")) for arm in self.arms if arm.info("device")})

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """Telemetry by source, oldest first."""
        found: dict[str, list[Sample]] = {}
        for sample in self.run.of(Sample):
            found.setdefault(sample.source, []).append(sample)
        return found

    def monitor_reason(self, prefix: str) -> str | None:
        """Why the telemetry sources that start with `prefix` give nothing; None when they work or are unknown."""
        states = [state for state in self.run.of(MonitorState) if state.source.startswith(prefix)]
        return next((state.reason for state in reversed(states) if not state.available and state.reason), None)


def view(
    run: RecordedRun, unit: Unit = STEPS, whole: RunView | None = None, alone: bool = True, part: PartName = ""
) -> RunView:
    """Sort a run's events for the report.

    Args:
        run: the run, or a part of it.
        unit: what a step is called in it.
        whole: the run that it is a part of, whose arms and origin it shares.
        alone: whether that run times nothing else.
        part: the part's name; of the whole run, that of the first.
    """
    lines: dict[str, dict[type[Event], list[Event]]] = {}
    for kind, events in run.by_class.items():
        if "arm" not in kind.model_fields:
            continue
        for event in events:
            slot: Any = event.arm  # type: ignore[attr-defined]
            if slot is not None:
                lines.setdefault(slot, {}).setdefault(kind, []).append(event)
    known = {arm.slot: arm.name for arm in whole.arms} if whole else run.arms
    names = known | {slot: slot for slot in sorted(lines) if slot not in known}
    shared = {name for name, times in Counter(names.values()).items() if times > 1}
    # As for its verdicts, a block cut short counts for nothing once the run has ended, unless it is all there is.
    blocks = frozenset(state.block for state in run.of(BlockState)) if run.last(RunEnded) else None
    arms = tuple(
        ArmView(slot, name, f"{name} ({slot})" if name in shared else name, lines.get(slot, {}), blocks or None)
        for slot, name in names.items()
    )
    stamps = [event.t_ns for event in run.events if event.t_ns]
    return RunView(run, arms, whole.t0_ns if whole else min(stamps, default=0), unit, alone, part=part)


def blocks_in(events: Sequence[Event]) -> str:
    """The blocks that these events measured, in words."""
    found = sorted({event.block for event in events if isinstance(event, BlockState | Window)})
    if not found:
        return tell("no block")
    runs: list[list[int]] = []
    for block in found:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    said = commas(
        str(run[0]) if len(run) == 1 else tell("{low} to {high}", low=run[0], high=run[-1]) for run in runs
    )
    return tell("blocks {blocks}", blocks=said) if len(found) > 1 else tell("block {blocks}", blocks=said)


def batch_sizes(declared: Any, experiment: Any, part: PartName, unit: Unit) -> dict[str, int]:
    """Images of a training step ("train") and of a sampled batch ("sample"), of those that a part takes.

    Declared by the part; where it declares none, as before parts did, the recipe's, where that is the part's.
    """
    told = nested(declared, ("batch_sizes", part))
    if not isinstance(told, dict) or not told:
        told = {unit.settings: nested(experiment, (unit.settings, "batch_size"))}
    return {section: size for section, size in told.items() if isinstance(size, int)}


def facts_of(arm: ArmView, group: str) -> dict[str, Any]:
    """A group of facts that the newest worker proved, such as "flags"; empty where there is none or it is damaged."""
    found = arm.info(group)
    return found if isinstance(found, dict) else {}


def is_self_check(verdict: Verdict) -> bool:
    """Whether a verdict is about the machine's noise rather than about two arms."""
    return verdict.metric.endswith(SELF_CHECK)


def copies(view: RunView) -> set[str]:
    """The slots that are there for the self-check alone: an arm again."""
    return {verdict.arm_b for verdict in view.run.of(Verdict) if is_self_check(verdict)}


def nested(data: Any, keys: Sequence[str]) -> Any:
    """`data[key][key]...`, or None where a key is missing."""
    for key in keys:
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data


def leaves(data: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Nested settings as (keys from the outermost, value)."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


@remembered
def paired_ratios(one: ArmView, other: ArmView, kind: str) -> dict[int, Floats]:
    """Block -> time of `one` / time of `other`, per step, for every pair of windows that both arms finished."""
    above, below = one.table(kind), other.table(kind)
    if not above.lines or not below.lines:
        return {}
    (mine, theirs), _ = pair_codes([above, below])
    order = np.argsort(theirs, kind="stable")
    partner = order[np.searchsorted(theirs[order], mine, "right") - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = above.per_step_ns / below.per_step_ns[partner]
    known = (theirs[partner] == mine) & np.isfinite(ratios)
    return grouped(above.block[known], ratios[known])


@remembered
def rate_per_s(arm: ArmView, kind: str) -> float | None:
    """Steps per second over an arm's windows of a kind: all steps over all time, spikes included; None without any."""
    windows = arm.table(kind)
    steps, total_ns = float(windows.steps.sum()), float(windows.spent_ns.sum())
    return steps / total_ns * 1e9 if steps and total_ns > 0 else None


def start_up_ns(worker: WorkerStarted) -> int:
    """From launching the process to the end of its first step."""
    return worker.spawn_ns + worker.import_ns + worker.build_ns + worker.first_step_ns


def by_cache(workers: Sequence[WorkerStarted]) -> dict[str, list[WorkerStarted]]:
    """Start-ups grouped by the state of the compile cache, cold first."""
    order = {"cold": 0, "partial": 1, "warm": 2, "unknown": 3}
    found: dict[str, list[WorkerStarted]] = {}
    for worker in sorted(workers, key=lambda worker: order[worker.cache or "unknown"]):
        found.setdefault(worker.cache or "unknown", []).append(worker)
    return found
