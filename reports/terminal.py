"""What a report says on a terminal: every verdict, every distance, the self-check, what failed; a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.record.events import Alignment, Case, Finding, Guess, Quality, Scaled, Share, Verdict
from harness.record.findings import SELF_CHECK_CODES
from harness.record.run import RecordedRun
from harness.record.summary import Decided
from messages import plural, shown, tell
from reports.chapters.chapter import Chapter
from reports.page.blocks import counted
from reports.suites.registry import chapters_of, notes_of, whole
from reports.text import NA, one_line, semicolons, with_interval
from reports.view.run import RunView
from reports.view.words import level_words, look_words, metric_words, outcome


def lines(run: RecordedRun) -> list[str]:
    """The lines of a run, in its words but without anything that would steer a terminal."""
    return [one_line(line) for line in _lines(run)]


def _lines(run: RecordedRun) -> Iterator[str]:
    for verdict in run.of(Verdict):
        yield sentence(verdict, run.arms)
    for share in run.of(Share):
        yield share.sentence(run.arms)
    for guess in run.of(Guess):
        yield guess.sentence(run.arms)
    for line in run.of(Alignment):
        yield line.sentence(run.arms)
    for one in run.of(Scaled):
        yield one.sentence(run.arms)
    for result in run.of(Quality):
        yield result.sentence(run.arms.get(result.arm, result.arm))
    if run.started is not None and run.started.bench.get("selfcheck"):
        found = [finding for finding in run.of(Finding) if finding.code in SELF_CHECK_CODES]
        for finding in sorted(found, key=lambda one: (one.arm or "", SELF_CHECK_CODES.index(one.code))):
            yield tell("self-check: {message}", message=shown(finding.message))
    for case in run.of(Case):
        if case.status == "failed":
            yield tell("failed: {case}: {reason}", case=case.case_id, reason=shown(str(case.reason)))
    seen = whole(run)
    parts = chapters_of(seen)
    yield from quoted(parts)
    if tally := counted(notes_of(seen, parts)):
        yield tell("findings: {tally}", tally=tell(", ").join(words for _, words in tally))


def quoted(parts: Sequence[tuple[Chapter, RunView]]) -> Iterator[str]:
    """What people quote of every arm, a line each, as the page's first screen has it."""
    for chapter, part in parts:
        table = chapter.quoted(part)
        names = [value.text for value in table.head[1:]] if table else []
        for arm, *values in table.rows if table else ():
            told = (f"{name} {value.text}{f' ({value.note})' if value.text == NA else ''}"
                    for name, value in zip(names, values, strict=True))  # fmt: skip
            line = tell("{arm}: {figures}", arm=arm.text, figures=semicolons(told))
            yield line if part.alone else tell("{part}: {line}", part=tell(chapter.part), line=line)


def sentence(verdict: Verdict, arms: Mapping[str, str]) -> str:
    """A verdict with its ratio as recorded, why it is not decisive and what to do."""
    a, b = (arms.get(slot, slot) for slot in (verdict.arm_a, verdict.arm_b))
    if a == b:
        a, b = f"{a} ({verdict.arm_a})", f"{b} ({verdict.arm_b})"
    text = told(verdict, a, b)
    if verdict.ratio is None:
        return tell("{name}: {value}", name=text, value=shown(str(verdict.reason)))
    recorded = (shown(part) for part in (verdict.reason, verdict.next_action) if part)
    more = semicolons(part for part in (level_of(verdict), *recorded) if part)
    return tell("{text} ({more})", text=text, more=more) if more else text


def level_of(verdict: Verdict | Decided) -> str | None:
    """How sure its interval is; None where that is the usual level, of one look at the end."""
    look = look_words(verdict)
    return level_words(verdict.alpha, verdict.look_alpha, look) if look else None


def told(verdict: Verdict | Decided, a: str, b: str) -> str:
    """What a verdict says of arms of these names, in few words, and the ratio as recorded."""
    metric = metric_words(verdict.metric, verdict.cell, verdict.precision)
    text = said(verdict, a, b, tell("in {metric}", metric=metric))
    if verdict.ratio is None:
        return text
    ratio = with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high)
    return tell("{sentence}: time {a} / time {b} = {ratio}, {blocks}", sentence=text, a=a, b=b, ratio=ratio,
                blocks=plural(verdict.blocks or 0, "block"))


def said(verdict: Verdict | Decided, a: str, b: str, what: str = "") -> str:
    """The sentence of a verdict on arms of these names, as its card has it, with its word for those who look for it."""
    word = verdict.word or NA
    twice = a.removesuffix(" (A)") == b.removesuffix(" (B)")
    return f"{''.join(outcome(word, a, b, verdict.ratio, verdict.ci_low, verdict.ci_high, what, twice))} [{word}]"
