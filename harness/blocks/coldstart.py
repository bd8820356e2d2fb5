"""`--cold-start`: every arm once with all compile caches empty, as on a machine that never ran it."""

from __future__ import annotations

import statistics

from harness.bench import SLOW_LIMIT_S, Bench
from harness.blocks.warmup import cache_word, worker_line
from harness.plan import BEFORE_BLOCKS
from harness.processes.session import WorkerFailedError
from harness.protocol import life, timing
from harness.record.events import ArmSlot, Case
from messages import recorded, tell

# Wherever a framework may keep compiled code: all of it moves into an empty folder.
CACHE_VARIABLES = ("HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH",
                   "JITTOR_HOME")
TYPICAL_STEPS = 6


def run_cold_starts(bench: Bench) -> None:
    """Start every arm of `--arms` once from nothing and record what it cost."""
    arms = {arm.name: slot for slot, arm in reversed(bench.plan.arms)}
    with bench.progress.bar(len(arms), tell("cold start")):
        for name, slot in arms.items():
            bench.check_time(recorded("during the cold starts"))
            bench.progress.say(tell("cold start of {arm} with empty compile caches (this can take minutes)", arm=name))
            log_name = f"{slot}-cold-start"
            try:
                with bench.sessions.folder("cold") as folder:
                    _one(bench, slot, log_name, dict.fromkeys(CACHE_VARIABLES, str(folder)))
            except WorkerFailedError as error:
                bench.ledger.fail(f"cold-start-{slot}", slot, None, error, log_name)
            else:
                bench.ledger.measured(Case(case_id=f"cold-start-{slot}", arm=slot, block=None, status="measured",
                                           log=f"logs/{log_name}.log"))
            bench.progress.advance()


def _one(bench: Bench, slot: ArmSlot, log_name: str, env: dict[str, str]) -> None:
    session, created = bench.open(slot, log_name, env)
    with session:
        timed = bench.plan.timed
        built = timed.build(bench, session) if timed else bench.build(session, bench.experiment)
        times = session.ask(timing.Stepwise(steps=1 + TYPICAL_STEPS), SLOW_LIMIT_S)
        cached = session.ask(life.ReadCache(), SLOW_LIMIT_S).compiled_files
    typical = statistics.median(times.step_ns[1:])
    bench.writer.append(worker_line(
        session, created, built, block=BEFORE_BLOCKS, role="cold-start", first_step_ns=times.step_ns[0],
        first_stamp_ns=times.start_ns[0], compile_ns=max(0, times.step_ns[0] - round(typical)),
        cache=cache_word(created.compiled_files, cached)))
