"""From windows of groups to what more ranks bring: speed-up, what it is made of, arms at every size, the prediction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.judge.fairness import unfair
from harness.judge.verdicts import Question, Ratios, holm, judged_at
from harness.machine.disturbance import disturbed_blocks
from harness.plan import Comparison, Plan
from harness.record.events import (
    ArmSlot,
    BlockState,
    Estimate,
    Event,
    GroupStarted,
    Mode,
    Point,
    Predicted,
    RanksSummed,
    Scaled,
    ScaledWindow,
    ScalingGate,
    Verdict,
    Word,
)
from harness.record.run import RecordedRun, machines
from harness.stats.amdahl import Work, split
from harness.stats.collective import bus_bytes_per_ns, fitted
from harness.stats.compare import BlockRatio, block_ratio
from harness.stats.interval import t_interval
from harness.suites.parity.part import fair
from harness.suites.scaling.cells import MODES, Cell, cells, sizes
from impls.backend import BackendInfo
from messages import marked, recorded

if TYPE_CHECKING:
    from harness.suites.scaling.part import Scaling

MOST_PREDICTED = 8192
FLOAT_BYTES = 4


class Measured:
    """The windows of a run, sorted.

    Args:
        run: of this part.
    """

    def __init__(self, run: RecordedRun) -> None:
        self.run = run
        self.states = {state.block: state for state in run.of(BlockState)}
        self._machine = {block: number for number, one in enumerate(machines(run.events)) for block in one.blocks}
        self._step_ns: dict[tuple[ArmSlot, Mode, int, bool], dict[int, dict[int, float]]] = {}
        for window in run.of(ScaledWindow):
            if window.block in self.states:
                key = window.arm, window.mode, window.size, window.averaged
                by_pair = self._step_ns.setdefault(key, {}).setdefault(window.block, {})
                by_pair[window.pair] = window.time_ns / window.steps

    def step_ns(self, arm: ArmSlot, cell: Cell, averaged: bool = True) -> dict[int, dict[int, float]]:
        """Block -> pair -> nanoseconds of a step; of one rank nothing is averaged."""
        return self._step_ns.get((arm, cell.mode, cell.size, averaged or cell.size == 1), {})

    def ratios(self, over: tuple[ArmSlot, Cell, bool], under: tuple[ArmSlot, Cell, bool]) -> Ratios:
        """Times of one over those of another, block by block, from the pairs that both have."""
        above, below = self.step_ns(*over), self.step_ns(*under)
        found: dict[int, BlockRatio] = {}
        for block in sorted(above.keys() & below.keys()):
            pairs = sorted(above[block].keys() & below[block].keys())
            if pairs:
                found[block] = block_ratio(*([times[block][pair] for pair in pairs] for times in (above, below)))
        return Ratios(tuple(found), tuple(found.values()), tuple(self.states[block].dirty for block in found),
                      tuple(self._machine.get(block, 0) for block in found))

    def typical_ns(self, arm: ArmSlot, cell: Cell) -> float | None:
        """The median over blocks of a step's median."""
        blocks = self.step_ns(arm, cell).values()
        return statistics.median(statistics.median(pairs.values()) for pairs in blocks) if blocks else None

    def sum_ns(self, arm: ArmSlot, size: int) -> dict[int, float]:
        """Bytes of a message -> nanoseconds of its sum, the median of all rounds."""
        rounds: dict[int, list[int]] = {}
        for line in self.run.of(RanksSummed):
            if (line.arm, line.size) == (arm, size):
                rounds.setdefault(line.floats * FLOAT_BYTES, []).extend(line.round_ns)
        return {message: statistics.median(times) for message, times in sorted(rounds.items())}

    def group(self, arm: ArmSlot, size: int) -> GroupStarted | None:
        """The newest group of an arm at a size."""
        found = [line for line in self.run.of(GroupStarted) if (line.arm, line.size) == (arm, size)]
        return found[-1] if found else None


def judged(run: RecordedRun, plan: Plan, part: Scaling) -> list[Event]:
    """Everything that the windows amount to."""
    seen = Measured(run)
    found: list[Event] = [*disturbed_blocks(run.of(BlockState)), *_verdicts(seen, plan, part)]
    for slot, _ in plan.arms:
        found += [_scaled(seen, part, slot, cell, batch_of(seen, slot)) for cell in cells(part.most)]
        prediction = predicted(seen, part, slot)
        found += [prediction] if prediction is not None else []
    return found


