"""What is measured once in a run, after an arm's first measured block: sync proof, overhead, peak."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.bench import SLOW_LIMIT_S
from harness.judge.synchronisation import accusation, fault
from harness.protocol import timing
from harness.record.events import ArmSlot, Case, Overhead, Peak, SyncProof
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from harness.part import Timed
    from harness.plan import Plan
    from harness.record.run import RecordedRun

OVERHEAD_S = 3.0
OVERHEAD_PAIRS = (4, 40)
MONITOR_PAIRS = 2
MONITOR_WINDOW_S = 0.6
PROOF_STEPS = (1, 4)
PROOF_S = 0.5
# Single steps on a busy machine differ several times over, so that one proof in ten may look bad by chance.
PROOF_TRIES = 5
PEAK_N = {"cpu": 1024, "cuda": 8192}
PEAK_REPEATS = 8
EXTRAS = "extras"


def measure_once(block: Block) -> None:
    """Measure it of every fresh arm; a failure is a case of its own and leaves the block's times alone."""
    for slot, arm in block.fresh.items():
        block.bench.check_time(recorded("beside the blocks"))
        block.bench.progress.status(tell("{arm}: overhead, peak", arm=arm.session.arm.name))
        done = block.beside(EXTRAS, arm, partial(_overheads, block, arm))
        block.bench.once_done.add(slot)
        if done:
            block.part.once(block, arm)
    if block.fresh:
        block.part.once_together(block)


def once_done(recorded: RecordedRun, plan: Plan, part: Timed) -> set[ArmSlot]:
    """Arms whose once-a-run measurements are there.

    Args:
        recorded: without the blocks that are measured again.
        plan: of the part.
        part: what is measured.
    """
    last = {case.case_id: case.status for case in recorded.of(Case)}
    return {peak.arm for peak in recorded.of(Peak) if peak.part == part.name
            and part.has_once(recorded, peak.arm)
            and "failed" not in [last.get(f"{plan.case_prefix}{name}-{peak.arm}") for name in (EXTRAS, *part.beside)]}


def _overheads(block: Block, arm: Started) -> None:
    short, long = PROOF_STEPS
    if long * arm.typical_ns < PROOF_S * 1e9:
        long = arm.steps_for(PROOF_S)
        short = max(1, long // 4)
    _prove(block, arm, short, long)
    steps, slot = arm.steps_for(0.1), arm.session.slot
    least, most = OVERHEAD_PAIRS
    pairs = min(most, max(least, int(OVERHEAD_S * 1e9 / (2 * steps * arm.typical_ns))))
    times = arm.session.ask(timing.Overhead(pairs=pairs, steps=steps), arm.limit_s(2 * pairs * steps))
    block.append(Overhead(arm=slot, part=block.part.name, what="harness", bare_ns=times.bare_ns,
                          harness_ns=times.harness_ns))
    if slot == block.bench.plan.slots[0]:
        _monitors_overhead(block, arm)
    n = PEAK_N[block.bench.plan.device]
    rate = arm.session.ask(timing.Matmul(n=n, repeats=PEAK_REPEATS), SLOW_LIMIT_S)
    block.append(Peak(arm=slot, part=block.part.name, matmul_n=n, flops=rate.flops))


def _prove(block: Block, arm: Started, short: int, long: int) -> None:
    """Prove that synchronising waits; a proof that fails is tried again, for the machine may have spoilt it."""
    for attempt in range(PROOF_TRIES):
        evidence = arm.session.ask(timing.ProveSync(steps_short=short, steps_long=long), arm.limit_s(short + long))
        proof = SyncProof(arm=arm.session.slot, part=block.part.name, attempt=attempt, steps_short=short,
                          steps_long=long, **evidence.model_dump(exclude={"kind"}))
        block.append(proof)
        if fault(proof) is None:
            return
    finding, case = accusation(arm.session.arm.name, arm.session.slot, str(fault(proof)))
    block.bench.ledger.find(finding)
    block.bench.ledger.case(case)


def _monitors_overhead(block: Block, arm: Started) -> None:
    """Windows with the monitors off and on, alternating."""
    steps = arm.steps_for(MONITOR_WINDOW_S)
    times: dict[bool, list[int]] = {False: [], True: []}
    for pair in range(MONITOR_PAIRS):
        for monitored in (False, True) if pair % 2 else (True, False):
            if not monitored:
                block.bench.telemetry.pause()
            try:
                span = arm.session.ask(timing.Free(steps=steps), arm.limit_s(steps))
            finally:
                block.bench.telemetry.resume()
            times[monitored].append(span.end_ns - span.start_ns)
    block.append(Overhead(arm=arm.session.slot, part=block.part.name, what="monitors", bare_ns=times[False],
                          harness_ns=times[True]))
