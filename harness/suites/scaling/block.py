"""Blocks of suite scaling: fresh ranks of every size and arm, warmed up, measured in turn, strong, then weak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from harness.bench import COMMAND_LIMIT_S, MAX_FAILURES, SLOW_LIMIT_S, Bench
from harness.blocks.warmup import Started
from harness.blocks.windows import HAND_OVER_S, WINDOW_S
from harness.machine.disturbance import Disturbance
from harness.processes.group import together
from harness.processes.session import WorkerFailedError
from harness.protocol import group, timing, training
from harness.record.events import ArmSlot, BlockState, Case, Mode, RanksSummed, ScaledWindow, WorkerStarted
from harness.record.run import RecordedRun, finished_blocks
from harness.suites.scaling.cells import MODES, Cell, sizes
from harness.suites.scaling.gate import log_of, started
from impls.recipe.config import ExperimentConfig
from messages import choice, recorded, shown, tell

if TYPE_CHECKING:
    from harness.suites.scaling.part import Scaling

WARM_STEPS = 20
WARM_S = 10.0
# Bytes of a message that latency alone decides, and how often sums are measured.
SHORT_FLOATS, SHORT_ROUNDS, LONG_ROUNDS = 256, 50, 10


@dataclass
class Unit:
    """One arm at one size.

    Attributes:
        slot: the arm.
        size: ranks.
        started: its session, with how long its steps take in the mode that is measured.
        cell: what is measured now.
    """

    slot: ArmSlot
    size: int
    started: Started
    cell: Cell = field(init=False)

    def __post_init__(self) -> None:
        self.cell = Cell("strong", self.size)


def measure(bench: Bench, part: Scaling, run: RecordedRun) -> None:
    """Measure the blocks that a run lacks; one in which a group failed is done again, as long as there are numbers.

    Raises:
        TimeIsUpError: the user's time limit is over.
    """
    plan = bench.plan
    done = set(finished_blocks(run)) & set(plan.block_numbers)
    tried = {state.block for state in run.of(BlockState)} - done
    failures: Counter[tuple[ArmSlot, int]] = Counter()
    for number in plan.block_numbers:
        if len(done) >= plan.min_blocks:
            return
        if number in done or number in tried:
            continue
        bench.check_time(recorded("before block {block}", block=number))
        text = tell("block {block}/{blocks}", block=number - plan.first_block + 1, blocks=plan.min_blocks)
        with bench.progress.bar(plan.pairs * len(MODES), text):
            if Measured(bench, part, number, failures).run():
                done.add(number)
        bench.writer.summarise()


class Measured:
    """One block.

    Args:
        bench: the run.
        part: the plan.
        number: of the block.
        failures: of every group, in blocks in a row: one that failed too often is left out.
    """

    def __init__(self, bench: Bench, part: Scaling, number: int, failures: Counter[tuple[ArmSlot, int]]) -> None:
        self.bench, self.part, self.number, self.failures = bench, part, number, failures
        self.plan = bench.plan.block(number)
        self.units: list[Unit] = []
        self.failed: set[tuple[ArmSlot, int]] = set()
        self.disturbance = Disturbance({slot: arm.name for slot, arm in bench.plan.arms}, bench.cpu_ns, bench.busy_ns,
                                       lambda: round(bench.clock() * 1e9), bench.counters)

    def run(self) -> bool:
        """Measure everything; whether no group failed."""
        bench = self.bench
        bench.ledger.look_around(self.number)
        try:
            for arms in bench.plan.turns(self.plan):
                self._arms(arms)
                self._stop()
        except BaseException:
            self._stop(at_once=True)
            raise
        reasons = self.disturbance.reasons()
        for slot, _ in bench.plan.arms:
            for size in sizes(self.part.most):
                if (slot, size) in self.failed:
                    self.failures[slot, size] += 1
                elif self.failures[slot, size] < MAX_FAILURES:
                    self.failures[slot, size] = 0
            if not any(failed == slot for failed, _ in self.failed):
                bench.ledger.measured(Case(case_id=f"block-{self.number}-{slot}", arm=slot, block=self.number,
                                           status="measured", log=f"logs/{self._log(slot, 1)}.log"))
        bench.writer.append(BlockState(block=self.number, order_seed=self.plan.order_seed, dirty=bool(reasons),
                                       reasons=reasons, part=self.part.name))
        if reasons:
            bench.progress.say(tell("block {block} was disturbed: {reasons}", block=self.number + 1,
                                    reasons="; ".join(map(shown, reasons))))
        return not self.failed

    def _arms(self, arms: Sequence[ArmSlot]) -> None:
        for slot in arms:
            for size in sizes(self.part.most):
                if self.failures[slot, size] < MAX_FAILURES:
                    self._open(slot, size)
        for mode in MODES:
            for unit in list(self.units):
                self._guarded(unit, partial(self._prepare, mode=mode))
            self.disturbance.begin([pid for unit in self.units for pid in unit.started.session.local_pids])
            for pair in range(self.bench.plan.pairs):
                self._turns(mode, pair)
                self.bench.progress.advance()
            self.disturbance.end()
            for unit in list(self.units):
                # Read and forgotten: they would be kept for ever.
                self._guarded(unit, lambda one: one.started.session.ask(training.ReadLosses(), COMMAND_LIMIT_S))
        for unit in [unit for unit in self.units if unit.size > 1]:
            self._guarded(unit, self._sums)

    def _open(self, slot: ArmSlot, size: int) -> None:
        bench, arm = self.bench, self.bench.plan.arm(slot)
        bench.progress.status(choice(size, "{arm}: {n} rank starting", "{arm}: {n} ranks starting", arm=arm.name))
        try:
            session, created = bench.open(slot, self._log(slot, size), by=self.part.launch(arm, size))
            try:
                built = bench.build(session, bench.experiment)
                first = session.ask(timing.Stepwise(steps=1), SLOW_LIMIT_S)
            except BaseException:
                session.kill()
                raise
        except WorkerFailedError as error:
            self._fail(slot, size, error)
            return
        bench.writer.append(started(self.part, session, slot, self.number, created, built))
        if size == 1:
            bench.writer.append(WorkerStarted(
                arm=slot, block=self.number, pid=session.pid, spawn_ns=session.spawn_ns, import_ns=created.import_ns,
                build_ns=built.build_ns, first_step_ns=first.step_ns[0], first_stamp_ns=first.start_ns[0],
                parameter_count=built.parameter_count, info=built.info))
        self.units.append(Unit(slot, size, Started(session, created, built, typical_ns=float(first.step_ns[0]))))

    def _prepare(self, unit: Unit, mode: Mode) -> None:
        """Build what the mode needs, and step until code is compiled and memory is there."""
        self.bench.check_time(recorded("in block {block}", block=self.number))
        before, unit.cell = unit.cell, Cell(mode, unit.size)
        batch = self.bench.experiment.train.batch_size
        if unit.cell.images(batch) != before.images(batch):
            self.bench.build(unit.started.session, with_batch(self.bench.experiment, unit.cell.images(batch)))
        if mode == "weak" and unit.size == 1:
            return
        first = unit.started.session.ask(timing.Stepwise(steps=2), SLOW_LIMIT_S)
        unit.started.typical_ns = float(first.step_ns[-1])
        steps = max(2, min(WARM_STEPS, unit.started.steps_for(WARM_S)))
        warm = unit.started.session.ask(timing.Stepwise(steps=steps), unit.started.limit_s(steps))
        unit.started.typical_ns = float(sorted(warm.step_ns)[len(warm.step_ns) // 2])

    def _turns(self, mode: Mode, pair: int) -> None:
        """Every group once with gradients averaged, and once without; who begins changes from pair to pair."""
        self.bench.check_time(recorded("in block {block}", block=self.number))
        units = list(self.units)
        first = (self.plan.order_seed + pair) % max(1, len(units))
        order = [*units[first:], *units[:first]]
        for position, unit in enumerate(order[::-1] if pair % 2 else order):
            for averaged in ((True, False) if pair % 2 else (False, True)) if unit.size > 1 else (True,):
                if unit in self.units:
                    self._guarded(unit, partial(self._window, pair=pair, position=position, averaged=averaged))

    def _window(self, unit: Unit, pair: int, position: int, averaged: bool) -> None:
        bench, session = self.bench, unit.started.session
        bench.progress.status(f"{session.arm.name}: {unit.cell.name}" if averaged else
                              tell("{arm}: {cell}, not averaged", arm=session.arm.name, cell=unit.cell.name))
        steps = unit.started.steps_for(WINDOW_S)
        if unit.size > 1:
            session.ask(group.Average(on=averaged), COMMAND_LIMIT_S)
        bench.sleep(HAND_OVER_S)
        told = session.ask_all(timing.Stepwise(steps=steps), unit.started.limit_s(steps))
        whole = together(told, session.hosts)
        bench.writer.append(ScaledWindow(
            part=self.part.name, arm=unit.slot, block=self.number, mode=unit.cell.mode, size=unit.size,
            averaged=averaged, pair=pair, position=position, steps=steps,
            images=unit.cell.images(bench.experiment.train.batch_size), start_ns=whole.start_ns[0],
            time_ns=sum(whole.step_ns), rank_ns=[sum(one.step_ns) for one in told]))

    def _sums(self, unit: Unit) -> None:
        for floats, rounds in ((SHORT_FLOATS, SHORT_ROUNDS), (unit.started.built.parameter_count, LONG_ROUNDS)):
            told = unit.started.session.ask(group.Reduce(floats=floats, rounds=rounds), SLOW_LIMIT_S)
            self.bench.writer.append(RanksSummed(part=self.part.name, arm=unit.slot, block=self.number, size=unit.size,
                                                 floats=floats, round_ns=told.round_ns))

    def _guarded(self, unit: Unit, work: Callable[[Unit], object]) -> None:
        """Do one group's work; its failure ends this group in this block and nothing else."""
        try:
            work(unit)
        except WorkerFailedError as error:
            unit.started.session.kill()
            self.units.remove(unit)
            self._fail(unit.slot, unit.size, error)

    def _fail(self, slot: ArmSlot, size: int, error: WorkerFailedError) -> None:
        self.failed.add((slot, size))
        self.bench.ledger.fail(f"block-{self.number}-{slot}-{size}", slot, self.number, error, self._log(slot, size))

    def _log(self, slot: ArmSlot, size: int) -> str:
        return log_of(slot, size, f"block-{self.number}")

    def _stop(self, at_once: bool = False) -> None:
        for unit in self.units:
            unit.started.session.kill() if at_once else unit.started.session.stop()
        self.units.clear()


def with_batch(experiment: ExperimentConfig, images: int) -> ExperimentConfig:
    """The recipe with so many images a step."""
    return experiment.model_copy(update={"train": experiment.train.model_copy(update={"batch_size": images})})