def batch_of(seen: Measured, arm: ArmSlot) -> int:
    """Images of a step of one rank."""
    return next((window.images for window in seen.run.of(ScaledWindow) if window.arm == arm and window.size == 1), 0)


def refusal(run: RecordedRun, arm: ArmSlot, size: int) -> str | None:
    """Why the times of an arm at a size tell nothing; None where its gate was passed."""
    gates = [gate for gate in run.of(ScalingGate) if (gate.arm, gate.size) == (arm, size)]
    if not gates:
        return recorded("{size} ranks were not compared with one process", size=size)
    if gates[-1].passed:
        return None
    return recorded("{size} ranks do not train as one process: {why}", size=size, why=gates[-1].reason)


def _scaled(seen: Measured, part: Scaling, arm: ArmSlot, cell: Cell, batch: int) -> Scaled:
    common = {"part": part.name, "arm": arm, "mode": cell.mode, "size": cell.size, "images": cell.images(batch)}
    one = Cell(cell.mode, 1)
    why, times = refusal(seen.run, arm, cell.size), seen.ratios((arm, one, True), (arm, cell, True))
    if why is not None or not times.blocks:
        return Scaled.model_validate({**common, "blocks": 0, "reason": why or recorded(
            "no block measured it and one process")})
    gain = cell.size if cell.mode == "weak" else 1
    logs = [value + math.log(gain) for value in times.medians]
    off = seen.ratios((arm, cell, False), (arm, cell, True))
    message = max(sums := seen.sum_ns(arm, cell.size), default=0)
    rank, straggler = stragglers(seen.run, arm, cell)
    group = seen.group(arm, cell.size)
    speedup = of_logs(logs)
    return Scaled.model_validate({
        **common, "blocks": len(times.blocks), "step_ns": seen.typical_ns(arm, cell), "speedup": speedup,
        "efficiency": of_logs([value - math.log(cell.size) for value in logs]),
        "exposed": estimate([1 - math.exp(value) for value in off.medians]) if off.blocks else None,
        "bus_bytes_per_s": 1e9 * bus_bytes_per_ns(cell.size, message, sums[message]) if message else None,
        "straggler": straggler, "slowest_rank": rank,
        "slowest_host": group.hosts[rank] if group is not None and rank is not None else None})


def stragglers(run: RecordedRun, arm: ArmSlot, cell: Cell) -> tuple[int | None, float | None]:
    """The slowest rank and its step over the median rank's, from windows in which none waits for another."""
    windows = [window for window in run.of(ScaledWindow) if not window.averaged
               and (window.arm, window.mode, window.size) == (arm, cell.mode, cell.size)]
    if not windows:
        return None, None
    typical = [statistics.median(times) for times in zip(*(
        [time / window.steps for time in window.rank_ns] for window in windows), strict=True)]
    slowest = max(range(len(typical)), key=typical.__getitem__)
    return slowest, typical[slowest] / statistics.median(typical)


def _verdicts(seen: Measured, plan: Plan, part: Scaling) -> Iterator[Verdict]:
    """The arms against each other, one verdict a size and kind, under Holm's step-down."""
    time = marked("step time")
    asked = {Question(pair, time, "scaled", cell.name): seen.ratios((pair.a, cell, True), (pair.b, cell, True))
             for pair in plan.comparisons
             for cell in [Cell("strong", 1), *cells(part.most)]}
    alphas = holm(list(asked), asked) if asked else {}
    for question, ratios in asked.items():
        pair, size = question.comparison, int((question.cell or "").rpartition("-")[2])
        judgement = judged_at(ratios, alphas[question])
        word: Word = judgement.word
        reason: str | None = judgement.reason
        action, means = judgement.next_action, [one.mean_log_ratio for one in ratios.ratios]
        if (why := _unlike(seen, pair, size)) is not None:
            word, reason, action = "not-comparable", why, recorded("make both arms alike in this")
        elif not means:
            reason = recorded("no block measured both arms")
            action = recorded("see the failed cases and their logs")
        yield Verdict(
            metric=question.metric, arm_a=pair.a, arm_b=pair.b, ratio=judgement.ratio, ci_low=judgement.ci_low,
            ci_high=judgement.ci_high, blocks=judgement.blocks, word=word, reason=reason, next_action=action,
            block_log_ratios=ratios.medians, further_blocks=judgement.further_blocks, alpha=alphas[question],
            cell=question.cell, part=part.name, kind=question.kind,
            mean_ratio=math.exp(statistics.fmean(means)) if means else None)


