"""A comparison of runs as a report: verdict cards, what to distrust, the ratios, what else changed, the method."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from harness.record.events import BlockState
from messages import choice, marked, plural, shown, tell, words
from reports.chapters.evidence import findings as journal
from reports.compare.fairness import TOGETHER, listed
from reports.compare.method import method
from reports.compare.runs import SAID, Comparison, Pair, Row, told
from reports.page.blocks import Note, Part, Picture, Prose, Report, Section, Table, VerdictCard, head, section, table_of
from reports.page.forest import Forest, on_one_scale
from reports.page.forest import Row as Ratio
from reports.suites.registry import whole
from reports.text import Value, commas, duration, missing, percent, semicolons, signed_percent, utc
from reports.view.words import level_words, margin_words, metric_name, reason_words

TONES = {"slower": "refused", "faster": "decided", "equivalent": "even", "inconclusive": "open"}
FIGURES = {"equivalent": "=", "inconclusive": "?"}
FOREST = marked("Time in {run} / time in A")
FOREST_LEFT = marked("\N{LEFTWARDS ARROW} less time than in A")
FOREST_RIGHT = marked("more time than in A \N{RIGHTWARDS ARROW}")
RELATIVE = marked("relative to {control}")
GRAVITY = ("slower", "inconclusive", "faster", "equivalent")
ROLES = {"machine": marked("machine, allowed"), "software": marked("under test")}
# What a verdict says of an arm, whose name stands where this is.
ARM = "\x02"
HEADLINES = {
    "slower": marked("{arm} takes {more} more time in {run} than in A {what}"),
    "faster": marked("{arm} takes {more} less time in {run} than in A {what}"),
    "equivalent": marked("{arm} takes the same time in {run} as in A {what}, within the margin"),
    "inconclusive": marked("{arm}: it is not decided whether it is slower or faster in {run} than in A {what}"),
}
DRIFT = marked(
    "The runs were measured at different times. What changed for the whole machine between them (heat, clocks, "
    "neighbours) is part of every direct ratio, and no interval covers it"
)
DRIFT_ADVICE = marked(
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
    verdicts, runs = comparison.words, list(comparison.runs.values())
    sections = [
        Section("ratios", tell("Time after / time before"),
                (figure, *(ratios(pair, comparison.control) for pair in comparison.pairs))),
        Section("runs", tell("The runs"), (run_table(comparison),)),
        *map(changes, comparison.pairs),
        left_out(comparison),
        Section("method", tell("How this is judged"), method(comparison, command)),
    ]
    return Report(
        title(comparison),
        tell("{runs} of {suites}", runs=plural(len(runs), "run"),
             suites=", ".join(dict.fromkeys(r.started.suite for r in runs if r.started))),
        tell("{one} against {other}", one=", ".join(run.path.name for run in runs[1:]), other=runs[0].path.name),
        next(word for word in GRAVITY if word in verdicts),
        tuple(card(comparison, pair, row) for pair, row in comparison.rows if row.verdict),
        tuple(notes(comparison)),
        tuple(one for one in sections if one),
        word_label=tell("verdict"),
        footer=tell("Built by ddpm-bench from the journals of the compared runs."),
        forests=on_one_scale([forest(comparison, pair) for pair in comparison.pairs]),
    )  # fmt: skip


def forest(comparison: Comparison, pair: Pair) -> Forest:
    """The verdicts on one later run in one picture."""
    rows = tuple(forest_row(row) for row in pair.rows if row.verdict)
    return Forest(tell(FOREST, run=pair.name), tell(FOREST_LEFT), tell(FOREST_RIGHT), rows, comparison.margin)


def forest_row(row: Row) -> Ratio:
    """One verdict of it."""
    change = row.verdict
    assert change is not None
    over = tell(RELATIVE, control=row.control) if row.judged == "relative" else None
    label = commas(filter(None, (row.subject.arm, row.subject.cell or metric_name(row.subject.metric), over)))
    return Ratio(label, told(change), tell(SAID[change.word]), TONES[change.word], change.ratio, change.ci_low,
                 change.ci_high)  # fmt: skip


def title(comparison: Comparison) -> str:
    """The outcome in one line."""
    slower: dict[str, list[str]] = {}
    for row in (row for _, row in comparison.rows if row.verdict and row.verdict.word == "slower"):
        cells = slower.setdefault(row.subject.arm, [])
        if row.subject.cell and row.subject.cell not in cells:
            cells.append(row.subject.cell)
    if slower:
        named = semicolons(f"{arm} ({', '.join(cells)})" if cells else arm for arm, cells in slower.items())
        return tell("Slower than in run A: {arms}", arms=named)
    if "inconclusive" in comparison.words:
        return tell("Nothing is slower than in run A, but not all is decided")
    return tell("Nothing is slower than in run A")


def card(comparison: Comparison, pair: Pair, row: Row) -> VerdictCard:
    """One verdict as a card."""
    change = row.verdict
    assert change is not None
    what = row.what
    if row.judged == "relative":
        what = tell("{what}, relative to {control}", what=what, control=row.control)
    more = percent(abs(change.ratio - 1)) if change.ratio else ""
    before, _, behind = tell(HEADLINES[change.word], arm=ARM, more=more, run=pair.name, what=what).partition(ARM)
    facts = [
        tell("{name}: {value}", name=ratio_name(pair, row.judged == "relative", row), value=interval(row, comparison)),
        tell("Typical time {before} in A, {after} in {run}; ratio of mean times, spikes included: {ratio}",
             before=duration(row.before_ns), after=duration(row.after_ns), run=pair.name,
             ratio=f"{row.mean_ratio:.3f}"),
        second(pair, row),
        reason_words(change.reason),
        tell("Compared although the machine differs in {differences}", differences=listed(pair.allowed))
        if pair.allowed else None,
    ]  # fmt: skip
    advice = semicolons(filter(None, [shown(change.next_action or ""), by_control(row)]))
    return VerdictCard(
        FIGURES.get(change.word) or signed_percent((change.ratio or math.nan) - 1),
        tuple(part for part in (Part(before), Part(row.subject.arm, row.slot), Part(behind)) if part.text),
        tuple(tell("{text}.", text=fact) for fact in facts if fact),
        tell("{text}.", text=advice) if change.next_action else None,
        tell(SAID[change.word]),
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
    return tell("or judge by the ratio to {control}, quieter here: --control {option}", control=row.control,
                option=shlex.quote(row.control or ""))  # fmt: skip


def ratio_name(pair: Pair, relative: bool, row: Row) -> str:
    """What a ratio is, in words."""
    if relative:
        return tell("{arm} / {control} in {run}, over the same in A", arm=row.subject.arm, control=row.control,
                    run=pair.name)  # fmt: skip
    return tell(FOREST, run=pair.name)


def interval(row: Row, comparison: Comparison) -> str:
    """The ratio that carries the verdict, with level, blocks and margin."""
    change = row.verdict
    assert change is not None
    return tell(
        "{ratio}, {level} over {before} and {blocks}; margin {margin}", ratio=told(change),
        level=level_words(change.alpha, comparison.alpha), before=change.blocks_before,
        blocks=plural(change.blocks_after, "block"), margin=margin_words(comparison.margin),
    )  # fmt: skip


def second(pair: Pair, row: Row) -> str | None:
    """The change that does not carry the verdict."""
    if row.other is None:
        return None
    return tell("{name}: {ratio}, which describes and decides nothing",
                name=ratio_name(pair, row.judged == "direct", row), ratio=told(row.other))  # fmt: skip


def notes(comparison: Comparison) -> list[Note]:
    """What to distrust, the worst first."""
    found = [Note("info" if comparison.control else "warning", tell(DRIFT),
                  None if comparison.control else tell(DRIFT_ADVICE))]  # fmt: skip
    for pair in comparison.pairs:
        where = tell("{one} against {other}", one=pair.name, other="A")
        if pair.allowed:
            found.append(Note(
                "warning", tell("The machine is not the same: {differences}", differences=listed(pair.allowed)),
                tell("a ratio across machines says little about the software"), where))  # fmt: skip
        found += [one for row in pair.rows for one in moved_together(row, where)]
        control = [one for one in pair.differences if one.role == "software" and one.arm == comparison.control]
        if comparison.control and control:
            found.append(Note(
                "warning", tell("The control itself changed: {differences}", differences=listed(control)),
                tell("the ratio of ratios holds the control's change as well"), where))  # fmt: skip
        if any(one.field == TOGETHER for one in pair.differences):
            found.append(Note(
                "warning", tell("The runs measured different sets of arms; a step finds other caches after the step "
                                "of another arm"),
                tell("measure the same arms in both runs"), where))  # fmt: skip
    for name, run in comparison.runs.items():
        # Whether a run judged its own arms against each other is of no interest here.
        found += [Note(one.severity, one.message, None, name) for one in journal.journal_notes(whole(run), timed=False)
                  if one.severity != "info"]
        if dirty := sum(1 for state in run.of(BlockState) if state.dirty):
            found.append(Note("info", choice(dirty, "{n} disturbed block, kept and flagged",
                                             "{n} disturbed blocks, kept and flagged"), None, name))  # fmt: skip
    return sorted(found, key=lambda note: journal.ORDER.get(note.severity, 1))


def moved_together(row: Row, where: str) -> list[Note]:
    """A decided direct verdict that another arm shares is more likely the machine's than the arm's."""
    if row.judged != "direct" or row.relative is None or row.direct.word not in ("slower", "faster"):
        return []
    if row.relative.word == row.direct.word:
        return []
    message = tell("{subject} is {word}, but relative to {control} the ratio is {ratio} ({relative}): {control} moved "
                   "the same way, which may be the machine", subject=row.subject, word=tell(SAID[row.direct.word]),
                   control=row.control, ratio=told(row.relative), relative=tell(SAID[row.relative.word]))  # fmt: skip
    advice = tell("if the software of {control} did not change, judge by it: --control {option}", control=row.control,
                  option=shlex.quote(row.control)) if row.control else None  # fmt: skip
    return [Note("warning", message, advice, where)]


def ratios(pair: Pair, control: str | None) -> Table:
    """Every arm and cell of one later run, the control included."""
    name = pair.name
    names = (*words("arm", "verdict"), tell("time in {run} / time in A", run=name), tell("ratio of ratios"),
             tell("time in {run}", run="A"), tell("time in {run}", run=name))  # fmt: skip
    rows = tuple(table_row(row, control) for row in pair.rows)
    return Table(tell("Run {run} against run A", run=name), head(*names), rows)


def unjudged(row: Row, control: str | None) -> str:
    """Why a row has no verdict."""
    return tell("the control") if row.subject.arm == control else tell("the control has no blocks here")


def table_row(row: Row, control: str | None) -> tuple[Value, ...]:
    """One row: the ratio that carries the verdict is named in its note."""
    verdict, relative = row.verdict, row.relative
    word = Value(tell(SAID[verdict.word]), shown(verdict.reason) if verdict.reason else None,
                 {"slower": "bad", "faster": "good"}.get(verdict.word, "")) if verdict \
        else Value(tell("not judged"), unjudged(row, control))  # fmt: skip
    carries = {kind: tell("carries the verdict") if row.judged == kind else tell("describes")
               for kind in ("direct", "relative")}  # fmt: skip
    direct = Value(told(row.direct), carries["direct"])
    if relative is None:
        ratio = missing(tell("no other arm is in both runs") if verdict else unjudged(row, control))
    else:
        ratio = Value(told(relative), tell("to {control}; {what}", control=row.control, what=carries["relative"]))
    arm = Value(row.subject.arm, row.subject.cell or metric_name(row.subject.metric), slot=row.slot)
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
        rows.append((Value(name), Value(run.path.name), arms, Value(utc(started.started_utc)),
                     Value(tell(run.status))))  # fmt: skip
    heads = words("run", "folder", "suite and arms", "started", "state")
    return Table(tell("Compared runs"), head(*heads), tuple(rows))


def changes(pair: Pair) -> Section:
    """What else is not the same in one later run."""
    name = pair.name
    rows = ((Value(one.name.replace("_", " ") if not one.arm else one.name,
                   tell(ROLES[one.role]) if one.role in ROLES else None,
                   "warn" if one.role == "machine" else ""), Value(one.before), Value(one.after))
                 for one in pair.differences)  # fmt: skip
    heads = (tell("what"), tell("in {run}", run="A"), tell("in {run}", run=name))
    found = table_of(tell("Recorded differences between A and {run}", run=name), heads, rows)
    none = Prose(tell("Nothing recorded differs: versions, flags, machine, settings are the same."))
    return Section(f"changes-{name.lower()}", tell("What changed between A and {run}", run=name), (found or none,))


def left_out(comparison: Comparison) -> Section | None:
    """Arms and cells that only one of two runs has."""
    rows = (
        (Value(str(subject), metric_name(subject.metric)),
         Value(tell("only in {run}", run=where), tell("{one} against {other}", one=pair.name, other="A")))
        for pair in comparison.pairs
        for subject, where in pair.alone.items()
    )  # fmt: skip
    table = table_of(tell("Measured in one run only, and so not judged"), words("arm", "where"), rows)
    return section("alone", tell("Not compared"), table)
