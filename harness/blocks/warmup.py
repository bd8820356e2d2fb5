"""One arm brought to its steady state: its worker, its warm-up, and how long its steps take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from harness.bench import COMMAND_LIMIT_S, SLOW_LIMIT_S
from harness.processes.session import Session
from harness.protocol import life, timing
from harness.record.events import ArmSlot, WarmUp, WorkerStarted
from harness.record.findings import COMPILED_WHILE_MEASURED, NO_STEADY_STATE
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.processes.ranks import Launch
    from harness.stats.steady import SteadyState

# A late fall (just-in-time compilation has been seen to end at step 35) is found only when one process runs well past
# it. So the first of each arm runs long, unless that is dear and nothing speaks for a fall: one that is missed then
# shows in the measured windows, where a part has as many as `shifts` needs.
WARMUP_MIN_STEPS = 20
# Of what earlier blocks have watched: the fewest steps that the detector judges.
WARMUP_KNOWN_STEPS = 10
WARMUP_LONG_STEPS = 80
WARMUP_LONG_S = 20.0
WARMUP_CHEAP_S = 5.0
WARMUP_CAP_STEPS = 60
WARMUP_CAP_S = 20.0
WARMUP_CHUNK_S = 1.0
# Of steps of microseconds: the search for a steady state takes seconds for so many, and minutes for ten times as many.
WARMUP_MOST_STEPS = 2000


@dataclass
class Started:
    """One arm inside the block.

    Attributes:
        session: its worker.
        built: parameters and proof of what runs.
        created: import time and compile cache.
        start_ns: start of every warm-up step, the first step included.
        step_ns: their durations.
        typical_ns: median of the steady warm-up steps.
        compiled_files: files in its compile cache after the warm-up.
    """

    session: Session
    created: life.Created
    built: life.Built
    start_ns: list[int] = field(default_factory=list)
    step_ns: list[int] = field(default_factory=list)
    typical_ns: float = 0.0
    compiled_files: int | None = None

    def steps_for(self, seconds: float) -> int:
        """Steps that fill `seconds`, at least one."""
        return max(1, math.ceil(seconds * 1e9 / self.typical_ns))

    def limit_s(self, steps: int) -> float:
        """How long so many steps may take before the worker counts as hung."""
        return COMMAND_LIMIT_S + 50 * steps * self.typical_ns / 1e9


def start(block: Block, slot: ArmSlot) -> None:
    """Have a fresh process of an arm build what is measured and take its first step: then it is live in the block.

    Raises:
        TimeIsUpError: the user's time limit is over.
        WorkerFailedError: it cannot.
    """
    bench = block.bench
    bench.check_time(recorded("before block {block} was measured", block=block.number))
    bench.progress.status(tell("{arm}: starting", arm=bench.plan.arm(slot).name))
    block.live[slot] = brought_up(bench, slot, block.log(slot), partial(block.part.build, bench))


def brought_up(bench: Bench, slot: ArmSlot, log: str, build: Callable[[Session], life.Built],
               by: Launch | None = None) -> Started:
    """A worker that has built what is measured, and taken its first step.

    Args:
        bench: the run.
        slot: the arm.
        log: names its log.
        build: has a worker build it.
        by: what starts it as several ranks; None for one process.

    Raises:
        WorkerFailedError: it cannot.
    """
    session, created = bench.open(slot, log, by=by)
    try:
        built = build(session)
        first = session.ask(timing.Stepwise(steps=1), SLOW_LIMIT_S)
    except BaseException:
        session.kill()
        raise
    return Started(session, created, built, list(first.start_ns), list(first.step_ns), float(first.step_ns[0]))


def warm_up(block: Block, arm: Started) -> None:
    """Take steps until they are steady, and record them.

    Raises:
        TimeIsUpError: the user's time limit is over.
        WorkerFailedError: the arm cannot go on.
    """
    from harness.stats.steady import detect

    found = block.bench.warm_ups.setdefault(arm.session.slot, [])
    long = arm.session.arm.compiles
    block.bench.progress.status(tell("{arm}: warm-up", arm=arm.session.arm.name))
    chunk, capped = 4, False
    while True:
        block.bench.check_time(recorded("in the warm-up of block {block}", block=block.number))
        times = arm.session.ask(timing.Stepwise(steps=chunk), SLOW_LIMIT_S)
        arm.start_ns += times.start_ns
        arm.step_ns += times.step_ns
        arm.typical_ns = statistics.median(arm.step_ns[len(arm.step_ns) // 2 :])
        done, state = len(arm.step_ns), detect(arm.step_ns)
        long = long or (done >= WARMUP_MIN_STEPS and not _flat(state))
        least = least_steps(found, arm, long)
        if not found and not long and done >= least and _compiled(arm):
            least, long = least_steps(found, arm, True), True
        enough = max(least, 2 * (state.steady_from or 0))
        cap = max(WARMUP_CAP_STEPS, min(arm.steps_for(WARMUP_CAP_S), WARMUP_MOST_STEPS), 2 * least)
        if state.steady_from is not None and done >= enough:
            break
        if done >= cap:
            capped = True
            break
        left = enough - done if done < enough else WARMUP_MIN_STEPS
        chunk = max(1, min(max(left, min(arm.steps_for(WARMUP_CHUNK_S), WARMUP_MOST_STEPS // 4)), cap - done))
    found.append(state.steady_from or 0)
    steady = arm.step_ns[state.steady_from or 0 :] or arm.step_ns
    arm.typical_ns = statistics.median(steady)
    arm.compiled_files = arm.session.ask(life.ReadCache(), COMMAND_LIMIT_S).compiled_files
    # The search for the fastest convolutions held memory that the measured steps do not need: their peak begins here.
    arm.session.ask(timing.ReadMemory(), COMMAND_LIMIT_S)
    _record(block, arm, state, capped)


def least_steps(found: Sequence[int], arm: Started, long: bool) -> int:
    """Steps that a warm-up takes at least, whatever the detector says.

    Later blocks take twice the longest warm-up that two blocks have shown: one block's may be a disturbance of the
    machine, and would make all that follow long. Where that is less they take what fills 5 s, from 10 to 20 steps: so
    far the first block has watched.

    Args:
        found: the warm-ups of the blocks before.
        arm: whose steps take `typical_ns`.
        long: whether something speaks for a late fall.
    """
    if found:
        known = max(WARMUP_KNOWN_STEPS, min(WARMUP_MIN_STEPS, arm.steps_for(WARMUP_CHEAP_S)))
        return max(known, 2 * sorted(found)[-2 if len(found) > 1 else -1])
    return max(WARMUP_MIN_STEPS, min(WARMUP_LONG_STEPS, arm.steps_for(WARMUP_LONG_S if long else WARMUP_CHEAP_S)))


def _flat(state: SteadyState) -> bool:
    """Whether all steps are alike but for the very first, which compile."""
    from harness.stats.steady import MIN_SEGMENT

    return state.steady_from is not None and state.steady_from < MIN_SEGMENT


def _compiled(arm: Started) -> bool:
    """Whether the arm's compile cache grew since before its import; False where none is counted."""
    before, now = arm.created.compiled_files, arm.session.ask(life.ReadCache(), COMMAND_LIMIT_S).compiled_files
    return before is not None and now is not None and now > before