def _unlike(seen: Measured, pair: Comparison, size: int) -> str | None:
    groups = [seen.group(slot, size) for slot in (pair.a, pair.b)]
    a, b = groups
    if a is not None and b is not None and (fault := unfair(
            BackendInfo(**a.info), BackendInfo(**b.info), a.parameter_count, b.parameter_count)):
        return fault
    if size > 1:
        for slot in (pair.a, pair.b):
            if (why := refusal(seen.run, slot, size)) is not None:
                return f"{seen.run.arms.get(slot, slot)}: {why}"
    return fair(seen.run, pair)


def predicted(seen: Measured, part: Scaling, arm: ArmSlot) -> Predicted | None:
    """Steps of more ranks: one rank's work on its share, and behind it a sum of which nothing is hidden.

    All constants are of the largest size that has them and passed its gate: those of the work from steps without
    averaging, those of the network from sums of a short and of a long message.
    """
    for size in reversed(sizes(part.most)[1:]):
        sums, work = seen.sum_ns(arm, size), work_of(seen, arm, size)
        if len(sums) > 1 and work is not None and refusal(seen.run, arm, size) is None:
            break
    else:
        return None
    (short, short_ns), (long, long_ns) = min(sums.items()), max(sums.items())
    network, one_ns = fitted(size, (short, short_ns), (long, long_ns)), seen.typical_ns(arm, Cell("strong", 1))
    if network is None or one_ns is None:
        return None
    batch = batch_of(seen, arm)
    # One rank has no others beside it, and is measured.
    points = [Point(mode=mode, size=1, step_ns=one_ns, speedup=1.0) for mode in MODES]
    for count in (2**power for power in range(1, MOST_PREDICTED.bit_length())):
        exposed = network.sum_ns(count, long)
        if count <= batch:
            step_ns = work.step_ns(count) + exposed
            points.append(Point(mode="strong", size=count, step_ns=step_ns, speedup=one_ns / step_ns))
        step_ns = work.step_ns() + exposed
        points.append(Point(mode="weak", size=count, step_ns=step_ns, speedup=count * one_ns / step_ns))
    return Predicted(
        part=part.name, arm=arm, fitted_at=size, latency_ns=network.latency_ns,
        bandwidth_bytes_per_s=1e9 * network.bytes_per_ns, gradient_bytes=long, fixed_ns=work.fixed_ns,
        divided_ns=work.divided_ns, points=points,
        stops_paying=stops([point for point in points if point.mode == "strong"]))


def work_of(seen: Measured, arm: ArmSlot, size: int) -> Work | None:
    """What a step takes of a rank that averages nothing, beside as many others as that size has; None where not known.

    From the whole batch on each rank and from its share: what the ranks take from one another is in both.
    """
    one_ns = seen.typical_ns(arm, Cell("strong", 1))
    times = {mode: seen.ratios((arm, Cell(mode, size), False), (arm, Cell(mode, 1), True)).medians for mode in MODES}
    if one_ns is None or not all(times.values()):
        return None
    # Of ratios, in which the machine's drift cancels.
    whole_ns, share_ns = (one_ns * of_logs(times[mode]).value for mode in ("weak", "strong"))
    return split(whole_ns, share_ns, size)


def stops(points: Sequence[Point]) -> int | None:
    """The first size from which the next one takes no less time; None where every one does."""
    for point, following in zip(points, points[1:], strict=False):
        if following.step_ns >= point.step_ns:
            return point.size
    return None


def of_logs(values: Sequence[float]) -> Estimate:
    """The geometric mean over blocks."""
    found = estimate(values)
    return Estimate(value=math.exp(found.value), ci_low=None if found.ci_low is None else math.exp(found.ci_low),
                    ci_high=None if found.ci_high is None else math.exp(found.ci_high))


def estimate(values: Sequence[float]) -> Estimate:
    """The mean over blocks with its interval."""
    if len(values) < 2:
        return Estimate(value=values[0], ci_low=None, ci_high=None)
    mean, low, high = t_interval(values)
    return Estimate(value=mean, ci_low=low, ci_high=high)
