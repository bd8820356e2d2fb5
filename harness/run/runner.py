"""A whole run: every part made ready, measured, judged, one after another. Side effects happen here and below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from harness.bench import SLOW_LIMIT_S, Bench, TimeIsUpError
from harness.blocks.coldstart import run_cold_starts
from harness.blocks.series import time_over
from harness.machine.counters import taken
from harness.machine.disturbance import disturbed_blocks
from harness.plan import Plan
from harness.processes.session import WorkerFailedError
from harness.protocol import life
from harness.record.events import BLOCKS, COLD, CORE, GATE, BlockState, Case, RunEnded
from harness.record.run import finished_blocks
from harness.run.start import Opening, begin
from impls.errors import EXIT_FAILED, EXIT_OK


class Runner:
    """Runs the parts of a suite one after another into one run folder.

    Args:
        bench: the run's surroundings, with the plan of its first part.
        opening: how it begins.
    """

    def __init__(self, bench: Bench, opening: Opening) -> None:
        self._bench = replace(bench, began=bench.clock())
        self._opening, self._plans = opening, opening.job.plans
        self._spent_s: dict[str, float] = {}

    def run(self) -> RunEnded:
        """Everything up to the verdicts; a fault of one arm is in the journal, not raised.

        Raises:
            UsageError: something the user can mend, found before anything was measured.
            KeyboardInterrupt: the caller ends the journal.
        """
        bench, ledger = self._bench, self._bench.ledger
        before = bench.counters()
        begin(self._opening, ledger)
        bench.telemetry.start()
        ledger.look_around()
        unfinished = self._measure_all()
        measured = bench.writer.run
        if any(plan.timed for plan in self._plans):
            ledger.record([*bench.telemetry.findings(), *taken(before, bench.counters()),
                           *disturbed_blocks(measured.of(BlockState))])
        for plan in self._plans:
            bench.of_part(plan).ledger.record(plan.part.judge(measured.part(plan.part.name), plan))
        failed = any(case.status == "failed" for case in bench.writer.run.of(Case))
        status = "interrupted" if unfinished else "failed" if failed else "complete"
        return self.end(status, EXIT_OK if status == "complete" else EXIT_FAILED)

    def end(self, status: str, exit_code: int) -> RunEnded:
        """The last line of the journal."""
        return RunEnded.model_validate({"status": status, "exit_code": exit_code,
                                        "wall_s": self._bench.clock() - self._bench.began,
                                        "spent_s": self._spent_s})

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Count what is done within for `RunEnded.spent_s`, also where it is cut short."""
        began = self._bench.clock()
        try:
            yield
        finally:
            self._spent_s[what] = self._spent_s.get(what, 0.0) + self._bench.clock() - began

    def _measure_all(self) -> bool:
        """Every part; whether the user's time limit came before all of them had what they need."""
        bench, at = self._bench, self._plans[0]
        try:
            with self._timed(CORE):
                self._prewarm()
            for plan in self._plans:
                plan.part.ready(bench.of_part(plan))
            for at in self._plans:
                self._measure(at)
        except TimeIsUpError as error:
            enough = at is self._plans[-1] and at.timed is not None and self._blocks_of(at) >= at.min_blocks
            bench.ledger.find(time_over(at.time_limit_s or 0.0, str(error), mild=enough))
            return not enough
        return False

    def _blocks_of(self, plan: Plan) -> int:
        return sum(number in plan.block_numbers and state.repeats is None
                   for number, state in finished_blocks(self._bench.writer.run).items())

    def _measure(self, plan: Plan) -> None:
        """Find out whether the arms do the same, then measure them: what the journal does not hold yet."""
        bench, recorded = self._bench.of_part(plan), self._bench.writer.run
        with self._timed(GATE):
            plan.part.gate(bench, recorded)
        cold = [case.status for case in recorded.of(Case) if case.case_id.startswith("cold-start")]
        asked = self._opening.job.options.cold_start and not plan.share.number
        if plan is self._plans[0] and asked and (not cold or "failed" in cold):
            with self._timed(COLD):
                run_cold_starts(bench)
        with self._timed(BLOCKS):
            plan.part.measure(bench, recorded)

    def _prewarm(self) -> None:
        """Compile caches first, one backend after another: two processes must never compile into one cache."""
        bench, plan = self._bench, self._plans[0]
        for backend, slot in {arm.backend: slot for slot, arm in reversed(plan.arms)}.items():
            arm = plan.arm(slot)
            if arm.spec.prepares("prewarm") is None:
                continue
            log_name = f"prewarm-{backend}"
            try:
                with bench.sessions.start(slot, arm, bench.ledger.log(log_name)) as session:
                    session.ask(life.Prewarm(arm=arm.name, device=plan.device), SLOW_LIMIT_S)
                bench.ledger.recovered(log_name, slot, log_name)
            except WorkerFailedError as error:
                bench.ledger.fail(log_name, slot, None, error, log_name)
