"""The cells of a run's performance: every ratio with its interval and what it rests on, for README, paper and badge."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record.events import Verdict
from messages import marked, plural, shown, tell, words
from reports.pack.quotes import not_quotable, ordered
from reports.page.blocks import Table, table_of
from reports.suites.registry import chapters_of
from reports.text import NA, Value, missing, with_interval
from reports.view.run import RunView, is_self_check
from reports.view.words import level, metric_words

CAPTION = marked(
    "Time A / time B with its interval: above 1, B is faster; N is the blocks of fresh processes that it rests on")
NO_RATIO, NO_LEVEL = marked("no ratio was recorded"), marked("no interval was recorded")
PER_CENT = "{level} %"


@dataclass(frozen=True)
class Cell:
    """One verdict.

    Attributes:
        metric: with cell and number format.
        a: name of arm A.
        b: name of arm B.
        ratio: time A / time B with its interval; "n/a" with a reason.
        level: of the interval.
        n: blocks.
        word: the verdict.
        reason: why it is not decisive; None where it is.
        verdict: as recorded.
        why_not: why it must not be quoted; None where it may be.
    """

    metric: str
    a: str
    b: str
    ratio: str
    level: str
    n: int
    word: str
    reason: str | None
    verdict: Verdict
    why_not: str | None


def heads() -> tuple[str, ...]:
    """What the columns are called."""
    return words("metric", "A", "B", "time A / time B", "interval", "N", "verdict")


def cells(seen: RunView) -> list[Cell]:
    """All verdicts on two arms, the main metric of each part first; self-checks are left out."""
    return [cell(part, verdict) for _, part in chapters_of(seen) for verdict in ordered(part)
            if not is_self_check(verdict)]


def cell(seen: RunView, verdict: Verdict) -> Cell:
    """One verdict."""
    sure = PER_CENT.format(level=level(verdict.alpha)) if verdict.alpha is not None else NA
    return Cell(
        metric_words(verdict.metric, verdict.cell, verdict.precision), seen.label(verdict.arm_a),
        seen.label(verdict.arm_b), with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high), sure, verdict.blocks,
        verdict.word, shown(verdict.reason) if verdict.reason else None, verdict, not_quotable(seen, verdict))


def table(found: list[Cell]) -> Table | None:
    """As a block of a page."""
    return table_of(tell(CAPTION), heads(), (
        (Value(one.metric), Value(one.a, slot=one.verdict.arm_a), Value(one.b, slot=one.verdict.arm_b),
         Value(one.ratio) if one.verdict.ratio is not None else missing(one.reason or tell(NO_RATIO)),
         Value(one.level) if one.verdict.alpha is not None else missing(tell(NO_LEVEL)), Value(plural(one.n, "block")),
         Value(one.word, one.reason)) for one in found))
