"""Times the operators of the network alone, all arms in turn, once in a run and apart from all measured windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from harness.bench import SLOW_LIMIT_S
from harness.blocks.windows import HAND_OVER_S
from harness.processes.session import WorkerFailedError
from harness.protocol.timing import Operate
from harness.record.events import ArmSlot, Case, IsolatedOperator
from harness.record.run import RecordedRun
from harness.stats.share import midmean
from harness.suites.why.isolated import LACKING
from impls.recipe.isolated import COPY, Counted, Spec, isolated
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started

CASE = "operators"
# As many as fit the time, for an interval over four rounds is wide.
ROUNDS, MOST_ROUNDS, ROUNDS_S = 4, 12, 40.0
WINDOWS, WINDOW_NS = 3, 8_000_000
# Two arrays larger than any cache: how fast memory can be read and written here.
COPY_SHAPE = (64, 512, 512)


@dataclass(frozen=True)
class Timed:
    """One operator of one arm.

    Attributes:
        what: the operator.
        operator_class: what it is counted among.
        batch: images.
        training: with its backward pass.
        round_ns: of a run, in each round.
        reasons: why there are none.
    """

    what: Counted
    operator_class: str
    batch: int = 1
    training: bool = False
    round_ns: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def measure(block: Block) -> None:
    """Round by round every operator of every arm of `block.fresh`; an arm that cannot go on leaves the others."""
    plan, batch = block.bench.plan, block.bench.experiment.train.batch_size
    compared = {slot for pair in plan.comparisons if not pair.selfcheck for slot in (pair.a, pair.b)}
    listed = [Timed(one, one.spec.operator_class, batch, True) for one in isolated(block.bench.experiment.model)]
    listed.append(Timed(Counted(Spec(kind="add", inputs=(COPY_SHAPE, COPY_SHAPE), output=COPY_SHAPE), (), ()), COPY))
    found = {slot: [replace(one, round_ns=[], reasons=[]) for one in listed] for slot in block.fresh}
    lost: set[ArmSlot] = set()
    able = {slot for slot in found if slot in compared}
    began, number = block.bench.clock(), 0
    while number < MOST_ROUNDS and _fits(number, block.bench.clock() - began):
        for place in range(len(listed)):
            # Turn about, so that neither always comes first.
            for slot in sorted(able, reverse=bool(number % 2)):
                block.bench.check_time(recorded("while operators were timed alone"))
                arm, one = block.fresh[slot], found[slot][place]
                block.bench.progress.status(tell("{arm}: operators alone, round {round}", arm=arm.session.arm.name,
                                                 round=number + 1))
                try:
                    offered = bool(one.reasons) or _once(block, arm, one)
                except WorkerFailedError as error:
                    block.beside(CASE, arm, partial(_fail, error))
                    lost.add(slot)
                    offered = False
                if not offered:
                    able.discard(slot)
        number += 1
    for slot in sorted(found.keys() - lost):
        block.beside(CASE, block.fresh[slot], partial(_record, block, slot, found[slot] if slot in able else []))


def done(run: RecordedRun, slot: ArmSlot) -> bool:
    """Whether all that can be measured of an arm is there."""
    return any(case.case_id.endswith(f"{CASE}-{slot}") for case in run.of(Case))


def _fits(rounds: int, spent_s: float) -> bool:
    """Whether one more round, as long as those before it, still ends in time."""
    return rounds < ROUNDS or spent_s * (rounds + 1) / rounds <= ROUNDS_S


def _once(block: Block, arm: Started, one: Timed) -> bool:
    """One round of one operator; what only this operator cannot do is noted. Whether the arm has any operator.

    Raises:
        WorkerFailedError: the arm cannot go on.
    """
    block.bench.sleep(HAND_OVER_S)
    try:
        times = arm.session.ask(Operate(spec=one.what.spec, batch=one.batch, training=one.training, windows=WINDOWS,
                                        window_ns=WINDOW_NS), SLOW_LIMIT_S)
    except WorkerFailedError as error:
        if error.cause in ("crash", "hang"):
            raise
        one.reasons.append(error.message)
        return True
    if times.window_ns:
        one.round_ns.append(midmean(times.window_ns) / times.runs)
    else:
        one.reasons.append(LACKING)
    return times.offered


def _fail(error: WorkerFailedError) -> None:
    raise error


def _record(block: Block, slot: ArmSlot, found: Sequence[Timed]) -> None:
    for one in found:
        spec, names = one.what.spec, one.what.names
        block.append(IsolatedOperator(
            part=block.part.name, arm=slot, operator=names[0] if names else COPY, operator_class=one.operator_class,
            kind=spec.kind, inputs=[list(shape) for shape in spec.inputs], output=list(spec.output), count=len(names),
            flop=spec.operations(one.batch, one.training), bytes=spec.bytes(one.batch, one.training),
            round_ns=[] if one.reasons else one.round_ns, reason=one.reasons[0] if one.reasons else None))
