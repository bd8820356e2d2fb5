"""Blocks of suite scaling: fresh ranks of every size and arm, warmed up, measured in turn, strong, then weak."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.bench import COMMAND_LIMIT_S, SLOW_LIMIT_S, Bench
from harness.blocks.turns import Turns
from harness.blocks.warmup import brought_up, worker_line
from harness.blocks.windows import HAND_OVER_S, WINDOW_S
from harness.plan import BlockPlan
from harness.processes.group import together
from harness.protocol import group, timing, training
from harness.record.events import ArmSlot, Case, Mode, RanksSummed, ScaledWindow
from harness.suites.scaling.cells import MODES, Cell, Team
from harness.suites.scaling.gate import log_of, started
from impls.recipe.config import ExperimentConfig
from messages import choice, recorded, tell

if TYPE_CHECKING:
    from harness.suites.scaling.part import Scaling

WARM_STEPS = 20
WARM_S = 10.0
# Bytes of a message that latency alone decides, and how often sums are measured.
SHORT_FLOATS, SHORT_ROUNDS, LONG_ROUNDS = 256, 50, 10


class RanksBlock(Turns[Team]):
    """One block of teams of ranks.

    Attributes:
        part: the plan.
        mode: what is measured now.
    """

    part: Scaling

    def __init__(self, bench: Bench, plan: BlockPlan, part: Scaling) -> None:
        super().__init__(bench, plan, part)
        self.mode: Mode = "strong"

    @property
    def ticks(self) -> int:
        """Every pair in either mode."""
        return super().ticks * len(MODES)

    def slot(self, member: Team) -> ArmSlot:
        """The arm whose ranks they are."""
        return member.slot

    def log(self, member: Team) -> str:
        """The name of a team's log."""
        return log_of(member.slot, member.size, f"block-{self.number}")

    def _measure(self) -> None:
        for team in self._group:
            self.guarded(team, self._start)
        for self.mode in MODES:
            self.each(self._prepare)
            with self._watched():
                for pair in range(self.bench.plan.pairs):
                    self.turn(pair, self._windows)
                    self.bench.progress.advance()
            # Read and forgotten: they would be kept for ever.
            self.each(lambda team: self.live[team].session.ask(training.ReadLosses(), COMMAND_LIMIT_S))
        self.each(self._sums)
        for slot in dict.fromkeys(team.slot for team in self._group):
            if not any(team.slot == slot for team in self.failed):
                self.bench.ledger.measured(Case(
                    case_id=f"block-{self.number}-{slot}", arm=slot, block=self.number, status="measured",
                    log=f"logs/{self.log(Team(slot, 1))}.log"))

    def _start(self, team: Team) -> None:
        bench, arm = self.bench, self.bench.plan.arm(team.slot)
        bench.check_time(recorded("before block {block} was measured", block=self.number))
        bench.progress.status(choice(team.size, "{arm}: {n} rank starting", "{arm}: {n} ranks starting", arm=arm.name))
        one = self.live[team] = brought_up(
            bench, team.slot, self.log(team), partial(bench.build, experiment=bench.experiment),
            self.part.launch(arm, team.size))
        self.append(started(self.part, one.session, team.slot, self.number, one.created, one.built))
        if team.size == 1:
            self.append(worker_line(one.session, one.created, one.built, block=self.number,
                                    first_step_ns=one.step_ns[0], first_stamp_ns=one.start_ns[0]))

    def _prepare(self, team: Team) -> None:
        """Build what the mode needs, and step until code is compiled and memory is there."""
        self.bench.check_time(recorded("in block {block}", block=self.number))
        one = self.live[team]
        if self.mode == "weak":
            if team.size == 1:
                return
            self.bench.build(one.session, with_batch(self.bench.experiment, self._images(team)))
        first = one.session.ask(timing.Stepwise(steps=2), SLOW_LIMIT_S)
        one.typical_ns = float(first.step_ns[-1])
        steps = max(2, min(WARM_STEPS, one.steps_for(WARM_S)))
        warm = one.session.ask(timing.Stepwise(steps=steps), one.limit_s(steps))
        one.typical_ns = float(sorted(warm.step_ns)[len(warm.step_ns) // 2])

    def _windows(self, team: Team, pair: int, position: int) -> None:
        """One with gradients averaged, and one without; which comes first changes from pair to pair."""
        for averaged in ((True, False) if pair % 2 else (False, True)) if team.size > 1 else (True,):
            self._window(team, pair, position, averaged)

    def _window(self, team: Team, pair: int, position: int, averaged: bool) -> None:
        bench, one, cell = self.bench, self.live[team], Cell(self.mode, team.size)
        session, steps = one.session, one.steps_for(WINDOW_S)
        bench.progress.status(f"{session.arm.name}: {cell.name}" if averaged else
                              tell("{arm}: {cell}, not averaged", arm=session.arm.name, cell=cell.name))
        if team.size > 1:
            session.ask(group.Average(on=averaged), COMMAND_LIMIT_S)
        bench.sleep(HAND_OVER_S)
        told = session.ask_all(timing.Stepwise(steps=steps), one.limit_s(steps))
        whole = together(told, session.hosts)
        self.append(ScaledWindow(
            part=self.part.name, arm=team.slot, block=self.number, mode=self.mode, size=team.size, averaged=averaged,
            pair=pair, position=position, steps=steps, images=self._images(team), start_ns=whole.start_ns[0],
            time_ns=sum(whole.step_ns), rank_ns=[sum(one.step_ns) for one in told]))

    def _sums(self, team: Team) -> None:
        if team.size == 1:
            return
        one = self.live[team]
        for floats, rounds in ((SHORT_FLOATS, SHORT_ROUNDS), (one.built.parameter_count, LONG_ROUNDS)):
            told = one.session.ask(group.Reduce(floats=floats, rounds=rounds), SLOW_LIMIT_S)
            self.append(RanksSummed(part=self.part.name, arm=team.slot, block=self.number, size=team.size,
                                    floats=floats, round_ns=told.round_ns))

    def _images(self, team: Team) -> int:
        """Of a step, of all ranks together."""
        return Cell(self.mode, team.size).images(self.bench.experiment.train.batch_size)


def with_batch(experiment: ExperimentConfig, images: int) -> ExperimentConfig:
    """The recipe with so many images a step."""
    return experiment.model_copy(update={"train": experiment.train.model_copy(update={"batch_size": images})})
