"""From a recorded run to its verdicts: pure, so that a resumed run judges all blocks, whoever measured them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.checks import unfair
from harness.events import (
    SELF_CHECK,
    ArmSlot,
    BlockState,
    Case,
    Finding,
    ParityResult,
    Verdict,
    Window,
    Word,
    WorkerStarted,
)
from harness.plan import Comparison
from harness.stats.compare import BlockRatio, Judgement, block_ratio, judge_clean_and_dirty
from harness.store import RecordedRun
from harness.suites import ALPHA, FREE_STEP_TIME, MARGIN, STEP_TIME
from impls.backend import BackendInfo

METRICS: tuple[tuple[str, Literal["stepwise", "free"]], ...] = ((STEP_TIME, "stepwise"), (FREE_STEP_TIME, "free"))


@dataclass(frozen=True)
class Ratios:
    """The blocks in which both arms of a comparison were measured."""

    blocks: tuple[int, ...]
    ratios: tuple[BlockRatio, ...]
    dirty: tuple[bool, ...]

    @property
    def medians(self) -> list[float]:
        """One log-ratio per block: what the verdict rests on."""
        return [ratio.median_log_ratio for ratio in self.ratios]


def judge_run(run: RecordedRun, comparisons: Sequence[Comparison]) -> list[Verdict | Finding]:
    """All verdicts of a run, the main metric's comparisons under Holm's step-down, with the findings they need.

    The free-running metric was declared as a further one: its intervals describe, each at the full alpha.
    """
    events: list[Verdict | Finding] = []
    for metric, kind in METRICS:
        ratios = {c: block_ratios(run, c, kind) for c in comparisons}
        family = [c for c in comparisons if not c.selfcheck and metric == STEP_TIME]
        alphas = {**dict.fromkeys(comparisons, ALPHA), **holm(family, ratios)}
        for comparison in comparisons:
            verdict = _verdict(run, comparison, metric, ratios[comparison], alphas[comparison])
            events.append(verdict)
            events += _findings(run, comparison, verdict, ratios[comparison])
    return events


def block_ratios(run: RecordedRun, comparison: Comparison, kind: Literal["stepwise", "free"]) -> Ratios:
    """The ratio of every finished block, from the pairs in which both arms have a window."""
    measured = {(case.arm, case.block) for case in run.of(Case) if case.status == "measured"}
    windows: dict[tuple[int, ArmSlot], dict[int, float]] = {}
    for window in run.of(Window):
        if window.kind == kind:
            spent = sum(window.step_ns) if window.step_ns else window.end_ns - window.start_ns
            windows.setdefault((window.block, window.arm), {})[window.pair] = spent / window.steps
    blocks, ratios, dirty = [], [], []
    for state in run.of(BlockState):
        number = state.block
        if (comparison.a, number) not in measured or (comparison.b, number) not in measured:
            continue
        a, b = windows.get((number, comparison.a), {}), windows.get((number, comparison.b), {})
        pairs = sorted(a.keys() & b.keys())
        if pairs:
            blocks.append(number)
            ratios.append(block_ratio([a[pair] for pair in pairs], [b[pair] for pair in pairs]))
            dirty.append(state.dirty)
    return Ratios(tuple(blocks), tuple(ratios), tuple(dirty))


def judged_at(ratios: Ratios, alpha: float) -> Judgement:
    """The verdict of one comparison at one significance."""
    return judge_clean_and_dirty(ratios.medians, ratios.dirty, MARGIN, alpha)


def holm(comparisons: Sequence[Comparison], ratios: Mapping[Comparison, Ratios]) -> dict[Comparison, float]:
    """Holm's step-down: the clearest of m comparisons at alpha / m, the next at alpha / (m - 1), until one fails."""
    left = len(comparisons)
    alphas: dict[Comparison, float] = {}
    for comparison in sorted(comparisons, key=lambda c: -_clarity(ratios[c].medians)):
        alphas[comparison] = ALPHA / left
        if judged_at(ratios[comparison], alphas[comparison]).word in ("A-faster", "B-faster"):
            left -= 1
    return alphas


