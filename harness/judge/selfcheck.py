"""`--selfcheck`: what every arm measured against itself says about the machine and about this program."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.judge.synchronisation import fault_of, figures
from harness.options import MIN_BLOCKS
from harness.part import Timed
from harness.record import findings
from harness.record.events import SELF_CHECK, ArmSlot, BlockState, Event, Finding, Overhead, SyncProof, Verdict
from harness.record.run import RecordedRun
from harness.stats.interval import ALPHA, MARGIN, MOST_FURTHER_BLOCKS, blocks_for, median_interval
from messages import recorded


@dataclass(frozen=True)
class Cost:
    """How much longer steps take in harness windows than in a bare loop, as ratios.

    Attributes:
        median: of the paired ratios.
        low: lower end of the interval for the median, or the smallest ratio.
        high: upper end, or the largest ratio.
        pairs: how many.
        exact: whether the ends are a confidence interval; with few pairs they are the range.
    """

    median: float
    low: float
    high: float
    pairs: int
    exact: bool


def selfcheck(run: RecordedRun, verdicts: Iterable[Event], part: Timed) -> list[Finding]:
    """The findings of every arm that was measured against itself; none in a run without a self-check.

    Args:
        run: one part of a run.
        verdicts: on it, among other lines.
        part: what was measured.
    """
    found: list[Finding] = []
    metric = (part.metrics.whole or part.metrics.main.name) + SELF_CHECK
    for verdict in verdicts:
        if isinstance(verdict, Verdict) and verdict.metric == metric:
            name = recorded(part.metrics.when, arm=run.arms.get(verdict.arm_a, verdict.arm_a))
            slots = (verdict.arm_a, verdict.arm_b)
            dirty = sum(state.dirty for state in run.of(BlockState))
            found += [*_resolution(name, verdict, dirty), *_overhead(run, name, slots),
                      *_synchronised(run, name, slots, part)]
    return found


def blocks_needed(block_log_ratios: Sequence[float]) -> int | None:
    """The least n of at least two with t(n-1) s / sqrt(n) <= log(1 + MARGIN), s being the spread of these blocks.

    Returns:
        None when it is above 1000.

    Raises:
        ValueError: fewer than two blocks have no spread.
    """
    if len(block_log_ratios) < 2:
        raise ValueError(f"a spread needs at least two blocks, got {len(block_log_ratios)}")
    spread = float(np.std(np.asarray(block_log_ratios), ddof=1))
    return blocks_for(spread, math.log1p(MARGIN), range(2, MOST_FURTHER_BLOCKS + 1), ALPHA)


def cost(overheads: Sequence[Overhead]) -> Cost | None:
    """The paired ratios of harness windows to a bare loop; None where none were measured."""
    ratios = [harness / bare for one in overheads if one.what == "harness"
              for harness, bare in zip(one.harness_ns, one.bare_ns, strict=False) if bare > 0]
    if not ratios:
        return None
    ends = median_interval(ratios, ALPHA)
    low, high = ends or (min(ratios), max(ratios))
    return Cost(float(np.median(ratios)), low, high, len(ratios), ends is not None)


def _resolution(name: str, verdict: Verdict, dirty: int) -> list[Finding]:
    """Whether a difference of the margin can be seen, and in how many blocks."""
    values, found = verdict.block_log_ratios, []
    if verdict.word == "not-comparable":
        return [_incomplete(name, verdict.arm_a, recorded("its times cannot be compared: {why}",
                                                              why=verdict.reason))]
    if len(values) < 2:
        return [_incomplete(name, verdict.arm_a, recorded(
            "fewer than two blocks measured it, so that its spread is not known"))]
    needed, spread = blocks_needed(values), float(np.std(np.asarray(values), ddof=1))
    if needed is not None and needed <= len(values):
        answer, advice = recorded("yes, with {blocks} blocks", blocks=max(needed, MIN_BLOCKS)), None
    elif needed is None:
        answer = recorded("no: more than {most} blocks needed, this run had {had}", most=MOST_FURTHER_BLOCKS,
                          had=len(values))
        advice = recorded("quieten the machine (see the other findings)")
    else:
        answer = recorded("no: about {needed} blocks needed, this run had {had}", needed=needed, had=len(values))
        advice = recorded("give --blocks {blocks}", blocks=needed)
    places = {"margin": f"{MARGIN:.0%}", "name": name, "answer": answer, "blocks": len(values),
              "spread": f"{spread:.2%}"}
    message = (
        recorded("can this machine resolve a difference of {margin} for {name}? {answer} (the ratios of {blocks} "
                 "blocks, {dirty} of them disturbed, spread by {spread})", dirty=dirty, **places) if dirty else
        recorded("can this machine resolve a difference of {margin} for {name}? {answer} (the ratios of {blocks} "
                 "blocks spread by {spread})", **places))
    found.append(findings.RESOLUTION.found(message, arm=verdict.arm_a, advice=advice))
    if verdict.word in ("A-faster", "B-faster"):
        found.append(findings.SELFCHECK_DIFFERENCE.found(
            recorded("{name} against itself came out as a difference: {ratio}", name=name,
                     ratio=f"{verdict.ratio:.4f}"), arm=verdict.arm_a))
    return found


def _overhead(run: RecordedRun, name: str, slots: tuple[ArmSlot, ArmSlot]) -> list[Finding]:
    found = cost([one for one in run.of(Overhead) if one.arm in slots])
    if found is None:
        return [_incomplete(name, slots[0], recorded("the cost of the harness was not measured"))]
    places = {"name": name, "ratio": f"{found.median:.4f}", "low": f"{found.low:.4f}", "high": f"{found.high:.4f}",
              "pairs": found.pairs}
    message = (
        recorded("harness windows of {name} take {ratio} times as long as a bare loop ({level} interval {low} to "
                 "{high}, {pairs} pairs)", level=f"{1 - ALPHA:.0%}", **places) if found.exact else
        recorded("harness windows of {name} take {ratio} times as long as a bare loop (range {low} to {high}, {pairs} "
                 "pairs)", **places))
    if found.low > 1 + MARGIN:
        return [findings.HARNESS_OVERHEAD_HIGH.found(message, arm=slots[0])]
    return [findings.HARNESS_OVERHEAD.found(message, arm=slots[0])]


def _synchronised(run: RecordedRun, name: str, slots: tuple[ArmSlot, ArmSlot], part: Timed) -> list[Finding]:
    """That the clock stops after the work; an arm that fails was reported when it was measured."""
    proofs = {slot: [proof for proof in run.of(SyncProof) if proof.arm == slot] for slot in slots}
    if not any(proofs.values()):
        return [_incomplete(name, slots[0], recorded("its synchronisation was not checked"))]
    if any(fault_of(run, slot, part) for slot in slots):
        return []
    last = next(of[-1] for of in proofs.values() if of)
    return [findings.SYNCHRONISED.found(
        recorded("{name} is synchronised when its clock stops: {figures}", name=name, figures=figures(last)),
        arm=slots[0])]


def _incomplete(name: str, slot: ArmSlot, why: str) -> Finding:
    return findings.SELFCHECK_INCOMPLETE.found(
        recorded("the self-check of {name} lacks a part: {why}", name=name, why=why), arm=slot)
