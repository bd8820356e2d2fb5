"""Runs in rows: the same two arms at the same work on the same machine, oldest first, and their steps."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from harness.record.events import SELF_CHECK
from harness.record.summary import Decided, Summary
from harness.stats.interval import MARGIN
from harness.stats.shifts import Shift, shifts
from impls.recipe.config import with_later
from messages import marked, plural, tell
from reports.chapters.evidence.machine import plain
from reports.compare.fairness import COSTLESS, is_software
from reports.terminal import said
from reports.text import NA, one_line, signed_percent, with_interval
from reports.view.run import leaves, nested
from reports.view.words import metric_words

# What stands in a report, a whole string each.
TITLE = marked("{a} against {b} in {metric}")
MACHINE = marked("{cpu}, {processors}")
UNKNOWN_MACHINE = marked("a machine that was not recorded")
STEP = marked("step of {change} at {run}, interval [{low}, {high}]: time {a} / time {b}")
BESIDE = marked("{step}; with it changed {changes}")
CHANGED = marked("{name} ({before} to {after})")
MORE = marked("{count} more")
NOT_RECORDED = marked("not recorded")
NAMED_CHANGES = 3
MOST_RATIO = 1e6
# What neither a picture nor a feed can hold: XML 1.0, 2.2.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Point:
    """One run in a row.

    Attributes:
        run: its folder's name.
        link: relative address of its report; None without one.
        when: when it started.
        verdict: what it decided.
        software: recorded versions and sources, by name.
    """

    run: str
    link: str | None
    when: datetime
    verdict: Decided
    software: dict[str, str]

    @property
    def told(self) -> str:
        """The ratio with its interval."""
        return with_interval(self.verdict.ratio, self.verdict.ci_low, self.verdict.ci_high)

    @property
    def rests_on(self) -> str:
        """How many blocks."""
        return plural(self.verdict.blocks, "block") if self.verdict.blocks is not None else NA


@dataclass(frozen=True)
class Series:
    """One comparison over time; `ratio` of a point is time A / time B.

    Attributes:
        key: what its runs have in common, as a hash.
        machine: for people.
        setting: preset, data set, device, batch size.
        a: name of arm A.
        b: name of arm B.
        metric: what is compared, with cell and number format.
        margin: ratios that differ from 1 by less count as equal.
        points: the runs, oldest first.
    """

    key: str
    machine: str
    setting: str
    a: str
    b: str
    metric: str
    margin: float
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """What is compared."""
        return tell(TITLE, a=self.a, b=self.b, metric=self.metric)

    @cached_property
    def drawn(self) -> list[Point]:
        """The runs that have a ratio."""
        return [one for one in self.points if usable(one.verdict.ratio)]

    @cached_property
    def logs(self) -> list[float]:
        """Their logarithms."""
        return [math.log(one.verdict.ratio or 1.0) for one in self.drawn]

    @cached_property
    def steps(self) -> list[Shift]:
        """Where the level of the runs changes."""
        return shifts(self.logs, self.margin)

    @property
    def step_words(self) -> list[str]:
        """Every step in a sentence, with what changed with it."""
        return [self._step(one) for one in self.steps]

    def _step(self, step: Shift) -> str:
        before, after = self.drawn[step.at - 1], self.drawn[step.at]
        low, high = (signed_percent(value - 1) for value in (step.ci_low, step.ci_high))
        text = tell(STEP, change=signed_percent(step.ratio - 1), run=after.run, low=low, high=high, a=self.a, b=self.b)
        changes = changed(before.software, after.software)
        if len(changes) > NAMED_CHANGES:
            changes = [*changes[:NAMED_CHANGES], tell(MORE, count=len(changes) - NAMED_CHANGES)]
        return tell(BESIDE, step=text, changes=", ".join(changes)) if changes else text


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The software that is not the same in two runs, versions first."""
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [
        tell(CHANGED, name=name.removeprefix("version_").replace("_", " "),
             before=shortened(before.get(name)), after=shortened(after.get(name)))
        for name in sorted(names, key=lambda one: not one.startswith("version_"))
    ]


def shortened(value: str | None) -> str:
    """A value that is a hash by its first digits."""
    return value[:12] if value else tell(NOT_RECORDED)


