"""From a recorded run to its verdicts: pure, so that a resumed run judges all blocks, whoever measured them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.bench import MAX_FAILURES
from harness.judge.fairness import common_precision, refusal
from harness.part import Timed
from harness.plan import Comparison
from harness.record.events import ArmSlot, BlockState, Case, Finding, Verdict, Window, Word
from harness.record.findings import NOISE_FLOOR, TAILS
from harness.record.run import RecordedRun, machines
from harness.stats.compare import BlockRatio, Judgement, block_ratio, judge, judge_clean_and_dirty
from harness.stats.interval import ALPHA, MARGIN
from harness.stats.looks import Looks
from messages import recorded


@dataclass(frozen=True)
class Question:
    """One comparison in one metric.

    Attributes:
        comparison: whose times.
        metric: its name in the verdict.
        kind: the windows that it rests on.
        cell: the cell of these windows; None where there are none.
    """

    comparison: Comparison
    metric: str
    kind: str
    cell: str | None = None


@dataclass(frozen=True)
class Ratios:
    """The blocks in which both arms of a comparison were measured; `machine` numbers the environment of each."""

    blocks: tuple[int, ...]
    ratios: tuple[BlockRatio, ...]
    dirty: tuple[bool, ...]
    machine: tuple[int, ...]

    @property
    def medians(self) -> list[float]:
        """One log-ratio per block: what the verdict rests on."""
        return [ratio.median_log_ratio for ratio in self.ratios]

    @property
    def by_machine(self) -> list[list[float]]:
        """The same, a list for each environment."""
        return [[value for value, of in zip(self.medians, self.machine, strict=True) if of == one]
                for one in sorted(set(self.machine))]


def judge_run(run: RecordedRun, comparisons: Sequence[Comparison], part: Timed) -> list[Verdict | Finding]:
    """All verdicts, the main metric's comparisons under Holm's step-down, with the findings they need.

    The further metrics were declared as such: their intervals describe, each at the look's whole alpha.

    Args:
        run: blocks of one kind.
        comparisons: whose times.
        part: what was measured in them.
    """
    events: list[Verdict | Finding] = []
    asked = part.asked(run, comparisons)
    looks, blocks = declared_looks(run, part), _first_measured(run)
    early = looks.early(blocks)
    shared = early if early is not None and settled(run, asked, part, early) else looks.left(blocks)
    alphas = {**dict.fromkeys(asked, shared), **holm(_family(asked, part), asked, shared)}
    for question, ratios in asked.items():
        verdict = _verdict(run, question, ratios, alphas[question], part)
        if looks.blocks:
            verdict = verdict.model_copy(update={
                "look": looks.number(blocks), "looks": len(looks.blocks), "look_alpha": shared,
                "look_reached": looks.reached(blocks)})
        events.append(verdict)
        events += _findings(run, question, verdict, ratios)
    return events


def sure(run: RecordedRun, comparisons: Sequence[Comparison], part: Timed, looks: Looks) -> bool:
    """Whether a look is planned at the blocks that a run has, and decides every comparison.

    Args:
        run: blocks of one kind.
        comparisons: whose times.
        part: what is measured in them.
        looks: that are planned.
    """
    early = looks.early(_first_measured(run))
    return early is not None and settled(run, part.asked(run, comparisons), part, early)


def settled(run: RecordedRun, asked: Mapping[Question, Ratios], part: Timed, alpha: float) -> bool:
    """Whether every comparison of the main metric is decided at a look that may spend `alpha`.

    One of arms that must not be compared is waited for all the same: its ratio describes. One of an arm that is given
    up is not, but keeps its share of alpha; where there is no other, nothing is decided.
    """
    newest = {state.block for state in run.of(BlockState)[-MAX_FAILURES:]}
    going = {case.arm for case in run.of(Case) if case.status == "measured" and case.block in newest}
    alphas = holm(_family(asked, part), asked, alpha)
    waited = [question for question in alphas if {question.comparison.a, question.comparison.b} <= going]
    return bool(waited) and all(judged_at(asked[one], alphas[one]).word != "inconclusive" for one in waited)


def declared_looks(run: RecordedRun, part: Timed) -> Looks:
    """The looks that a run declared for a part; one at its end in a run that tells of none."""
    declared = run.started.declared if run.started else {}
    of_part = declared.get("by_part")
    own = of_part.get(part.name) if isinstance(of_part, dict) else declared
    return Looks.read(own.get("looks") if isinstance(own, dict) else None)


def _first_measured(run: RecordedRun) -> int:
    """Finished blocks that repeat none."""
    return len({state.block for state in run.of(BlockState) if state.repeats is None})


def _family(asked: Mapping[Question, Ratios], part: Timed) -> list[Question]:
    """What shares Holm's step-down."""
    return [question for question in asked
            if question.metric == part.metrics.main.name and not question.comparison.selfcheck]


