"""What swapping one kind of operator of the slower arm closes of the gap, and where two methods disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING

from harness.blocks.windows import WINDOW_S
from harness.plan import Comparison, Plan
from harness.record.events import ArmSlot, Case, PartName, Share, Swapped
from harness.record.run import RecordedRun
from harness.stats.interval import MARGIN, Interval
from harness.stats.share import gap_of, midmean, share_of, word_of
from harness.suites.why.shares import ALIKE, ALL, NARROWER, SEE_FAILED, TWO_BLOCKS, crossing, whole_steps
from impls.registry import Arm, Device
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started

METHOD = "swapped"
# Steps before the first round: Jittor compiles some kernels at the third.
WARM, ROUNDS = 4, 3
# A second trainer in a warm process.
BUILD_S = 1.0
# Swaps alone and together may differ by so much of the gap, and two methods on one class, before it is told.
MOST_APART = 0.1
# An option's name -> the class of operators, as the other methods call it.
CLASSES = {"optimiser": "optimizer"}


def measure(block: Block) -> None:
    """Every swap of the slower arm of each pair, in that arm's process.

    What cannot be swapped here is skipped, and the page says why; only a process that ends by it has failed, and is not
    led there again: its later blocks have all that is measured behind the swaps.
    """
    plan = block.bench.plan
    slow = [slower(block, pair) for pair in plan.comparisons if not pair.selfcheck]
    for slot in dict.fromkeys(slot for slot in slow if slot is not None):
        for arm, cause in swaps(plan.arm(slot), plan.device).items():
            if (slot, arm.name) in block.bench.abandoned:
                continue
            block.bench.check_time(recorded("in block {block}", block=block.number))
            block.bench.progress.status(tell("{arm}: steps as {other}", arm=plan.arm(slot).name, other=arm.name))
            if not tried(block, slot, arm.name, partial(_swap, block, block.live[slot], arm, cause)):
                break


def slower(block: Block, pair: Comparison) -> ArmSlot | None:
    """The arm of a pair whose steps took longer in a block; None where neither did, or one of them is not there."""
    if not {pair.a, pair.b} <= block.live.keys() & block.spent.keys():
        return None
    times = {median(block.spent[slot].values()): slot for slot in (pair.a, pair.b)}
    return times[max(times)] if max(times) > (1 + MARGIN) * min(times) else None


def seconds(block: Block) -> float:
    """About how long `measure` takes in a block whose arms are warm."""
    plan = block.bench.plan
    return sum(len(swaps(plan.arm(slot), plan.device)) * trainer_s(block, slot)
               for slot in {slow for slow, _ in expected(block)})


def expected(block: Block) -> list[tuple[ArmSlot, ArmSlot]]:
    """The pairs of which one arm is slower as far as the warm-up tells, that one first."""
    typical = {slot: arm.typical_ns for slot, arm in block.live.items()}
    pairs = [sorted((pair.a, pair.b), key=typical.__getitem__) for pair in block.bench.plan.comparisons
             if not pair.selfcheck and {pair.a, pair.b} <= typical.keys()]
    return [(slow, fast) for fast, slow in pairs if typical[slow] > (1 + MARGIN) * typical[fast]]


def trainer_s(block: Block, slot: ArmSlot) -> float:
    """About how long a second trainer beside that of an arm takes, and the rounds of both."""
    arm = block.live[slot]
    return BUILD_S + (WARM + 2 * ROUNDS * arm.steps_for(WINDOW_S)) * arm.typical_ns / 1e9


def swaps(arm: Arm, device: Device) -> dict[Arm, str]:
    """What an arm can become -> the class of operators that this swaps; last, where there are several, all at once."""
    found: dict[Arm, str] = {}
    first: dict[str, str] = {}
    for other in arm.swaps(device):
        (option,) = set(other.options) - set(arm.options)
        name = option.partition("=")[0]
        found[other] = CLASSES.get(name, name)
        first.setdefault(name, option)
    return {**found, arm.with_options(*first.values()): ALL} if len(first) > 1 else found


def swapped(run: RecordedRun, plan: Plan, pair: Comparison, part: PartName, refused: str | None = None) -> list[Share]:
    """A share for every swap of the slower arm; one line with the reason where there is nothing to share.

    Args:
        run: what the part recorded.
        plan: of the part.
        pair: whose gap it is.
        part: the part's name.
        refused: why the two must not be compared; None where they may.
    """
    steps = whole_steps(run, pair)
    if refused is not None:
        return [_line(part, pair, ALL, "not-measured", refused, ALIKE)]
    if len(steps.blocks) < 2:
        return [_line(part, pair, ALL, "not-measured", recorded("fewer than two blocks of both arms"), TWO_BLOCKS)]
    gap = gap_of(steps.a_ns, steps.b_ns)
    if gap.fault is not None:
        return [_line(part, pair, ALL, gap.word, gap.fault, NARROWER)]
    slow, sign = (pair.a, 1) if sum(steps.gaps_ns) > 0 else (pair.b, -1)
    gaps = {block: sign * gap for block, gap in zip(steps.blocks, steps.gaps_ns, strict=True)}
    causes = swaps(plan.arm(slow), plan.device)
    if plan.schedule == "sequential":
        return [_line(part, pair, ALL, "not-measured",
                      recorded("which arm is slower is seen where both are in memory"),
                      recorded("leave --schedule resident"))]
    if not causes:
        return [_line(part, pair, ALL, "not-measured",
                      recorded("{arm} has no operators to swap", arm=plan.arm(slow).name),
                      recorded("choices that its backend declares for this device, and that the arm leaves, are "
                               "swapped"))]
    saved = {arm.name: _saved(run, slow, arm.name, steps.blocks) for arm in causes}
    found = [_share(part, pair, slow, arm.name, cause, saved[arm.name], gaps, skipped(run, slow, arm.name))
             for arm, cause in causes.items() if cause != ALL]
    for together in (arm for arm, cause in causes.items() if cause == ALL):
        alone = [saved[arm.name] for arm in causes if arm != together and {*arm.options} <= {*together.options}]
        found.append(_together(part, pair, slow, together.name, saved[together.name], alone, gaps))
    return found


def contested(shares: Sequence[Share]) -> list[Share]:
    """The same lines; those of one class that two methods differ on by more than 10 points say so."""
    decided = [share for share in strongest(shares) if _decided(share)]

    def rivals(share: Share) -> list[Share]:
        return [other for other in decided if share in decided and other.method != share.method
                and (other.cause, other.of) == (share.cause, share.of)
                and abs((other.share or 0.0) - (share.share or 0.0)) > MOST_APART]

    def told(share: Share) -> Share:
        others = ", ".join(f"{other.share:.0%} ({other.swap or other.method})" for other in rivals(share))
        return share if not others else share.model_copy(update={
            "word": "contested", "own_word": share.word,
            "reason": recorded("other methods find {shares}", shares=others),
            "next_action": recorded("read each for what it measures: time in a phase, an operator alone, or what a "
                                    "swap saves")})

    return [told(share) for share in shares]


def strongest(shares: Sequence[Share]) -> list[Share]:
    """Without swaps of a class of which another closes more: a poor replacement says nothing of what it replaces."""
    most: dict[str, float] = {}
    for share in shares:
        if share.method == METHOD and share.share is not None:
            most[share.cause] = max(share.share, most.get(share.cause, share.share))
    return [share for share in shares
            if share.method != METHOD or share.share is None or share.share == most[share.cause]]


def tried(block: Block, slot: ArmSlot, name: str, work: Callable[[], None], kind: str = "swap") -> bool:
    """Measure something behind the windows; False where the arm's process did not outlive it."""
    from harness.processes.session import WorkerFailedError

    ledger, case_id = block.bench.ledger, f"{block.bench.plan.case_prefix}{kind}-{block.number}-{slot}-{name}"
    try:
        work()
        ledger.recovered(case_id, slot, block.log(slot))
    except WorkerFailedError as error:
        if error.cause in ("crash", "hang"):
            block.live.pop(slot).session.kill()
            block.bench.abandoned.add((slot, name))
            ledger.fail(case_id, slot, None, error, block.log(slot))
            return False
        ledger.case(Case(case_id=case_id, arm=slot, block=None, status="skipped", reason=error.message))
    return True


