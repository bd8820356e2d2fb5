"""Whether so many ranks train as one process does: matched steps of every size, their losses, and what ranks hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.bench import SLOW_LIMIT_S, Bench
from harness.plan import BEFORE_BLOCKS
from harness.processes.session import Session, WorkerFailedError
from harness.protocol import group, life, timing, training
from harness.record.events import ArmSlot, Case, GroupStarted, ScalingGate
from harness.suites.scaling.cells import sizes
from impls.recipe.config import ExperimentConfig
from messages import recorded, shown, tell

if TYPE_CHECKING:
    from harness.suites.scaling.part import Scaling


def run_gate(bench: Bench, part: Scaling, slot: ArmSlot) -> None:
    """Every size of one arm; one that cannot run is a failed case."""
    from harness.suites.scaling.part import MATCHED_STEPS

    recipe, name = matched(bench.experiment), bench.plan.arm(slot).name
    reference: list[float] = []
    try:
        for size in sizes(part.most):
            bench.check_time(recorded("before ranks were compared with one process"))
            bench.progress.status(tell("{arm}: {size} ranks against one process", arm=name, size=size))
            session, created = bench.open(slot, log_of(slot, size, "gate"), by=part.launch(bench.plan.arm(slot), size))
            with session:
                built = bench.build(session, recipe)
                bench.writer.append(started(part, session, slot, BEFORE_BLOCKS, created, built))
                session.ask(timing.Stepwise(steps=MATCHED_STEPS), SLOW_LIMIT_S)
                losses = session.ask(training.ReadLosses(), SLOW_LIMIT_S).losses
                held = [told.sha256 for told in session.ask_all(group.ReadDigests(), SLOW_LIMIT_S)]
            if size == 1:
                reference = losses
            else:
                unequal = [what for what in held[0] if len({one[what] for one in held}) > 1]
                found = result(part, slot, size, recipe.train.batch_size, losses, reference, unequal)
                bench.writer.append(found)
                bench.progress.say(tell("{arm}, {size} ranks: {found}", arm=name, size=size, found=(
                    tell("the losses of one process, the same weights on all") if found.passed else
                    shown(str(found.reason)))))
    except WorkerFailedError as error:
        bench.ledger.fail(f"gate-{slot}", slot, None, error, log_of(slot, size, "gate"))
        return
    bench.ledger.measured(Case(case_id=f"gate-{slot}", arm=slot, block=None, status="measured",
                               log=f"logs/{log_of(slot, part.most, 'gate')}.log"))


def matched(experiment: ExperimentConfig) -> ExperimentConfig:
    """The recipe without dropout, whose masks are of another stream in every rank."""
    return experiment.model_copy(update={"model": experiment.model.model_copy(update={"dropout": 0.0})})


def result(part: Scaling, slot: ArmSlot, size: int, images: int, losses: list[float], reference: list[float],
           unequal: list[str]) -> ScalingGate:
    """What matched steps say.

    Args:
        part: the plan.
        slot: the arm.
        size: ranks.
        images: of a step.
        losses: of the ranks.
        reference: of one process.
        unequal: what ranks hold that differs between them.
    """
    from harness.suites.scaling.part import MATCHED_STEPS, TOLERANCE

    apart = [abs(one - other) / max(abs(other), 1e-12) for one, other in zip(losses, reference, strict=False)]
    # NaN is no difference that could be within anything.
    near = len(losses) == len(reference) == MATCHED_STEPS and all(value <= TOLERANCE for value in apart)
    if len(losses) != MATCHED_STEPS or len(reference) != MATCHED_STEPS:
        far = recorded("losses are missing: {one} and {other} of {steps}", one=len(losses), other=len(reference),
                       steps=MATCHED_STEPS)
    elif any(map(math.isnan, apart)):
        far = recorded("losses are no numbers")
    else:
        far = recorded("losses differ from one process's by up to {apart}, over {tolerance}",
                       apart=f"{max(apart):.1g}", tolerance=f"{TOLERANCE:g}")
    reasons = [] if near else [far]
    reasons += [recorded("ranks hold different {what}", what=" and ".join(unequal))] if unequal else []
    return ScalingGate(part=part.name, arm=slot, size=size, images=images, losses=losses, loss_rel_diff=apart,
                       tolerance=TOLERANCE, unequal=unequal, passed=not reasons, reason="; ".join(reasons) or None)


def started(part: Scaling, session: Session, slot: ArmSlot, block: int, created: life.Created, built: life.Built
            ) -> GroupStarted:
    """The line on a group that met."""
    hosts = session.hosts
    return GroupStarted(
        part=part.name, arm=slot, block=block, size=len(hosts), launcher=getattr(session, "launcher", "none"),
        hosts=hosts, pids=session.pids, spawn_ns=session.spawn_ns,
        import_ns=created.import_ns, build_ns=built.build_ns, parameter_count=built.parameter_count, info=built.info)


def log_of(slot: ArmSlot, size: int, when: str) -> str:
    """The name of a group's log."""
    return f"{slot}-{size}-ranks-{when}"