def block_ratios(run: RecordedRun, question: Question) -> Ratios:
    """The ratio of every finished block, from the pairs in which both arms have a window."""
    comparison = question.comparison
    measured = {(case.arm, case.block) for case in run.of(Case) if case.status == "measured"}
    windows: dict[tuple[int, ArmSlot], dict[int, float]] = {}
    for window in run.of(Window):
        if window.kind == question.kind and window.cell == question.cell:
            spent = sum(window.step_ns) if window.step_ns else window.end_ns - window.start_ns
            windows.setdefault((window.block, window.arm), {})[window.pair] = spent / window.steps
    machine = {block: number for number, one in enumerate(machines(run.events)) for block in one.blocks}
    blocks, ratios, dirty = [], [], []
    # By number: of a run that was measured in parts, one part's lines stand behind another's.
    for state in sorted(run.of(BlockState), key=lambda state: state.block):
        number = state.block
        if (comparison.a, number) not in measured or (comparison.b, number) not in measured:
            continue
        a, b = windows.get((number, comparison.a), {}), windows.get((number, comparison.b), {})
        pairs = sorted(a.keys() & b.keys())
        if pairs:
            blocks.append(number)
            ratios.append(block_ratio([a[pair] for pair in pairs], [b[pair] for pair in pairs]))
            dirty.append(state.dirty)
    return Ratios(tuple(blocks), tuple(ratios), tuple(dirty), tuple(machine.get(block, 0) for block in blocks))


def judged_at(ratios: Ratios, alpha: float) -> Judgement:
    """The verdict of one comparison at one significance, withdrawn where two environments contradict each other.

    They do where the blocks of one and of another, or of all, decide differently; an environment with too few blocks
    to decide contradicts nothing.
    """
    judgement = judge_clean_and_dirty(ratios.medians, ratios.dirty, MARGIN, alpha, ratios.machine)
    groups = ratios.by_machine
    words = [judge(values, MARGIN, alpha).word for values in groups] if len(groups) > 1 else []
    decided = {word for word in (judgement.word, *words) if word != "inconclusive"}
    if len(words) < 2 or len(decided) < 2:
        return judgement
    return replace(judgement, word="inconclusive", reason="environment", further_blocks=None,
                   next_action=recorded("the environments decide differently: {words}: start a new run on one of them",
                                        words=", ".join(words)))


def holm(family: Sequence[Question], ratios: Mapping[Question, Ratios], alpha: float = ALPHA) -> dict[Question, float]:
    """Holm's step-down: the clearest of m questions at alpha / m, the next at alpha / (m - 1), until one fails."""
    left = len(family)
    alphas: dict[Question, float] = {}
    for question in sorted(family, key=lambda q: -_clarity(ratios[q].medians)):
        alphas[question] = alpha / left
        if judged_at(ratios[question], alphas[question]).word in ("A-faster", "B-faster"):
            left -= 1
    return alphas


def _verdict(run: RecordedRun, question: Question, ratios: Ratios, alpha: float, part: Timed) -> Verdict:
    comparison = question.comparison
    why, judgement = refusal(run, comparison, part), judged_at(ratios, alpha)
    word: Word = judgement.word
    reason: str | None = judgement.reason
    action = judgement.next_action
    if why is not None:
        word, reason = "not-comparable", why
        action = recorded("make both arms alike in this, or read the ratio as a description only")
    elif not ratios.ratios:
        word, reason = "inconclusive", recorded("no block measured both arms")
        action = recorded("see the failed cases and their logs")
    counts = [len(values) for values in ratios.by_machine]
    if len(counts) > 1:
        mixed = recorded("blocks of different environments: {counts}", counts=" and ".join(map(str, counts)))
        reason = f"{reason}; {mixed}" if reason else mixed
    mean = math.exp(sum(r.mean_log_ratio for r in ratios.ratios) / len(ratios.ratios)) if ratios.ratios else None
    return Verdict(
        metric=recorded("{metric} (self-check)", metric=question.metric) if comparison.selfcheck else question.metric,
        cell=question.cell,
        arm_a=comparison.a, arm_b=comparison.b,
        ratio=judgement.ratio, ci_low=judgement.ci_low, ci_high=judgement.ci_high, blocks=judgement.blocks,
        word=word, reason=reason, next_action=action, mean_ratio=mean, sign_flip_p=judgement.sign_flip_p,
        block_log_ratios=ratios.medians, further_blocks=judgement.further_blocks, alpha=alpha,
        part=part.name, kind=question.kind, precision=common_precision(run, comparison))


def _findings(run: RecordedRun, question: Question, verdict: Verdict, ratios: Ratios) -> list[Finding]:
    found, comparison = [], question.comparison
    metric = f"{verdict.metric}, {verdict.cell}" if verdict.cell else verdict.metric
    name = run.arms.get(comparison.a, comparison.a)
    if comparison.selfcheck and verdict.ci_low is not None and verdict.ci_high is not None:
        floor = (math.log(verdict.ci_high) - math.log(verdict.ci_low)) / 2
        found.append(NOISE_FLOOR.found(
            recorded("{metric}: {name} against itself: {ratio}, half-width {floor}: differences below this cannot be "
                     "seen on this machine", metric=metric, name=name, ratio=f"{verdict.ratio:.4f}",
                     floor=f"{floor:.2%}"), arm=comparison.a))
    apart = [number for number, ratio in zip(ratios.blocks, ratios.ratios, strict=True) if ratio.disagrees(MARGIN)]
    if apart:
        found.append(TAILS.found(recorded(
            "{metric}: typical and mean step differ by over {margin} in block {blocks}: some steps took much longer "
            "than the rest", metric=metric, margin=f"{MARGIN:.0%}", blocks=", ".join(map(str, apart)))))
    return found


def _clarity(values: Sequence[float]) -> float:
    """How far the mean is from zero in standard errors; the larger, the smaller the p-value."""
    count = len(values)
    if count < 2:
        return 0.0
    return abs(statistics.fmean(values)) / max(statistics.stdev(values) / math.sqrt(count), 1e-12)
