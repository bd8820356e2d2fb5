"""A comparison of runs as a report: verdict cards, what to distrust, the ratios, what else changed, the method."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from harness.record.events import BlockState
from messages import plural
from reports.chapters import findings as journal
from reports.compare.fairness import listed
from reports.compare.method import method
from reports.compare.runs import Comparison, Pair, Row, told
from reports.page.blocks import Note, Part, Picture, Prose, Report, Section, Table, VerdictCard, head, section, table_of
from reports.page.forest import Forest, on_one_scale
from reports.page.forest import Row as Ratio
from reports.suites.registry import whole
from reports.text import Value, duration, missing, percent, signed_percent, utc
from reports.view.words import level_words, margin_words, reason_words

TONES = {"slower": "refused", "faster": "decided", "equivalent": "even", "inconclusive": "open"}
FIGURES = {"equivalent": "=", "inconclusive": "?"}
FOREST = "Time in {run} / time in A"
FOREST_LEFT, FOREST_RIGHT = "\N{LEFTWARDS ARROW} less time than in A", "more time than in A \N{RIGHTWARDS ARROW}"
RELATIVE = "relative to {control}"
GRAVITY = ("slower", "inconclusive", "faster", "equivalent")
ROLES = {"machine": "machine, allowed", "software": "under test", "other": ""}
DRIFT = (
    "The runs were measured at different times. What changed for the whole machine between them (heat, clocks, "
    "neighbours) is part of every direct ratio, and no interval covers it"
)
DRIFT_ADVICE = (
    "before you believe a small change, compare two runs of unchanged software: what they show is the drift of this "
    "machine; or measure an arm that does not change in every run and name it with --control"
)


def report(comparison: Comparison, figure: Picture | Prose, command: Sequence[str]) -> Report:
    """The whole page.

    Args:
        comparison: what was judged.
        figure: its forest figure.
        command: what repeats it.
    """
    words, runs = comparison.words, list(comparison.runs.values())
    sections = [
        Section("ratios", "Time after / time before",
                (figure, *(ratios(pair, comparison.control) for pair in comparison.pairs))),
        Section("runs", "The runs", (run_table(comparison),)),
        *map(changes, comparison.pairs),
        left_out(comparison),
        Section("method", "How this is judged", method(comparison, command)),
    ]
    return Report(
        title(comparison),
        f"{plural(len(runs), 'run')} of {', '.join(dict.fromkeys(r.started.suite for r in runs if r.started))}",
        f"{', '.join(run.path.name for run in runs[1:])} against {runs[0].path.name}",
        next(word for word in GRAVITY if word in words),
        tuple(card(comparison, pair, row) for pair, row in comparison.rows if row.verdict),
        tuple(notes(comparison)),
        tuple(one for one in sections if one),
        word_label="verdict",
        footer="Built by ddpm-bench from the journals of the compared runs.",
        forests=on_one_scale([forest(comparison, pair) for pair in comparison.pairs]),
    )  # fmt: skip


def forest(comparison: Comparison, pair: Pair) -> Forest:
    """The verdicts on one later run in one picture."""
    rows = tuple(forest_row(row) for row in pair.rows if row.verdict)
    return Forest(FOREST.format(run=pair.name), FOREST_LEFT, FOREST_RIGHT, rows, comparison.margin)


def forest_row(row: Row) -> Ratio:
    """One verdict of it."""
    change = row.verdict
    assert change is not None
    over = RELATIVE.format(control=row.control) if row.judged == "relative" else None
    label = ", ".join(word for word in (row.subject.arm, row.subject.cell or row.subject.metric, over) if word)
    return Ratio(label, told(change), change.word, TONES[change.word], change.ratio, change.ci_low, change.ci_high)


def title(comparison: Comparison) -> str:
    """The outcome in one line."""
    slower: dict[str, list[str]] = {}
    for row in (row for _, row in comparison.rows if row.verdict and row.verdict.word == "slower"):
        cells = slower.setdefault(row.subject.arm, [])
        if row.subject.cell and row.subject.cell not in cells:
            cells.append(row.subject.cell)
    if slower:
        named = (f"{arm} ({', '.join(cells)})" if cells else arm for arm, cells in slower.items())
        return f"Slower than in run A: {'; '.join(named)}"
    undecided = ", but not all is decided" if "inconclusive" in comparison.words else ""
    return f"Nothing is slower than in run A{undecided}"


def card(comparison: Comparison, pair: Pair, row: Row) -> VerdictCard:
    """One verdict as a card."""
    change = row.verdict
    assert change is not None
    name, run = Part(row.subject.arm, row.slot), f"{pair.name} than in A"
    what = row.what + (f", relative to {row.control}" if row.judged == "relative" else "")
    more = percent(abs(change.ratio - 1)) if change.ratio else ""
    headline = {
        "slower": f" takes {more} more time in {run} {what}",
        "faster": f" takes {more} less time in {run} {what}",
        "equivalent": f" takes the same time in {pair.name} as in A {what}, within the margin",
        "inconclusive": f": it is not decided whether it is slower or faster in {run} {what}",
    }[change.word]
    facts = [
        f"{ratio_name(pair, row.judged == 'relative', row)}: {interval(row, comparison)}",
        f"Typical time {duration(row.before_ns)} in A, {duration(row.after_ns)} in {pair.name}; ratio of mean "
        f"times, spikes included: {row.mean_ratio:.3f}",
        second(pair, row),
        reason_words(change.reason),
        f"Compared although the machine differs in {listed(pair.allowed)}" if pair.allowed else None,
    ]  # fmt: skip
    return VerdictCard(
        FIGURES.get(change.word) or signed_percent((change.ratio or math.nan) - 1),
        (name, Part(headline)),
        tuple(f"{fact}." for fact in facts if fact),
        f"{change.next_action}{by_control(row)}." if change.next_action else None,
        change.word,
        TONES[change.word],
        row.subject.cell is not None or len(comparison.words) > 4,
    )


def by_control(row: Row) -> str:
    """A way out of the noise: the ratio to another arm, where its interval is much narrower."""
    direct, relative = row.direct, row.relative
    if row.judged != "direct" or direct.reason != "noise" or relative is None or not relative.ci_low:
        return ""
    widths = [math.log((change.ci_high or 1) / (change.ci_low or 1)) for change in (relative, direct)]
    if widths[0] > widths[1] / 2:
        return ""
    return f"; or judge by the ratio to {row.control}, quieter here: --control {shlex.quote(row.control or '')}"


def ratio_name(pair: Pair, relative: bool, row: Row) -> str:
    """What a ratio is, in words."""
    if relative:
        return f"{row.subject.arm} / {row.control} in {pair.name}, over the same in A"
    return f"Time in {pair.name} / time in A"


def interval(row: Row, comparison: Comparison) -> str:
    """The ratio that carries the verdict, with level, blocks and margin."""
    change = row.verdict
    assert change is not None
    return (
        f"{told(change)}, {level_words(change.alpha, comparison.alpha)} over {change.blocks_before} and "
        f"{plural(change.blocks_after, 'block')}; margin {margin_words(comparison.margin)}"
    )


def second(pair: Pair, row: Row) -> str | None:
    """The change that does not carry the verdict."""
    if row.other is None:
        return None
    return f"{ratio_name(pair, row.judged == 'direct', row)}: {told(row.other)}, which describes and decides nothing"


def notes(comparison: Comparison) -> list[Note]:
    """What to distrust, the worst first."""
    found = [Note("info" if comparison.control else "warning", DRIFT, None if comparison.control else DRIFT_ADVICE)]
    for pair in comparison.pairs:
        where = f"{pair.name} against A"
        if pair.allowed:
            found.append(Note("warning", f"The machine is not the same: {listed(pair.allowed)}",
                              "a ratio across machines says little about the software", where))  # fmt: skip
        found += [one for row in pair.rows for one in moved_together(row, where)]
        control = [one for one in pair.differences if one.role == "software" and one.arm == comparison.control]
        if comparison.control and control:
            found.append(Note("warning", f"The control itself changed: {listed(control)}",
                              "the ratio of ratios holds the control's change as well", where))  # fmt: skip
        if any(one.field == "arms measured together" for one in pair.differences):
            found.append(Note("warning", "The runs measured different sets of arms; a step finds other caches after "
                              "the step of another arm", "measure the same arms in both runs", where))  # fmt: skip
    for name, run in comparison.runs.items():
        # Whether a run judged its own arms against each other is of no interest here.
        found += [Note(one.severity, one.message, None, name) for one in journal.journal_notes(whole(run), timed=False)
                  if one.severity != "info"]
        if dirty := sum(1 for state in run.of(BlockState) if state.dirty):
            found.append(Note("info", f"{plural(dirty, 'disturbed block')}, kept and flagged", None, name))
    return sorted(found, key=lambda note: journal.ORDER.get(note.severity, 1))


def moved_together(row: Row, where: str) -> list[Note]:
    """A decided direct verdict that another arm shares is more likely the machine's than the arm's."""
    if row.judged != "direct" or row.relative is None or row.direct.word not in ("slower", "faster"):
        return []
    if row.relative.word == row.direct.word:
        return []
    return [Note("warning", f"{row.subject} is {row.direct.word}, but relative to {row.control} the ratio is "
                 f"{told(row.relative)} ({row.relative.word}): {row.control} moved the same way, which may be the "
                 "machine",
                 f"if the software of {row.control} did not change, judge by it: --control {shlex.quote(row.control)}"
                 if row.control else None, where)]  # fmt: skip


def ratios(pair: Pair, control: str | None) -> Table:
    """Every arm and cell of one later run, the control included."""
    name = pair.name
    names = ("arm", "verdict", f"time in {name} / time in A", "ratio of ratios", "time in A", f"time in {name}")
    return Table(f"Run {name} against run A", head(*names), tuple(table_row(row, control) for row in pair.rows))


def unjudged(row: Row, control: str | None) -> str:
    """Why a row has no verdict."""
    return "the control" if row.subject.arm == control else "the control has no blocks here"


def table_row(row: Row, control: str | None) -> tuple[Value, ...]:
    """One row: the ratio that carries the verdict is named in its note."""
    verdict, relative = row.verdict, row.relative
    word = Value(verdict.word, verdict.reason, {"slower": "bad", "faster": "good"}.get(verdict.word, "")) if verdict \
        else Value("not judged", unjudged(row, control))  # fmt: skip
    carries = {kind: "carries the verdict" if row.judged == kind else "describes" for kind in ("direct", "relative")}
    direct = Value(told(row.direct), carries["direct"])
    if relative is None:
        ratio = missing("no other arm is in both runs" if verdict else unjudged(row, control))
    else:
        ratio = Value(told(relative), f"to {row.control}; {carries['relative']}")
    arm = Value(row.subject.arm, row.subject.cell or row.subject.metric, slot=row.slot)
    blocks = (row.direct.blocks_before, row.direct.blocks_after)
    times = (Value(duration(ns), plural(n, "block"))
             for ns, n in zip((row.before_ns, row.after_ns), blocks, strict=True))  # fmt: skip
    return arm, word, direct, ratio, *times


def run_table(comparison: Comparison) -> Table:
    """Which run is which."""
    rows = []
    for name, run in comparison.runs.items():
        started = run.started
        assert started is not None
        arms = Value(started.suite, ", ".join(run.arms.values()))
        rows.append((Value(name), Value(run.path.name), arms, Value(utc(started.started_utc)), Value(run.status)))
    return Table("Compared runs", head("run", "folder", "suite and arms", "started", "state"), tuple(rows))


def changes(pair: Pair) -> Section:
    """What else is not the same in one later run."""
    name = pair.name
    rows = ((Value(one.name.replace("_", " ") if not one.arm else one.name, ROLES[one.role] or None,
                        "warn" if one.role == "machine" else ""), Value(one.before), Value(one.after))
                 for one in pair.differences)  # fmt: skip
    found = table_of(f"Recorded differences between A and {name}", ("what", "in A", f"in {name}"), rows)
    none = Prose("Nothing recorded differs: versions, flags, machine, settings are the same.")
    return Section(f"changes-{name.lower()}", f"What changed between A and {name}", (found or none,))


def left_out(comparison: Comparison) -> Section | None:
    """Arms and cells that only one of two runs has."""
    rows = (
        (Value(str(subject), subject.metric), Value(f"only in {where}", f"{pair.name} against A"))
        for pair in comparison.pairs
        for subject, where in pair.alone.items()
    )
    table = table_of("Measured in one run only, and so not judged", ("arm", "where"), rows)
    return section("alone", "Not compared", table)