def _decided(share: Share) -> bool:
    return share.share is not None and share.cause != ALL and share.word != "inconclusive"


def _swap(block: Block, arm: Started, other: Arm, cause: str) -> None:
    from harness.bench import SLOW_LIMIT_S
    from harness.protocol.training import Swap

    bench, steps = block.bench, arm.steps_for(WINDOW_S)
    times = arm.session.ask(
        Swap(arm=other.name, device=bench.plan.device, threads=bench.threads, data_path=str(bench.data_path), warm=WARM,
             rounds=ROUNDS, steps=steps), SLOW_LIMIT_S + arm.limit_s(WARM + 2 * ROUNDS * steps))
    block.append(Swapped(part=block.part.name, arm=arm.session.slot, block=block.number, swap=other.name, cause=cause,
                         **times.model_dump(exclude={"kind"})))


def _saved(run: RecordedRun, slot: ArmSlot, swap: str, blocks: Sequence[int]) -> dict[int, float]:
    """Nanoseconds of a step that a swap saves, by block."""
    return {line.block: midmean(line.plain_ns) - midmean(line.swapped_ns) for line in run.of(Swapped)
            if line.arm == slot and line.swap == swap and line.block in blocks}


def skipped(run: RecordedRun, slot: ArmSlot, swap: str) -> str | None:
    """Why an arm could not become another; None where it could."""
    return next((case.reason for case in run.of(Case) if case.arm == slot and case.status != "measured"
                 and case.case_id.endswith(f"-{slot}-{swap}")), None)


