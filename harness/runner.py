"""A whole run: prepare, check parity, measure block after block, judge, report. Side effects happen here and below."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from harness import protocol
from harness.agreement import run_agreement
from harness.bench import SLOW_LIMIT_S, Bench, plain
from harness.block import Block
from harness.coldstart import run_cold_starts
from harness.config import BenchConfig
from harness.events import (
    BlockState,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Finding,
    ParityResult,
    Resumed,
    RunEnded,
    RunStarted,
    SampleAgreement,
    SamplesDrawn,
    StepCost,
    Verdict,
)
from harness.parity_run import run_parity
from harness.plan import SOFT_LIMIT_S, Plan
from harness.resume import extras_done, finished_blocks, unfinished_blocks
from harness.session import WorkerFailedError
from harness.store import RecordedRun, read_run
from harness.verdicts import judge_run, sentence
from impls.common.config import ExperimentConfig
from impls.common.flops import forward_flop_per_image, training_step_flop

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Request:
    """What a run starts from.

    Attributes:
        config: the options.
        command: the command line, for the record.
        environment: the machine.
        findings: what is worth knowing about the machine before anything runs.
        dataset: the images; None for a suite that needs none.
        device_reason: why the arms run on this device.
        resumed: the run that is continued, or None.
    """

    config: BenchConfig
    command: Sequence[str]
    environment: EnvironmentRecorded
    findings: Sequence[Finding]
    dataset: DatasetRecorded | None
    device_reason: str
    resumed: RecordedRun | None = None


class Runner:
    """Runs one plan into one run folder."""

    def __init__(self, bench: Bench, request: Request) -> None:
        self._bench, self._request, self._plan = bench, request, bench.plan
        self._began = bench.clock()
        self._block_s: list[float] = []
        self._states: dict[int, BlockState] = {}

    def run(self) -> RunEnded:
        """Everything up to the verdicts; a fault of one arm is in the journal, not raised.

        Raises:
            UsageError: something the user can mend, found before anything was measured.
            KeyboardInterrupt: the caller ends the journal.
        """
        bench, plan = self._bench, self._plan
        self._begin()
        bench.look_around()
        self._prewarm()
        recorded = read_run(bench.writer.path)
        if plan.parity_steps and not self._parity_done(recorded):
            run_parity(bench, plan.parity_steps, self._request.config.batch_size if plan.suite.work is None else None)
        if plan.cells and not self._agreement_done(recorded):
            run_agreement(bench)
        cold = [case.status for case in latest_cases(recorded) if case.case_id.startswith("cold-start")]
        if self._request.config.cold_start and (not cold or "failed" in cold):
            run_cold_starts(bench)
        if plan.suite.work:
            self._blocks()
            for finding in bench.telemetry.findings():
                bench.find(finding)
            for event in judge_run(read_run(bench.writer.path), plan.comparisons):
                bench.find(event) if isinstance(event, Finding) else bench.writer.append(event)
        failed = any(case.status == "failed" for case in latest_cases(read_run(bench.writer.path)))
        return self.end("failed" if failed else "complete", EXIT_FAILED if failed else EXIT_OK)

    def end(self, status: str, exit_code: int) -> RunEnded:
        """The last line of the journal."""
        return RunEnded.model_validate({"status": status, "exit_code": exit_code,
                                        "wall_s": self._bench.clock() - self._began})

    def _begin(self) -> None:
        bench, request, plan = self._bench, self._request, self._plan
        if request.resumed is not None:
            gone = unfinished_blocks(request.resumed)
            bench.writer.append(Resumed(resumed_utc=utc_now(), discarded_blocks=gone))
            self._states = finished_blocks(request.resumed)
            bench.extras_done |= extras_done(request.resumed, gone, request.config.epochs != 0, bool(plan.cells))
            bench.failed_before |= {case.case_id for case in latest_cases(request.resumed) if case.status == "failed"}
            bench.anything_measured = True
            return
        bench.writer.append(run_started(bench.writer.path.name, request, plan, bench.experiment))
        bench.writer.append(request.environment)
        if request.dataset is not None:
            bench.writer.append(request.dataset)
        bench.writer.append(step_cost(bench.experiment, plan))
        for finding in request.findings:
            bench.find(finding)

    def _prewarm(self) -> None:
        """Compile caches first, one backend after another: two processes must never compile into one cache."""
        for backend, slot in {arm.backend: slot for slot, arm in reversed(self._plan.arms)}.items():
            arm = self._plan.arm(slot)
            if arm.spec.prepare_module is None:
                continue
            log_name = f"prewarm-{backend}"
            try:
                with self._bench.sessions.start(slot, arm, self._bench.log(log_name)) as session:
                    session.ask(protocol.Prewarm(arm=arm.name, device=self._plan.device), protocol.Done, SLOW_LIMIT_S)
                self._bench.recovered(log_name, slot, log_name)
            except WorkerFailedError as error:
                self._bench.fail(log_name, slot, None, error, log_name)

    def _parity_done(self, recorded: RecordedRun) -> bool:
        have = {(result.arm_a, result.arm_b) for result in recorded.of(ParityResult)}
        return have >= {(c.a, c.b) for c in self._plan.comparisons if not c.selfcheck}

    def _agreement_done(self, recorded: RecordedRun) -> bool:
        """Whether every comparison has its result; an interruption may have come between the first and the last arm."""
        have = {(result.arm_a, result.arm_b) for result in recorded.of(SampleAgreement)}
        needed = {(c.a, c.b) for c in self._plan.comparisons if not c.selfcheck}
        return bool(recorded.of(SamplesDrawn)) and have >= needed

    def _blocks(self) -> None:
        repeats: list[int] = [s.block for s in self._states.values() if s.repeats is not None]
        while (number := self._next_block()) is not None:
            self._run_block(number, None)
        if self._request.resumed is not None and self._states and set(self._plan.slots) - self._bench.extras_done:
            # Every block is there, but what is measured once beside them was lost: it needs warm processes.
            repeats.append(max(self._states))
            self._run_block(max(self._states) + 1, max(self._states))
        dirty = [s.block for s in self._states.values() if s.dirty and s.repeats is None]
        already = {s.repeats for s in self._states.values() if s.repeats is not None}
        for block in [number for number in dirty if number not in already]:
            if len(repeats) >= self._plan.extra_blocks or not self._in_time(beyond_minimum=True):
                break
            repeats.append(block)
            self._run_block(max(self._states) + 1, block)

    def _next_block(self) -> int | None:
        """The next block that is due; None when there are enough, no time is left, or no arm is."""
        plan, bench = self._plan, self._bench
        done = sum(1 for state in self._states.values() if state.repeats is None)
        if done >= plan.max_blocks or all(bench.given_up(slot) for slot in plan.slots):
            return None
        if not self._in_time(beyond_minimum=done >= plan.min_blocks):
            return None
        free = (number for number in range(plan.max_blocks + plan.extra_blocks + 1) if number not in self._states)
        return next(free)

    def _in_time(self, beyond_minimum: bool) -> bool:
        """Whether another block may start; running out of an explicit limit is a finding."""
        spent = self._bench.clock() - self._began
        expected = spent + (statistics.median(self._block_s[-3:]) if self._block_s else 0.0)
        limit = self._plan.time_limit_s
        if limit is not None and expected > limit and self._block_s:
            self._bench.find_once(Finding(
                severity="warning" if not beyond_minimum else "info", code="time-limit",
                message=f"the time limit of {limit / 60:g} min ended the run after {len(self._states)} blocks",
                advice="give --time-limit more minutes for a narrower interval"))
            return False
        soft = limit is None and self._request.config.blocks is None
        return not (beyond_minimum and soft and expected > SOFT_LIMIT_S)

    def _run_block(self, number: int, repeats: int | None) -> None:
        bench, plan = self._bench, self._plan
        text = f"block {number + 1}/{plan.max_blocks}" if repeats is None else f"block {repeats + 1} again"
        groups = 1 if plan.schedule == "resident" else len(plan.arms)
        start = bench.clock()
        with bench.progress.bar(plan.pairs * groups, text):
            self._states[number] = Block(bench, plan.block(number, repeats)).run()
        self._block_s.append(bench.clock() - start)
        bench.writer.summarise()
        state = self._states[number]
        if state.dirty:
            bench.progress.say(f"block {number + 1} was disturbed: {'; '.join(state.reasons)}")
        left = plan.min_blocks - len(self._states)
        if repeats is None and left > 0:
            minutes = left * self._block_s[-1] / 60
            bench.progress.say(f"about {minutes:.1f} min for the {left} blocks that are still needed")


def step_cost(experiment: ExperimentConfig, plan: Plan) -> StepCost:
    """What a step costs: an optimisation step, or a network call for a batch of images."""
    forward = forward_flop_per_image(experiment.model)
    step = forward * experiment.sample.batch_size if plan.cells else (
        training_step_flop(experiment.model, experiment.train.batch_size))
    return StepCost(forward_flop_per_image=forward, step_flop=step)


def run_started(run_id: str, request: Request, plan: Plan, experiment: ExperimentConfig) -> RunStarted:
    """The first line of a journal."""
    return RunStarted(
        run_id=run_id, suite=plan.suite.name, started_utc=utc_now(), command=list(request.command),
        arms=plan.entries(), bench=request.config.model_dump(mode="json"), experiment=plain(experiment),
        config_sha256=experiment.sha256(),
        declared={**plan.declared(), "device": plan.device, "device_reason": request.device_reason})


def latest_cases(run: RecordedRun) -> list[Case]:
    """The last word on every case."""
    return list({case.case_id: case for case in run.of(Case)}.values())


def conclude(path: Path, say: Callable[[str], None]) -> int:
    """Build the report of a finished run and print its verdicts; 1 when building fails, which is our own fault.

    Args:
        path: the run folder.
        say: shows progress.
    """
    run = read_run(path)
    for verdict in run.of(Verdict):
        print(sentence(verdict, run.arms))
    for case in latest_cases(run):
        if case.status == "failed":
            print(f"failed: {case.case_id}: {case.reason}")
    say("building the report")
    if not (report_command("build", path) and report_command("index", path.parent)):
        print(f"the report could not be built; the measurements are safe in {path}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def report_command(verb: Literal["build", "index"], folder: Path) -> bool:
    """Have the reports package do its work in a process of its own, since the harness must not depend on it."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "reports", verb, str(folder.resolve())]
    done = subprocess.run(command, cwd=root, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode == 0 and verb == "build":
        print(done.stdout, end="")
    return done.returncode == 0


def utc_now() -> str:
    """Now, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