def series(runs: Iterable[tuple[str, str | None, str, Summary]]) -> list[Series]:
    """All comparisons that two or more runs share, by machine.

    Args:
        runs: folder, address of the report, setting, summary; those without a date are left out.
    """
    rows: dict[str, list[tuple[Point, str, Summary]]] = {}
    for name, link, setting, summary in runs:
        when = moment(summary.started_utc)
        if when is None:
            continue
        software = {key: legible(plain(value)) for key, value in facts(summary).items() if is_software(key) and value}
        for verdict in compared(summary.verdicts):
            known = verdict.model_copy(update={"word": legible(verdict.word)})
            point = Point(legible(name), link, when, known, software)
            rows.setdefault(key_of(summary, verdict), []).append((point, setting, summary))
    found = []
    for key, row in rows.items():
        if len(row) < 2:
            continue
        row.sort(key=lambda one: (one[0].when, one[0].run))
        newest, setting, summary = row[-1]
        verdict = newest.verdict
        margin = nested(summary.declared, ("margin",))
        found.append(Series(
            key, legible(machine_of(summary)), legible(setting), legible(verdict.arm_a), legible(verdict.arm_b),
            legible(metric_words(verdict.metric, verdict.cell, verdict.precision)),
            margin if isinstance(margin, float) and 0 < margin < 1 else MARGIN, tuple(point for point, _, _ in row)))
    return sorted(found, key=lambda one: (one.machine, one.setting, one.title))


def compared(verdicts: Iterable[Decided]) -> Iterator[Decided]:
    """The verdicts on two arms; of those by cell none where one covers all cells."""
    own = [one for one in verdicts if one.arm_a and one.arm_b and one.arm_a != one.arm_b
           and SELF_CHECK not in (one.metric or "")]
    whole = {(one.metric, one.arm_a, one.arm_b) for one in own if one.cell is None}
    return (one for one in own if one.cell is None or (one.metric, one.arm_a, one.arm_b) not in whole)


def key_of(summary: Summary, verdict: Decided) -> str:
    """A hash of everything that must be alike: machine, work, arms, what is compared."""
    content = {
        "machine": hardware(summary), "work": work(summary), "metric": verdict.metric, "cell": verdict.cell,
        "arms": [verdict.arm_a, verdict.arm_b], "precision": verdict.precision,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def work(summary: Summary) -> dict[str, Any]:
    """What the arms were given to do, but for what costs no time."""
    experiment = nested(summary.config, ("experiment",))
    settings = {
        ".".join(keys): value for keys, value in leaves(with_later(experiment) if isinstance(experiment, dict) else {})
        if keys != ("seed",) and keys[-1] not in COSTLESS.get(keys[0], ())
    }
    asked = {key: nested(summary.config, ("bench", key)) for key in ("pair", "schedule", "interpreter")}
    declared = {key: nested(summary.declared, (key,)) for key in ("device", "batch_sizes")}
    return {"experiment": settings, "data": nested(summary.dataset, ("sha256",)), **declared, **asked}


def facts(summary: Summary) -> dict[str, Any]:
    """What was recorded of the machine and its software."""
    found = nested(summary.environment, ("facts",))
    return found if isinstance(found, dict) else {}


def hardware(summary: Summary) -> dict[str, Any]:
    """What must match before two runs are compared, but for the software, which changes on purpose."""
    starred = nested(summary.environment, ("starred",))
    names = starred if isinstance(starred, list) else []
    return {name: facts(summary).get(name) for name in names if isinstance(name, str) and not is_software(name)}


def machine_of(summary: Summary) -> str:
    """Processor and GPUs, for people."""
    known = facts(summary)
    cpu, processors = known.get("cpu_model"), known.get("cpu_logical")
    if not cpu:
        return tell(UNKNOWN_MACHINE)
    told = tell(MACHINE, cpu=cpu, processors=plural(processors, "processor")) if isinstance(processors, int) else cpu
    gpus = [str(value) for name, value in known.items() if name.startswith("gpu_") and name.endswith("_name") and value]
    return ", ".join([str(told), *gpus])


def legible(text: object) -> str:
    """What somebody wrote, on one line, as page, picture and feed can hold it; "n/a" for nothing."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", one_line(text)) if text is not None else NA


def moment(stamp: str | None) -> datetime | None:
    """An ISO 8601 stamp, in UTC; None where it is none, or does not tell its time zone."""
    try:
        found = datetime.fromisoformat((stamp or "").replace("Z", "+00:00"))
        return found.astimezone(timezone.utc) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def usable(ratio: float | None) -> bool:
    """Whether it can be the ratio of two times: what lies outside is damage."""
    return ratio is not None and 1 / MOST_RATIO < ratio < MOST_RATIO


def word_of(point: Point, row: Series) -> str:
    """What a run says of both arms, in one sentence."""
    return said(point.verdict, row.a, row.b)
