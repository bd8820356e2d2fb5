"""A few steps of each arm under its own profiler: once in a run, when everything else of the block is measured."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from harness.bench import SLOW_LIMIT_S
from harness.processes.session import WorkerFailedError
from harness.protocol.timing import Phased, Stepwise
from harness.protocol.training import Profile, ProfileSums
from harness.record.events import ArmSlot, Case, Profiled
from harness.record.run import RecordedRun

if TYPE_CHECKING:
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started

WARM, STEPS = 3, 3
TRACES = "traces"
NOTHING = ProfileSums(tool=None, note="", by_class=[], longest=[])


def measure(block: Block) -> None:
    """Every arm of `block.fresh`; a profiler that fails, even with its process, takes nothing else with it."""
    compared = {slot for pair in block.bench.plan.comparisons if not pair.selfcheck for slot in (pair.a, pair.b)}
    for slot, arm in block.fresh.items():
        if slot not in compared:
            block.append(_line(block, arm, NOTHING, {}, None, "an arm that is held against itself is profiled once"))
            continue
        block.bench.check_time("while steps were profiled")
        block.bench.progress.status(f"{arm.session.arm.name}: steps under its profiler")
        try:
            line = _profiled(block, arm)
        except WorkerFailedError as error:
            if error.cause in ("crash", "hang"):
                arm.session.kill()
            line = _line(block, arm, NOTHING, {}, None, error.message)
            block.bench.ledger.case(Case(case_id=f"{block.bench.plan.case_prefix}profile-{slot}", arm=slot, block=None,
                                         status="skipped", reason=error.message))
        block.append(line)


def done(run: RecordedRun, slot: ArmSlot) -> bool:
    """Whether an arm was profiled, or could not be."""
    return any(line.arm == slot for line in run.of(Profiled))


def _profiled(block: Block, arm: Started) -> Profiled:
    """Steps under the profiler, between as many without."""
    bench = block.bench
    block.part.build(bench, arm.session)
    arm.session.ask(Stepwise(steps=WARM), SLOW_LIMIT_S)
    # The first ones compile what cutting needs.
    arm.session.ask(Phased(steps=1), SLOW_LIMIT_S)
    cuts = [arm.session.ask(Phased(steps=STEPS), SLOW_LIMIT_S).phase_ns]
    trace = f"{TRACES}/{arm.session.slot}.json.gz"
    found = arm.session.ask(Profile(arm=arm.session.arm.name, steps=STEPS, output=str(bench.writer.path / trace)),
                            SLOW_LIMIT_S)
    if found.tool is None:
        return _line(block, arm, found, {}, None, "its trainer has no profile(steps)")
    cuts.append(arm.session.ask(Phased(steps=STEPS), SLOW_LIMIT_S).phase_ns)
    phase_ns = {name: mean(ns for cut in cuts for ns in cut[name]) for name in cuts[0]}
    return _line(block, arm, found, phase_ns, trace, None)


def _line(block: Block, arm: Started, found: ProfileSums, phase_ns: dict[str, float], trace: str | None,
          reason: str | None) -> Profiled:
    return Profiled.model_validate({
        "part": block.part.name, "arm": arm.session.slot, "block": block.number, "steps": STEPS, "phase_ns": phase_ns,
        "trace": trace, "reason": reason, **found.model_dump(exclude={"kind"})})
