"""What the first screen shows of a timed part: its ratios in one picture, and the three figures that people quote."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from harness.record.events import Memory, Verdict
from messages import marked, plural, shown, tell
from reports.chapters.answer import key_figures
from reports.chapters.answer.key_figures import NO_WINDOWS, NO_WORKER, PerFigure
from reports.chapters.answer.verdicts import TONES, comes_in_cells, facing, is_minor, oriented, over_cells, ranked
from reports.page.blocks import Table, head
from reports.page.forest import Forest, Row
from reports.text import Value, commas, duration, missing, with_interval
from reports.view.run import ArmView, RunView, by_cache, copies, is_self_check, start_up_ns
from reports.view.words import metric_words, precision_words, short_cell

Rate = PerFigure

ALL_CELLS = marked("all cells, geometric mean")
# The recorded word -> what it means beside a ratio.
SAID = {"A-faster": marked("decided"), "B-faster": marked("decided"), "equivalent": marked("equal"),
        "inconclusive": marked("not decided"), "not-comparable": marked("not compared")}
NO_FREE = marked("no free-running window was measured")
FREE: Rate = (marked("images/s, free-running"),
              lambda view, arm: key_figures.images_per_s(view, arm, "free", NO_FREE))
STEPWISE: Rate = (marked("images/s"), lambda view, arm: key_figures.images_per_s(view, arm, "stepwise", NO_WINDOWS))


def forests(view: RunView) -> list[Forest]:
    """All verdicts, those of one pair of arms under one another and turned the same way; self-checks last."""

    def pair(verdict: Verdict) -> tuple[bool, str, str]:
        return is_self_check(verdict), verdict.arm_a, verdict.arm_b

    groups = (list(group) for _, group in groupby(sorted(ranked(view), key=pair), key=pair))
    return [forest(view, group) for group in groups]


def forest(view: RunView, group: list[Verdict]) -> Forest:
    """The verdicts of one pair; which arm is above the line is the first one's to say."""
    slow, fast, *_ = oriented(group[0])
    margin = view.declared("margin")
    return Forest(
        tell("Time of {slow} / time of {fast}", slow=view.label(slow), fast=view.label(fast)),
        tell("\N{LEFTWARDS ARROW} {arm} takes longer", arm=view.label(fast)),
        tell("{arm} takes longer \N{RIGHTWARDS ARROW}", arm=view.label(slow)),
        tuple(row(view, verdict, slow != verdict.arm_a) for verdict in group),
        margin if isinstance(margin, float) else None,
    )


def row(view: RunView, verdict: Verdict, turned: bool) -> Row:
    """One verdict."""
    label = metric_words(verdict.metric, None, verdict.precision)
    if comes_in_cells(view, verdict.kind):
        cell = tell(ALL_CELLS) if verdict.cell is None else short_cell(verdict.cell)
        about = cell if over_cells(view, verdict) or verdict.cell else label
        label = commas(part for part in (about, precision_words(verdict.precision)) if part)
    word, tone = tell(SAID.get(verdict.word, verdict.word)), TONES.get(verdict.word, "refused")
    minor = is_minor(view, verdict)
    if verdict.ratio is None:
        return Row(label, shown(verdict.reason) if verdict.reason else tell("no ratio"), word, tone, minor=minor)
    ratio, low, high = facing(verdict, turned)
    known = verdict.ci_low is not None and verdict.ci_high is not None
    text = with_interval(ratio, low if known else None, high if known else None)
    return Row(label, text, word, tone, ratio, low, high, minor)


def quoted(view: RunView, rate: Rate) -> Table | None:
    """A row for each arm that was compared: how fast, how much memory, how long a start."""
    gone = copies(view)
    arms = [arm for arm in view.arms if arm.slot not in gone]
    columns = (rate, memory(arms), start(view, arms))
    rows = tuple((Value(arm.label, slot=arm.slot), *(told(view, arm) for _, told in columns)) for arm in arms)
    heads = head(tell("arm"), *(tell(name) for name, _ in columns))
    return Table(tell("What people quote"), heads, rows) if rows else None


def memory(arms: list[ArmView]) -> PerFigure:
    """That of the device where every arm knows it, else the host's: what stands in one column must be one thing."""
    if all(any(line.device_reserved_bytes is not None for line in arm.of(Memory)) for arm in arms):
        return marked("device memory"), key_figures.device_memory
    return marked("peak host memory"), key_figures.host_memory


def start(view: RunView, arms: list[ArmView]) -> PerFigure:
    """With a cold cache where any arm was started so; an arm without a cache starts alike with any."""
    if not any("cold" in by_cache(arm.starts) for arm in arms):
        return tell("time to {first}", first=tell(view.unit.first)), key_figures.first_step
    return tell("cold start, to the {first}", first=tell(view.unit.first)), cold_start


def cold_start(view: RunView, arm: ArmView) -> Value:
    """Launch to the end of the first step with a cold cache, median."""
    groups = by_cache(arm.starts)
    workers = groups.get("cold") or (groups.get("unknown") if set(groups) == {"unknown"} else None)
    if not workers:
        return missing(tell("no start with a cold cache was recorded") if groups else tell(NO_WORKER))
    cache = tell("cold cache") if "cold" in groups else tell("no compile cache known")
    typical = float(np.median([start_up_ns(worker) for worker in workers]))
    return Value(duration(typical), commas([plural(len(workers), "start"), cache]))