def refusal(run: RecordedRun, comparison: Comparison) -> str | None:
    """Why the two arms must not be compared; None when they may."""
    workers = {w.arm: w for w in run.of(WorkerStarted) if w.role == "measure"}
    a, b = workers.get(comparison.a), workers.get(comparison.b)
    if a is None or b is None:
        return None
    fault = unfair(BackendInfo(**a.info), BackendInfo(**b.info), a.parameter_count, b.parameter_count)
    if fault or comparison.selfcheck:
        return fault
    results = [r for r in run.of(ParityResult) if (r.arm_a, r.arm_b) == (comparison.a, comparison.b)]
    if not results:
        return "parity: the check did not run to its end"
    return None if results[-1].passed else f"parity: {results[-1].reason}"


def sentence(verdict: Verdict, arms: Mapping[str, str]) -> str:
    """A verdict for people."""
    a, b = arms[verdict.arm_a], arms[verdict.arm_b]
    if a == b:
        a, b = f"{a} ({verdict.arm_a})", f"{b} ({verdict.arm_b})"
    if verdict.ratio is None:
        return f"{verdict.metric}: {a} against {b}: {verdict.word}: {verdict.reason}"
    interval = "" if verdict.ci_low is None or verdict.ci_high is None else (
        f" [{verdict.ci_low:.3f}, {verdict.ci_high:.3f}]")
    ratio = f"time {a} / time {b} = {verdict.ratio:.3f}{interval}, {verdict.blocks} blocks"
    words = {"A-faster": f"{a} is faster", "B-faster": f"{b} is faster",
             "equivalent": f"equivalent within {MARGIN:.0%}"}
    text = f"{verdict.metric}: {words.get(verdict.word, verdict.word)}: {ratio}"
    more = "; ".join(part for part in (verdict.reason, verdict.next_action) if part)
    return f"{text} ({more})" if more else text


def _verdict(run: RecordedRun, comparison: Comparison, metric: str, ratios: Ratios, alpha: float) -> Verdict:
    why, judgement = refusal(run, comparison), judged_at(ratios, alpha)
    word: Word = judgement.word
    reason: str | None = judgement.reason
    action = judgement.next_action
    if why is not None:
        word, reason = "not-comparable", why
        action = "make both arms alike in this, or read the ratio as a description only"
    elif not ratios.ratios:
        word, reason, action = "inconclusive", "no block measured both arms", "see the failed cases and their logs"
    mean = math.exp(sum(r.mean_log_ratio for r in ratios.ratios) / len(ratios.ratios)) if ratios.ratios else None
    return Verdict(
        metric=metric + (SELF_CHECK if comparison.selfcheck else ""), arm_a=comparison.a, arm_b=comparison.b,
        ratio=judgement.ratio, ci_low=judgement.ci_low, ci_high=judgement.ci_high, blocks=judgement.blocks,
        word=word, reason=reason, next_action=action, mean_ratio=mean, sign_flip_p=judgement.sign_flip_p,
        block_log_ratios=ratios.medians, further_blocks=judgement.further_blocks, alpha=alpha)


def _findings(run: RecordedRun, comparison: Comparison, verdict: Verdict, ratios: Ratios) -> list[Finding]:
    found = []
    name = run.arms.get(comparison.a, comparison.a)
    if comparison.selfcheck and verdict.ci_low is not None and verdict.ci_high is not None:
        floor = (math.log(verdict.ci_high) - math.log(verdict.ci_low)) / 2
        found.append(Finding(severity="info", code="noise-floor", arm=comparison.a,
                             message=f"{verdict.metric}: {name} against itself: {verdict.ratio:.4f}, half-width "
                                     f"{floor:.2%}: differences below this cannot be seen on this machine"))
    apart = [number for number, ratio in zip(ratios.blocks, ratios.ratios, strict=True) if ratio.disagrees(MARGIN)]
    if apart:
        found.append(Finding(severity="info", code="tails",
                             message=f"{verdict.metric}: typical and mean step differ by over {MARGIN:.0%} in block "
                                     f"{', '.join(map(str, apart))}: some steps took much longer than the rest",
                             advice="look at the distribution of step times"))
    return found


def _clarity(values: Sequence[float]) -> float:
    """How far the mean is from zero in standard errors; the larger, the smaller the p-value."""
    count = len(values)
    if count < 2:
        return 0.0
    mean = sum(values) / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return abs(mean) / max(spread / math.sqrt(count), 1e-12)
