"""What is measured once in a run, after an arm's first measured block: sync proof, overhead, peak, epochs, trap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from harness.bench import SLOW_LIMIT_S, Bench
from harness.blocks.warmup import Started
from harness.judge.synchronisation import accusation, fault
from harness.processes.session import WorkerFailedError
from harness.protocol import timing, training
from harness.record.events import ArmSlot, Case, Epoch, Overhead, Peak, SyncProof
from harness.record.findings import EPOCH_PART
from harness.suites.sampling.batches import spring_trap

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
DEFAULT_EPOCHS = 2
# An epoch of the slowest arm takes about this long, unless --epochs asks for whole ones.
EPOCH_S = {"cpu": 4.0, "cuda": 60.0}


def run_extras(bench: Bench, block: int, arms: Mapping[ArmSlot, Started]) -> None:
    """Measure the extras of every given arm; a failure is a case of its own and leaves the block's times alone."""
    if not arms:
        return
    sampling = bool(bench.plan.cells)
    steps, shortened = (0, False) if sampling else epoch_steps(bench, arms)
    for slot, arm in arms.items():
        bench.progress.status(f"{arm.session.arm.name}: overhead, peak")
        first = slot == bench.plan.slots[0]
        done = _guarded(bench, f"extras-{slot}", arm, partial(_overheads, bench, slot, arm, first=first))
        bench.extras_done.add(slot)
        if done and sampling:
            _guarded(bench, f"trap-{slot}", arm, partial(spring_trap, bench, block, arm))
        if done and steps:
            bench.progress.status(f"{arm.session.arm.name}: epochs")
            _guarded(bench, f"epochs-{slot}", arm, partial(_epochs, bench, block, arm, steps))
    if shortened and steps:
        batch = bench.experiment.train.batch_size
        bench.find(EPOCH_PART.found(
            f"an epoch here is {steps * batch} of {bench.images} images, so that it stays short", block=block))


def epoch_steps(bench: Bench, arms: Mapping[ArmSlot, Started]) -> tuple[int, bool]:
    """Optimisation steps of an epoch, the same for every arm, and whether that is only part of the data."""
    whole = bench.images // bench.experiment.train.batch_size
    if bench.epochs is not None:
        return (whole if bench.epochs else 0), False
    fitting = min(arm.steps_for(EPOCH_S[bench.plan.device]) for arm in arms.values())
    steps = min(whole, max(5, fitting))
    return steps, steps < whole


def _guarded(bench: Bench, case_id: str, arm: Started, work: Callable[[], None]) -> bool:
    slot, log = arm.session.slot, arm.session.log
    case_id = bench.plan.case_prefix + case_id
    try:
        work()
    except WorkerFailedError as error:
        bench.fail(case_id, slot, None, error, log.stem)
        return False
    bench.measured(Case(case_id=case_id, arm=slot, block=None, status="measured", log=f"logs/{log.name}"))
    return True


def _overheads(bench: Bench, slot: ArmSlot, arm: Started, first: bool) -> None:
    short, long = PROOF_STEPS
    if long * arm.typical_ns < PROOF_S * 1e9:
        long = arm.steps_for(PROOF_S)
        short = max(1, long // 4)
    _prove(bench, slot, arm, short, long)
    steps = arm.steps_for(0.1)
    least, most = OVERHEAD_PAIRS
    pairs = min(most, max(least, int(OVERHEAD_S * 1e9 / (2 * steps * arm.typical_ns))))
    times = arm.session.ask(timing.Overhead(pairs=pairs, steps=steps), arm.limit_s(2 * pairs * steps))
    bench.writer.append(Overhead(arm=slot, part=bench.plan.part, what="harness", bare_ns=times.bare_ns,
                                 harness_ns=times.harness_ns))
    if first:
        _monitors_overhead(bench, slot, arm)
    n = PEAK_N[bench.plan.device]
    rate = arm.session.ask(timing.Matmul(n=n, repeats=PEAK_REPEATS), SLOW_LIMIT_S)
    bench.writer.append(Peak(arm=slot, part=bench.plan.part, matmul_n=n, flops=rate.flops))


def _prove(bench: Bench, slot: ArmSlot, arm: Started, short: int, long: int) -> None:
    """Prove that synchronising waits; a proof that fails is tried again, for the machine may have spoilt it."""
    for attempt in range(PROOF_TRIES):
        evidence = arm.session.ask(timing.ProveSync(steps_short=short, steps_long=long), arm.limit_s(short + long))
        proof = SyncProof(arm=slot, part=bench.plan.part, attempt=attempt, steps_short=short, steps_long=long,
                          **evidence.model_dump(exclude={"kind"}))
        bench.writer.append(proof)
        if fault(proof) is None:
            return
    finding, case = accusation(arm.session.arm.name, slot, str(fault(proof)))
    bench.find(finding)
    bench.writer.append(case)


def _monitors_overhead(bench: Bench, slot: ArmSlot, arm: Started) -> None:
    """Windows with the monitors off and on, alternating."""
    steps = arm.steps_for(MONITOR_WINDOW_S)
    times: dict[bool, list[int]] = {False: [], True: []}
    for pair in range(MONITOR_PAIRS):
        for monitored in (False, True) if pair % 2 else (True, False):
            if not monitored:
                bench.telemetry.pause()
            try:
                span = arm.session.ask(timing.Free(steps=steps), arm.limit_s(steps))
            finally:
                bench.telemetry.resume()
            times[monitored].append(span.end_ns - span.start_ns)
    bench.writer.append(Overhead(arm=slot, part=bench.plan.part, what="monitors", bare_ns=times[False],
                                 harness_ns=times[True]))


def _epochs(bench: Bench, block: int, arm: Started, steps: int) -> None:
    """Whole epochs through the framework's own loader, by a second trainer in the same process.

    No step runs before the first epoch, so that these epochs are the loader's own; the first one pays for its start.
    """
    train = bench.experiment.train
    config = bench.experiment.model_copy(update={"train": train.model_copy(update={"loader": "native"})})
    count = DEFAULT_EPOCHS if bench.epochs is None else bench.epochs
    bench.build(arm.session, config, images=steps * train.batch_size)
    times = arm.session.ask(training.Epochs(epochs=count, steps=steps),
                            SLOW_LIMIT_S + count * arm.limit_s(steps))
    for number, epoch in enumerate(times.epochs):
        bench.writer.append(Epoch(arm=arm.session.slot, block=block, epoch=number, loader="native",
                                  num_workers=train.num_workers, images=steps * train.batch_size,
                                  **epoch.model_dump()))