def _share(part: PartName, pair: Comparison, slow: ArmSlot, swap: str, cause: str, saved: Mapping[int, float],
           gaps: Mapping[int, float], skipped: str | None) -> Share:
    if len(saved) < 2:
        return _line(part, pair, cause, "not-measured", skipped or recorded(
            "fewer than two blocks in which it was swapped"),
            recorded("run the suite with that arm alone to see what it lacks here"), swap=swap)
    found = _of_gap(saved, gaps)
    word = word_of(found)
    why, action = (crossing(), NARROWER) if word == "inconclusive" else (None, None)
    return _line(part, pair, cause, word, why, action, swap, slow, saved, found)


def _together(part: PartName, pair: Comparison, slow: ArmSlot, swap: str, saved: Mapping[int, float],
              alone: Sequence[Mapping[int, float]], gaps: Mapping[int, float]) -> Share:
    """All swaps at once: as much as the sum of each alone, unless they get in each other's way."""
    blocks = [block for block in saved if all(block in one for one in alone)]
    if len(blocks) < 2 or not alone:
        return _line(part, pair, ALL, "not-measured",
                     recorded("fewer than two blocks in which all were swapped, alone and together"), SEE_FAILED,
                     swap=swap)
    found = _of_gap(saved, gaps)
    sums = {block: sum(one[block] for one in alone) for block in blocks}
    apart = _of_gap({block: saved[block] - sums[block] for block in blocks}, gaps)
    share = recorded("each alone, they add up to {share} of the gap", share=f"{_of_gap(sums, gaps).mean:.0%}")
    if max(abs(apart.low), abs(apart.high)) <= MOST_APART:
        return _line(part, pair, ALL, "adds-up", share, None, swap, slow, saved, found)
    outside = apart.low > MOST_APART or apart.high < -MOST_APART
    return _line(part, pair, ALL, "does-not-add-up" if outside else "inconclusive", share,
                 recorded("read each swap by itself") if outside else NARROWER, swap, slow, saved, found)


def _of_gap(saved: Mapping[int, float], gaps: Mapping[int, float]) -> Interval:
    return share_of(list(saved.values()), [gaps[block] for block in saved])


def _line(part: PartName, pair: Comparison, cause: str, word: str, reason: str | None, next_action: str | None,
          swap: str | None = None, slow: ArmSlot | None = None, saved: Mapping[int, float] | None = None,
          found: Interval | None = None) -> Share:
    spent = mean(saved.values()) if saved else None
    return Share.model_validate({
        "part": part, "arm_a": pair.a, "arm_b": pair.b, "method": METHOD, "cause": cause, "swap": swap,
        "a_ns": spent if slow == pair.a else None, "b_ns": spent if slow == pair.b else None,
        "share": found and found.mean, "ci_low": found and found.low, "ci_high": found and found.high,
        "blocks": len(saved or ()), "word": word, "reason": reason, "next_action": next_action})
