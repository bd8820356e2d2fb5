"""A whole run: prepare, check parity, measure block after block, judge, report. Side effects happen here and below."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from harness.bench import SLOW_LIMIT_S, Bench
from harness.blocks.block import Block
from harness.blocks.coldstart import run_cold_starts
from harness.judge.selfcheck import selfcheck
from harness.judge.synchronisation import accusations
from harness.judge.verdicts import judge_part
from harness.machine.counters import taken
from harness.machine.disturbance import disturbed_blocks
from harness.plan import SOFT_LIMIT_S, Plan
from harness.processes.session import WorkerFailedError
from harness.protocol import life
from harness.record.events import (
    BlockState,
    Case,
    EnvironmentRecorded,
    Event,
    Finding,
    ParityResult,
    Resumed,
    RunEnded,
    SampleAgreement,
    SamplesDrawn,
)
from harness.record.findings import END_CODES, TIME_LIMIT
from harness.record.run import RecordedRun, finished_blocks, lasting, read_run, unfinished_blocks
from harness.run.resume import extras_done
from harness.run.start import Request, run_started, step_cost, utc_now
from harness.suites.parity.part import run_parity
from harness.suites.quality.part import QualityJob, check_reference, run_quality
from harness.suites.sampling.agreement import run_agreement
from impls.errors import EXIT_FAILED, EXIT_OK


class Runner:
    """Runs the parts of a suite one after another into one run folder."""

    def __init__(self, bench: Bench, request: Request) -> None:
        self._whole, self._request, self._plans = bench, request, request.plans or (bench.plan,)
        self._began = bench.clock()
        self._recorded_blocks: dict[int, BlockState] = {}
        self._enter(self._plans[0])

    def run(self) -> RunEnded:
        """Everything up to the verdicts; a fault of one arm is in the journal, not raised.

        Raises:
            UsageError: something the user can mend, found before anything was measured.
            KeyboardInterrupt: the caller ends the journal.
        """
        began = self._whole.counters()
        self._begin()
        self._whole.telemetry.start()
        self._whole.look_around()
        self._prewarm()
        for plan in self._plans:
            if plan.quality is not None:
                # A wrong feature network must not show after hours.
                self._enter(plan)
                check_reference(self._quality(read_run(self._bench.writer.path)))
        for plan in self._plans:
            self._enter(plan)
            self._part(read_run(self._bench.writer.path))
        bench = self._whole
        if any(plan.has_blocks for plan in self._plans):
            measured = read_run(bench.writer.path)
            self._record([*bench.telemetry.findings(), *taken(began, bench.counters()),
                          *disturbed_blocks(measured.of(BlockState))])
            for plan in self._plans:
                self._record(accusations(measured.part(plan.part)))
            for plan in self._plans:
                self._record(judge_part(measured, plan))
            judged = read_run(bench.writer.path)
            for plan in self._plans:
                if plan.has_blocks:
                    self._record(selfcheck(judged.part(plan.part), plan.part == "sampling"))
        failed = any(case.status == "failed" for case in read_run(bench.writer.path).of(Case))
        return self.end("failed" if failed else "complete", EXIT_FAILED if failed else EXIT_OK)

    def _enter(self, plan: Plan) -> None:
        """From now on this is the part that runs."""
        self._plan = plan
        self._bench = self._whole if len(self._plans) == 1 else self._whole.of_part(plan)
        self._part_began = self._bench.clock()
        self._block_s: list[float] = []
        self._states = {number: state for number, state in self._recorded_blocks.items()
                        if number in plan.block_numbers}

    def _part(self, recorded: RecordedRun) -> None:
        bench, plan, config = self._bench, self._plan, self._request.config
        if plan.parity_steps and not self._parity_done(recorded):
            run_parity(bench, plan.parity_steps, config.batch_size if plan.part == "parity" else None)
        if plan.cells and not self._agreement_done(recorded):
            run_agreement(bench)
        cold = [case.status for case in recorded.of(Case) if case.case_id.startswith("cold-start")]
        if plan.part == self._plans[0].part and config.cold_start and (not cold or "failed" in cold):
            run_cold_starts(bench)
        if plan.has_blocks:
            bench.extras_done.update(extras_done(recorded, plan.part, config.epochs != 0, plan.case_prefix))
            self._blocks()
        if plan.quality is not None:
            run_quality(self._quality(recorded))

    def _quality(self, recorded: RecordedRun) -> QualityJob:
        dataset = self._request.dataset
        if dataset is None:
            raise RuntimeError("a quality part without a data set")
        return QualityJob(self._bench, self._request.config, self._request.training, dataset.name, recorded,
                          self._within_limit)

    def end(self, status: str, exit_code: int) -> RunEnded:
        """The last line of the journal."""
        return RunEnded.model_validate({"status": status, "exit_code": exit_code,
                                        "wall_s": self._bench.clock() - self._began})

    def _record(self, events: Iterable[Event]) -> None:
        for event in events:
            self._bench.find(event) if isinstance(event, Finding) else self._bench.writer.append(event)

    def _begin(self) -> None:
        bench, request = self._whole, self._request
        if request.resumed is not None:
            gone = unfinished_blocks(request.resumed)
            bench.writer.append(Resumed(resumed_utc=utc_now(), discarded_blocks=gone))
            self._open(request.resumed)
            before = request.resumed.last(EnvironmentRecorded)
            if before is not None and lasting(before) != lasting(request.environment):
                bench.writer.append(request.environment)
            if request.changed is not None:
                bench.find(request.changed)
            # The machine may be busy now that was not then; what is known already need not be said twice.
            known = {finding.code for finding in request.resumed.of(Finding)}
            for finding in request.findings:
                if finding.code not in known:
                    bench.find(finding)
            self._recorded_blocks = finished_blocks(request.resumed)
            bench.failed_before |= {case.case_id for case in request.resumed.of(Case) if case.status == "failed"}
            bench.measured_cases |= {case.case_id for case in request.resumed.of(Case)}
            bench.found |= {finding.code for finding in request.resumed.of(Finding)} - END_CODES
            return
        bench.writer.append(run_started(bench.writer.path.name, request, self._plans, bench.experiment))
        self._open(None)
        for finding in request.findings:
            bench.find(finding)

    def _open(self, resumed: RecordedRun | None) -> None:
        """Write what every journal begins with, unless the run that goes on has it: a kill may have come before."""
        bench, request = self._whole, self._request
        costs = [step_cost(bench.experiment, plan) for plan in self._plans if plan.has_blocks]
        opening = [event for event in (request.environment, request.dataset, *costs) if event is not None]
        for event in opening:
            had = resumed.of(type(event)) if resumed else []
            if not any(getattr(old, "part", None) == getattr(event, "part", None) for old in had):
                bench.writer.append(event)

    def _prewarm(self) -> None:
        """Compile caches first, one backend after another: two processes must never compile into one cache."""
        for backend, slot in {arm.backend: slot for slot, arm in reversed(self._plan.arms)}.items():
            arm = self._plan.arm(slot)
            if arm.spec.prepare_module is None:
                continue
            log_name = f"prewarm-{backend}"
            try:
                with self._bench.sessions.start(slot, arm, self._bench.log(log_name)) as session:
                    session.ask(life.Prewarm(arm=arm.name, device=self._plan.device), SLOW_LIMIT_S)
                self._bench.recovered(log_name, slot, log_name)
            except WorkerFailedError as error:
                self._bench.fail(log_name, slot, None, error, log_name)

    def _parity_done(self, recorded: RecordedRun) -> bool:
        """Whether every comparison has its result and its case, which an interruption may have come between."""
        have = {(result.arm_a, result.arm_b) for result in recorded.of(ParityResult)}
        said = {case.case_id for case in recorded.of(Case)}
        needed = [(c.a, c.b) for c in self._plan.comparisons if not c.selfcheck]
        return all(pair in have and f"parity-{pair[1]}" in said for pair in needed)

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
        return next(number for number in plan.block_numbers if number not in self._states)

    def _in_time(self, beyond_minimum: bool) -> bool:
        """Whether another block may start; running out of an explicit limit is a finding."""
        # The user's limit is one for the whole run, the default one for every part.
        began = self._began if self._plan.time_limit_s is not None else self._part_began
        spent = self._bench.clock() - began
        expected = spent + (statistics.median(self._block_s[-3:]) if self._block_s else 0.0)
        limit = self._plan.time_limit_s
        if limit is not None and expected > limit and self._block_s:
            self._bench.find_once(TIME_LIMIT.found(
                f"the time limit of {limit / 60:g} min ended the run after {len(self._states)} blocks",
                mild=beyond_minimum))
            return False
        soft = limit is None and self._request.config.blocks is None
        return not (beyond_minimum and soft and expected > SOFT_LIMIT_S)

    def _within_limit(self) -> bool:
        limit = self._plan.time_limit_s
        return limit is None or self._bench.clock() - self._began <= limit

    def _run_block(self, number: int, repeats: int | None) -> None:
        bench, plan = self._bench, self._plan
        shown = (number if repeats is None else repeats) - plan.first_block + 1
        text = f"block {shown}/{plan.max_blocks}" if repeats is None else f"block {shown} again"
        groups = 1 if plan.schedule == "resident" else len(plan.arms)
        start = bench.clock()
        with bench.progress.bar(plan.pairs * groups, text):
            self._states[number] = Block(bench, plan.block(number, repeats)).run()
        self._block_s.append(bench.clock() - start)
        bench.writer.summarise()
        state = self._states[number]
        if state.dirty:
            bench.progress.say(f"block {shown} was disturbed: {'; '.join(state.reasons)}")
        left = plan.min_blocks - len(self._states)
        if repeats is None and left > 0:
            minutes = left * self._block_s[-1] / 60
            bench.progress.say(f"about {minutes:.1f} min for the {left} blocks that are still needed")
