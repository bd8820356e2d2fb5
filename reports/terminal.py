"""What a report says on a terminal: every verdict, every distance, the self-check, what failed; a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.record.events import Finding, Quality, Verdict
from harness.record.findings import SELF_CHECK_CODES
from harness.record.run import RecordedRun, latest_cases
from harness.stats.interval import MARGIN
from reports.text import printable

WORDS = {"equivalent": f"equivalent within {MARGIN:.0%}"}


def lines(run: RecordedRun) -> list[str]:
    """The lines of a run, in its words but without anything that would steer a terminal."""
    return [" ".join(printable(line).split()) for line in _told(run)]


def _told(run: RecordedRun) -> Iterator[str]:
    for verdict in run.of(Verdict):
        yield sentence(verdict, run.arms)
    for result in run.of(Quality):
        yield result.sentence(run.arms.get(result.arm, result.arm))
    if run.started is not None and run.started.bench.get("selfcheck"):
        found = [finding for finding in run.of(Finding) if finding.code in SELF_CHECK_CODES]
        for finding in sorted(found, key=lambda one: (one.arm or "", SELF_CHECK_CODES.index(one.code))):
            yield f"self-check: {finding.message}"
    for case in latest_cases(run):
        if case.status == "failed":
            yield f"failed: {case.case_id}: {case.reason}"


def sentence(verdict: Verdict, arms: Mapping[str, str]) -> str:
    """A verdict with its ratio as recorded: time of A over time of B."""
    a, b = (arms.get(slot, slot) for slot in (verdict.arm_a, verdict.arm_b))
    metric = f"{verdict.metric}, {verdict.cell}" if verdict.cell else verdict.metric
    if a == b:
        a, b = f"{a} ({verdict.arm_a})", f"{b} ({verdict.arm_b})"
    if verdict.ratio is None:
        return f"{metric}: {a} against {b}: {verdict.word}: {verdict.reason}"
    interval = "" if verdict.ci_low is None or verdict.ci_high is None else (
        f" [{verdict.ci_low:.3f}, {verdict.ci_high:.3f}]")  # fmt: skip
    ratio = f"time {a} / time {b} = {verdict.ratio:.3f}{interval}, {verdict.blocks} blocks"
    words = {**WORDS, "A-faster": f"{a} is faster", "B-faster": f"{b} is faster"}
    text = f"{metric}: {words.get(verdict.word, verdict.word)}: {ratio}"
    more = "; ".join(part for part in (verdict.reason, verdict.next_action) if part)
    return f"{text} ({more})" if more else text
