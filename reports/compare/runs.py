"""Compares the same arm across recorded runs: has it become slower? Judged as one run is, but blocks are not paired."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness.record.events import BlockState, Case
from harness.record.run import JOURNAL, RecordedRun, read_run
from harness.stats.across import BlockLogs, Change, judge_change, judge_changes
from harness.stats.interval import ALPHA, MARGIN
from impls.errors import UsageError
from messages import marked, shown, tell
from reports.chapters.answer.verdicts import per_what
from reports.compare.fairness import Difference, differences, refuse
from reports.suites.registry import chapters_of, whole
from reports.text import one_line, printable, semicolons, with_interval
from reports.view.run import ArmView, RunView
from reports.view.windows import spent_ns
from reports.view.words import metric_name

# No window lasts three centuries: such a stamp is damage, and no float may hold it.
MOST_NS = 10**19

# The words of verdicts, for people.
SAID = {"slower": marked("slower"), "faster": marked("faster"), "equivalent": marked("equivalent"),
        "inconclusive": marked("inconclusive")}  # fmt: skip

# Block -> pair of windows -> nanoseconds per step.
Times = dict[int, dict[int, float]]


@dataclass(frozen=True)
class Measured:
    """Windows of one arm in one metric of one run.

    Attributes:
        what: what one of them is about, in words.
        times: of the blocks in which the arm was measured to the end.
        dirty: blocks during which the machine was disturbed.
    """

    what: str
    times: Times
    dirty: frozenset[int]

    @property
    def logs(self) -> BlockLogs:
        """One logarithm per block: of the median time."""
        values = [math.log(float(np.median(list(pairs.values())))) for pairs in self.times.values()]
        return BlockLogs(tuple(values), self._flags(self.times))

    @property
    def means(self) -> list[float]:
        """One logarithm per block: of the mean time, spikes included."""
        return [math.log(float(np.mean(list(pairs.values())))) for pairs in self.times.values()]

    def over(self, control: Measured) -> BlockLogs:
        """One log-ratio to the control per block: the median over the pairs of windows that both have."""
        found: dict[int, float] = {}
        for block, pairs in self.times.items():
            other = control.times.get(block, {})
            ratios = [math.log(ns / other[pair]) for pair, ns in pairs.items() if pair in other]
            if ratios:
                found[block] = float(np.median(ratios))
        return BlockLogs(tuple(found.values()), self._flags(found))

    def _flags(self, blocks: Iterable[int]) -> tuple[bool, ...]:
        return tuple(block in self.dirty for block in blocks)


@dataclass(frozen=True, order=True)
class Subject:
    """What is compared: an arm in one metric, in one cell where it samples."""

    arm: str
    metric: str
    cell: str | None = None

    def __str__(self) -> str:
        return f"{self.arm}, {self.cell}" if self.cell else self.arm


@dataclass(frozen=True)
class Row:
    """One arm of one later run against the first.

    Attributes:
        subject: the arm, its metric, its cell.
        what: what is timed, in words.
        slot: its letter in the first run.
        direct: time after / time before.
        relative: the same of the arm's ratio to the control, which takes out what moved both; None without a control.
        control: the control's label.
        judged: "direct", "relative", or None for the control itself, which is not judged.
        logs: block logarithms before and after, of what is judged; the control's are of its times.
        before_ns: typical step time in the first run.
        after_ns: typical step time in the later run.
        mean_ratio: mean time after / before, spikes included.
    """

    subject: Subject
    what: str
    slot: str
    direct: Change
    relative: Change | None
    control: str | None
    judged: Literal["direct", "relative"] | None
    logs: tuple[BlockLogs, BlockLogs]
    before_ns: float
    after_ns: float
    mean_ratio: float

    @property
    def verdict(self) -> Change | None:
        """The change that carries the verdict; None where there is none to give."""
        return self.relative if self.judged == "relative" else self.direct if self.judged else None

    @property
    def other(self) -> Change | None:
        """The change that only describes."""
        return self.relative if self.judged == "direct" else self.direct


def told(change: Change) -> str:
    """The ratio with its interval."""
    return with_interval(change.ratio, change.ci_low, change.ci_high)


@dataclass(frozen=True)
class Pair:
    """A later run held against the first, which is A.

    Attributes:
        name: the later run's letter.
        after: the later run.
        rows: every arm and cell that both runs measured.
        alone: subject -> letter of the run that has it, for those that only one has.
        differences: what differs between the runs and doesn't forbid their comparison.
    """

    name: str
    after: RecordedRun
    rows: tuple[Row, ...]
    alone: dict[Subject, str]
    differences: tuple[Difference, ...]

    @property
    def allowed(self) -> tuple[Difference, ...]:
        """Differences of the machine that the user allowed."""
        return tuple(one for one in self.differences if one.role == "machine")


@dataclass(frozen=True)
class Comparison:
    """Runs compared with the first of them."""

    before: RecordedRun
    pairs: tuple[Pair, ...]
    control: str | None = None
    margin: float = MARGIN
    alpha: float = ALPHA

    @property
    def runs(self) -> dict[str, RecordedRun]:
        """Every run by its letter, the one compared with first."""
        return {"A": self.before, **{pair.name: pair.after for pair in self.pairs}}

    @property
    def rows(self) -> list[tuple[Pair, Row]]:
        """All rows, each with its pair of runs."""
        return [(pair, row) for pair in self.pairs for row in pair.rows]

    @property
    def words(self) -> list[str]:
        """All verdicts."""
        return [row.verdict.word for _, row in self.rows if row.verdict]


def compare(paths: Sequence[Path], control: str | None = None, allow_env_change: bool = False) -> Comparison:
    """Read runs and judge every later one against the first.

    Args:
        paths: run folders, the run to compare with first.
        control: arm that all runs have and whose changes are the machine's: verdicts rest on ratios to it.
        allow_env_change: compare although the machine differs.

    Raises:
        UsageError: a run cannot be read, is there twice, or must not be compared with the first; nothing in common.
    """
    runs = read(paths)
    subjects = [measured(run) for run in runs]
    found = []
    for run, own in zip(runs[1:], subjects[1:], strict=True):
        labels = {one.arm for one in subjects[0]} & {one.arm for one in own}
        slots = {label: (labelled(runs[0])[label], labelled(run)[label]) for label in sorted(labels)}
        apart = differences(runs[0], run, slots)
        refuse(runs[0], run, apart, allow_env_change)
        if control is not None and control not in labels:
            raise UsageError(tell("--control {control}: not an arm that both {first} and {other} measured: those are "
                                  "{arms}", control=control, first=runs[0].path, other=run.path,
                                  arms=", ".join(sorted(labels)) or tell("none")))
        found.append((run, pair_rows(runs[0], subjects[0], own, control), apart, own))
    judged = holm([rows for _, rows, _, _ in found])
    if not any(row.verdict for rows in judged for row in rows):
        have = one_line(semicolons(
            tell("{run} has {arms}", run=run.path, arms=", ".join(sorted(map(str, own))) or tell("none"))
            for run, own in zip(runs, subjects, strict=True)))  # fmt: skip
        raise UsageError(
            tell("nothing to compare: the runs share no arm with measured blocks besides the control: {arms}",
                 arms=have)
            if control else
            tell("nothing to compare: the runs share no arm with measured blocks: {arms}", arms=have))
    pairs = tuple(Pair(letter(number), run, tuple(rows), alone(subjects[0], own, letter(number)), tuple(apart))
                  for number, ((run, _, apart, own), rows) in enumerate(zip(found, judged, strict=True)))
    return Comparison(runs[0], pairs, control)


def letter(number: int) -> str:
    """The name of a later run: B, C, ..."""
    return chr(ord("B") + number) if number < 25 else f"run {number + 2}"  # English


def read(paths: Sequence[Path]) -> list[RecordedRun]:
    """The runs, each of them once.

    Raises:
        UsageError: fewer than two runs, one that cannot be read, or the same one twice.
    """
    if len(paths) < 2:
        raise UsageError(tell("compare needs at least two runs: python -m reports compare RUN_A RUN_B"))
    runs: list[RecordedRun] = []
    seen: dict[bytes, Path] = {}
    for path in paths:
        run = read_run(path)
        if run.started is None:
            known = {"journal": path / JOURNAL}
            raise UsageError(
                tell("{journal}: no line of it says what this run measured ({damage}): give another run", **known,
                     damage=printable(shown(run.damage[0])))
                if run.damage else
                tell("{journal}: no line of it says what this run measured: give another run", **known))
        content = (path / JOURNAL).read_bytes()
        if content in seen:
            raise UsageError(tell("{path}: the same run as {other}: give two different runs", path=path,
                                  other=seen[content]))
        seen[content] = path
        runs.append(run)
    return runs


def labelled(run: RecordedRun) -> dict[str, str]:
    """Label -> slot of every arm; the second arm of one name is "name (2)", whatever its letter."""
    counts: Counter[str] = Counter()
    found = {}
    for slot, name in run.arms.items():
        counts[name] += 1
        found[name if counts[name] == 1 else f"{name} ({counts[name]})"] = slot
    return found


def measured(run: RecordedRun) -> dict[Subject, Measured]:
    """Everything that can be compared in a run."""
    labels = {slot: label for label, slot in labelled(run).items()}
    found = {}
    for _, part in chapters_of(whole(run)):
        for arm in part.arms:
            for cell in part.cells if part.unit.cell else (None,):
                times = _times(part, arm, cell)
                what = (per_what(part, part.unit.windows, cell)
                        or tell("in {metric}", metric=metric_name(part.unit.metric)))
                if times:
                    subject = Subject(labels.get(arm.slot, arm.slot), part.unit.metric, cell)
                    found[subject] = Measured(what, times, frozenset(part.dirty))
    return found


def _times(part: RunView, arm: ArmView, cell: str | None) -> Times:
    done = {case.block for case in arm.of(Case) if case.status == "measured"}
    done &= {state.block for state in part.run.of(BlockState)}
    times: Times = {}
    for window in arm.windows(part.unit.windows):
        if window.cell == cell and window.block in done and window.steps > 0 and 0 < spent_ns(window) < MOST_NS:
            times.setdefault(window.block, {})[window.pair] = spent_ns(window) / window.steps
    return times


def pair_rows(before: RecordedRun, one: dict[Subject, Measured], other: dict[Subject, Measured],
              control: str | None) -> list[Row]:
    """Every subject of both runs, at the full alpha: Holm's step-down comes when all of them are known."""
    slots, shared = labelled(before), [subject for subject in one if subject in other]
    rows = []
    for subject in shared:
        mine = (one[subject], other[subject])
        yardstick = control if control != subject.arm else None
        if control is None:
            # Without a control named, the first other arm still shows how much the machine moved.
            others = (s.arm for s in shared if (s.metric, s.cell) == (subject.metric, subject.cell) and s != subject)
            yardstick = next(others, None)
        against = replace(subject, arm=yardstick) if yardstick else None
        relative = None
        if against and against in one and against in other:
            ratios = (mine[0].over(one[against]), mine[1].over(other[against]))
            relative = judge_change(*ratios)
        judged: Literal["direct", "relative"] | None = "direct"
        logs = (mine[0].logs, mine[1].logs)
        typical = [math.exp(float(np.mean(one.values))) for one in logs]
        means = [float(np.mean(m.means)) for m in mine]
        direct = judge_change(*logs)
        if control is not None:
            judged = "relative" if relative else None
            logs = ratios if relative else logs
        rows.append(Row(subject, mine[0].what, slots[subject.arm], direct, relative, yardstick if relative else None,
                        judged, logs, typical[0], typical[1], math.exp(means[1] - means[0])))
    return rows


def holm(groups: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The verdicts of all rows under Holm's step-down over arms, cells and runs; the other changes describe."""
    changes = iter(judge_changes([row.logs for rows in groups for row in rows if row.judged]))

    def again(row: Row) -> Row:
        if row.judged is None:
            return row
        return replace(row, relative=next(changes)) if row.judged == "relative" else replace(row, direct=next(changes))

    return [[again(row) for row in rows] for rows in groups]


def alone(one: dict[Subject, Measured], other: dict[Subject, Measured], name: str) -> dict[Subject, str]:
    """What only one of two runs measured, with that run's letter."""
    return {**{s: "A" for s in one if s not in other}, **{s: name for s in other if s not in one}}
