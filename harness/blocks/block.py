"""One block: a fresh process of every arm, each brought to its steady state, then measured in alternating windows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness.bench import COMMAND_LIMIT_S, MAX_FAILURES, Bench
from harness.blocks.once import measure_once
from harness.blocks.turns import Turns
from harness.blocks.warmup import Started, check_cache, start, warm_up
from harness.blocks.windows import HAND_OVER_S, WINDOW_S, alternate_steps, shifts
from harness.part import Timed
from harness.plan import BlockPlan
from harness.processes.session import WorkerFailedError
from harness.protocol import timing
from harness.record.events import ArmSlot, BlockState, Case, Memory
from messages import recorded, tell


class Block(Turns[ArmSlot]):
    """Measures one block of arms, each a process.

    Attributes:
        part: what is measured.
        fresh: the arms that live and whose once-a-run measurements are due.
        spent: nanoseconds of a step in every stepwise window, by arm and pair.
    """

    part: Timed

    def __init__(self, bench: Bench, plan: BlockPlan, part: Timed) -> None:
        super().__init__(bench, plan, part)
        self.fresh: dict[ArmSlot, Started] = {}
        self.spent: dict[ArmSlot, dict[int, float]] = {}
        self._groups_s: list[float] = []
        self._warmed: dict[ArmSlot, int] = {}

    def run(self) -> BlockState:
        """As every block, with the monitors' word on it."""
        self.bench.telemetry.mark()
        return super().run()

    def slot(self, member: ArmSlot) -> ArmSlot:
        """The arm itself."""
        return member

    def log(self, member: ArmSlot) -> str:
        """The name of an arm's log."""
        return f"{member}-block-{self.number}"

    def beside(self, name: str, arm: Started, work: Callable[[], None]) -> bool:
        """Do something of an arm that is a case of its own: its failure leaves the block's times alone."""
        slot, log = arm.session.slot, arm.session.log
        case_id = f"{self.bench.plan.case_prefix}{name}-{slot}"
        try:
            work()
        except WorkerFailedError as error:
            self.bench.ledger.fail(case_id, slot, None, error, log.stem)
            return False
        self.bench.ledger.measured(Case(case_id=case_id, arm=slot, block=None, status="measured",
                                        log=f"logs/{log.name}"))
        return True

    def _measure(self) -> None:
        for slot in self._group:
            self.guarded(slot, partial(start, self))
        self.bench.telemetry.watch({slot: arm.session.pid for slot, arm in self.live.items()})
        for slot in list(self.live):
            self.guarded(slot, self._warm_up)
        self._estimate()
        with self._watched():
            alternate_steps(self)
            self.part.windows(self)
        for slot in list(self.live):
            self.guarded(slot, self._read)
        self.part.after(self)
        self.fresh = {slot: arm for slot, arm in self.live.items() if slot not in self.bench.once_done}
        # Where the time ends in these the block is measured again, so that they are whole and the same for all arms.
        began = self.bench.clock()
        measure_once(self)
        self.once_s += self.bench.clock() - began

    def _warm_up(self, slot: ArmSlot) -> None:
        warm_up(self, self.live[slot])
        self._warmed[slot] = len(self.live[slot].step_ns)

    def _read(self, slot: ArmSlot) -> None:
        arm = self.live[slot]
        self.part.read(self, arm)
        check_cache(self, arm)
        memory = arm.session.ask(timing.ReadMemory(), COMMAND_LIMIT_S)
        self.append(Memory(arm=slot, block=self.number, **memory.model_dump(exclude={"kind"})))
        self.bench.ledger.measured(Case(case_id=self._case(slot), arm=slot, block=self.number, status="measured",
                                        log=f"logs/{self.log(slot)}.log"))

    def _estimate(self) -> None:
        """Say from the steps measured so far how long the run will take; groups yet to come are taken to be alike."""
        if self.number != self.bench.plan.share.number or not self.live:
            return
        plan = self.bench.plan
        steps = {arm.session.arm.name: arm.typical_ns / 1e9 for arm in self.live.values()}
        starts = sum((arm.session.spawn_ns + arm.created.import_ns + arm.built.build_ns + sum(arm.step_ns)) / 1e9
                     for arm in self.live.values())
        windows = sum(max(second, WINDOW_S) + HAND_OVER_S for second in steps.values()) * plan.pairs
        self._groups_s.append(starts + windows + self.part.windows_s(plan.device, len(steps))
                              + self.part.after_s(self))
        block_s = sum(self._groups_s) / len(self._groups_s) * self.groups
        known = ", ".join(f"{name} {second:.3g} s" for name, second in steps.items())
        self.bench.progress.say(tell(
            "a step takes: {known}; a block takes about {seconds} s, the {blocks} blocks that are needed about "
            "{minutes} min", known=known, seconds=f"{block_s:.0f}", blocks=plan.fewest_blocks,
            minutes=f"{plan.fewest_blocks * block_s / 60:.1f}"))

    def _reasons(self) -> list[str]:
        late = shifts(self.bench.plan.comparisons, self.spent)
        for slot in {slot for comparison in late for slot in (comparison.a, comparison.b)}:
            # It was steady only after the warm-up, if it was this arm: as good as a warm-up of all its steps.
            self.bench.warm_ups[slot][-1] = self._warmed[slot]
        return [*super()._reasons(), *self.bench.telemetry.disturbances(), *late.values()]

    def _may_run(self, member: ArmSlot) -> bool:
        if super()._may_run(member):
            return True
        self.bench.ledger.case(Case(case_id=self._case(member), arm=member, block=self.number, status="skipped",
                                    reason=recorded("it failed in {n} blocks in a row", n=MAX_FAILURES)))
        return False

    def _stop(self, at_once: bool = False) -> None:
        self.bench.telemetry.watch({})
        super()._stop(at_once)
