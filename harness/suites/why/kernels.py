"""A few steps and network calls of each arm under its own profiler: once, when all else of the block is measured."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from harness.bench import SLOW_LIMIT_S, plain
from harness.processes.session import WorkerFailedError
from harness.protocol.life import BuildSampler
from harness.protocol.timing import Phased, Stepwise
from harness.protocol.training import Profile, ProfileSums
from harness.record.events import ArmSlot, Case, Profiled, Whole
from harness.record.run import RecordedRun
from harness.suites.why.apart import sampler_recipe
from messages import marked, recorded, tell

if TYPE_CHECKING:
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started

WARM, STEPS = 3, 3
TRACES = "traces"
HELD = marked("an arm that is held against itself is profiled once")
# What is profiled, and what of an arm takes it.
MAKERS: dict[Whole, str] = {"step": "trainer", "network call": "sampler"}  # English
NOTHING = ProfileSums(tool=None, note="", by_class=[], longest=[])


def measure(block: Block) -> None:
    """Every arm of `block.fresh`; a profiler that fails, even with its process, takes nothing else with it."""
    compared = {slot for pair in block.bench.plan.comparisons if not pair.selfcheck for slot in (pair.a, pair.b)}
    for slot, arm in block.fresh.items():
        if slot not in compared:
            block.append(_line(block, arm, "step", NOTHING, reason=HELD))
            continue
        for of in MAKERS:
            line = _told(block, arm, of)
            if line is None:
                break
            block.append(line)
            if line.reason is not None:
                # What fails in a step is not tried again, maybe in a process that has ended.
                break


def done(run: RecordedRun, slot: ArmSlot) -> bool:
    """Whether an arm was profiled, or could not be."""
    return any(line.arm == slot for line in run.of(Profiled))


def _told(block: Block, arm: Started, of: Whole) -> Profiled | None:
    """What a profiler tells of steps or of network calls, or why it does not; None of calls of an arm without any."""
    bench, slot = block.bench, arm.session.slot
    name, step = arm.session.arm.name, of == "step"
    bench.check_time(recorded("while steps were profiled") if step else recorded("while network calls were profiled"))
    bench.progress.status(tell("{arm}: steps under its profiler", arm=name) if step else
                          tell("{arm}: network calls under its profiler", arm=name))
    try:
        return _profiled(block, arm, of)
    except WorkerFailedError as error:
        if error.cause == "usage" and of != "step":
            return None
        if error.cause in ("crash", "hang"):
            arm.session.kill()
        bench.ledger.case(Case(case_id=f"{bench.plan.case_prefix}profile{_suffix(of)}-{slot}", arm=slot, block=None,
                               status="skipped", reason=error.message))
        return _line(block, arm, of, NOTHING, reason=error.message)


def _profiled(block: Block, arm: Started, of: Whole) -> Profiled:
    """Steps, or calls, under the profiler, between as many without."""
    bench = block.bench
    if of == "step":
        block.part.build(bench, arm.session)
    else:
        arm.session.ask(BuildSampler(experiment=plain(sampler_recipe(bench))), SLOW_LIMIT_S)
    arm.session.ask(Stepwise(steps=WARM), SLOW_LIMIT_S)
    # The first ones compile what cutting needs.
    arm.session.ask(Phased(steps=1), SLOW_LIMIT_S)
    cuts = [arm.session.ask(Phased(steps=STEPS), SLOW_LIMIT_S).phase_ns]
    trace = f"{TRACES}/{arm.session.slot}{_suffix(of)}.json.gz"
    found = arm.session.ask(Profile(arm=arm.session.arm.name, steps=STEPS, output=str(bench.writer.path / trace)),
                            SLOW_LIMIT_S)
    if found.tool is None:
        return _line(block, arm, of, found, reason=recorded(
            "its {maker} has no profile(steps)", maker=MAKERS[of]))
    cuts.append(arm.session.ask(Phased(steps=STEPS), SLOW_LIMIT_S).phase_ns)
    phase_ns = {name: mean(ns for cut in cuts for ns in cut[name]) for name in cuts[0]}
    return _line(block, arm, of, found, phase_ns, trace)


def _suffix(of: Whole) -> str:
    return "" if of == "step" else "-calls"


def _line(block: Block, arm: Started, of: Whole, found: ProfileSums, phase_ns: dict[str, float] | None = None,
          trace: str | None = None, reason: str | None = None) -> Profiled:
    return Profiled.model_validate({
        "part": block.part.name, "arm": arm.session.slot, "block": block.number, "of": of, "steps": STEPS,
        "phase_ns": phase_ns or {}, "trace": trace, "reason": reason, **found.model_dump(exclude={"kind"})})