def _record(block: Block, arm: Started, state: SteadyState, capped: bool) -> None:
    slot, number = arm.session.slot, block.number
    block.append(worker_line(
        arm.session, arm.created, arm.built, block=number, first_step_ns=arm.step_ns[0],
        first_stamp_ns=arm.start_ns[0], compile_ns=max(0, arm.step_ns[0] - round(arm.typical_ns)),
        cache=cache_word(arm.created.compiled_files, arm.compiled_files), images=arm.built.images))
    block.append(WarmUp(arm=slot, block=number, start_ns=arm.start_ns, step_ns=arm.step_ns,
                        classification=state.classification, steady_from=state.steady_from, capped=capped))
    if capped:
        places = {"arm": arm.session.arm.name, "steps": len(arm.step_ns), "block": number}
        message = (
            recorded("{arm} reached no steady state in {steps} warm-up steps of block {block}", **places)
            if state.steady_from is None else
            recorded("{arm} was steady only from step {first}, too late to confirm it, in {steps} warm-up steps of "
                     "block {block}", first=state.steady_from, **places))
        block.append(NO_STEADY_STATE.found(message, arm=slot, block=number))


def worker_line(session: Session, created: life.Created, built: life.Built, **told: Any) -> WorkerStarted:
    """The line on a worker that is built: whose it is, what each step of that took, what it proved; `told` is more."""
    return WorkerStarted(
        arm=session.slot, pid=session.pid, spawn_ns=session.spawn_ns, import_ns=created.import_ns,
        build_ns=built.build_ns, parameter_count=built.parameter_count, info=built.info, **told)


def cache_word(before: int | None, after: int | None) -> Literal["cold", "warm", "partial"] | None:
    """What the compile cache was to this start: its number of files before the import and after the warm-up."""
    if before is None or after is None:
        return None
    if before == 0:
        return "cold"
    return "warm" if after == before else "partial"


def check_cache(block: Block, arm: Started) -> None:
    """Say where something was compiled since the warm-up.

    Raises:
        WorkerFailedError: the arm cannot go on.
    """
    cached = arm.session.ask(life.ReadCache(), COMMAND_LIMIT_S).compiled_files
    if cached is not None and arm.compiled_files is not None and cached > arm.compiled_files:
        block.bench.ledger.find(COMPILED_WHILE_MEASURED.found(
            recorded("{count} operators were compiled while block {block} of {arm} was measured",
                     count=cached - arm.compiled_files, block=block.number, arm=arm.session.arm.name),
            arm=arm.session.slot, block=block.number))
