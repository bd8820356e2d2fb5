"""One block: a fresh process of every arm, each brought to its steady state, then measured in alternating windows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness.bench import COMMAND_LIMIT_S, MAX_FAILURES, Bench
from harness.blocks.once import measure_once
from harness.blocks.warmup import Started, check_cache, start, warm_up
from harness.blocks.windows import HAND_OVER_S, WINDOW_S, alternate_steps, shifts
from harness.machine.disturbance import Disturbance
from harness.part import Timed
from harness.plan import BlockPlan, turn_order
from harness.processes.session import WorkerFailedError
from harness.protocol import timing
from harness.record.events import ArmSlot, BlockState, Case, Event, Memory
from messages import recorded, tell


class Block:
    """Measures one block and writes it to the journal.

    Attributes:
        bench: the run.
        part: what is measured.
        number: the block's number.
        live: the arms that run now and have not failed in it.
        fresh: those of them whose once-a-run measurements are due.
        spent: nanoseconds of a step in every stepwise window, by arm and pair.
        disturbance: what speaks against it.
        began: when it began, on the bench's clock.
        once_s: what was spent on that which is measured once in a run.
        groups: of arms that take turns with one another in it.
        done: how many of them have had theirs, the one whose turn it is included.
    """

    def __init__(self, bench: Bench, plan: BlockPlan, part: Timed) -> None:
        self.bench, self.part, self.number, self._plan = bench, part, plan.block, plan
        self.live: dict[ArmSlot, Started] = {}
        self.fresh: dict[ArmSlot, Started] = {}
        self.spent: dict[ArmSlot, dict[int, float]] = {}
        self.disturbance = Disturbance({slot: arm.name for slot, arm in bench.plan.arms}, bench.cpu_ns, bench.busy_ns,
                                       lambda: round(bench.clock() * 1e9), bench.counters)
        self.began, self.once_s = bench.clock(), 0.0
        self._group: list[ArmSlot] = []
        self.done, self.groups = 0, len(bench.plan.turns(plan))
        self._groups_s: list[float] = []
        self._failed: set[ArmSlot] = set()
        self._warmed: dict[ArmSlot, int] = {}

    def run(self) -> BlockState:
        """Measure every arm that has not failed for good; the state also goes into the journal."""
        bench, plan = self.bench, self.bench.plan
        turns = plan.turns(self._plan)
        may = {slot for group in turns for slot in group if self._may_run(slot)}
        bench.telemetry.mark()
        bench.ledger.look_around(self.number)
        for self.done, group in enumerate(turns, 1):
            self._group = [slot for slot in group if slot in may]
            if not self._group:
                continue
            try:
                self._measure()
            except BaseException:
                self._stop(at_once=True)
                raise
            self._stop()
        for slot in may:
            bench.failures[slot] = bench.failures[slot] + 1 if slot in self._failed else 0
        bench.ledger.look_around(self.number)
        late = shifts(plan.comparisons, self.spent)
        for slot in {slot for comparison in late for slot in (comparison.a, comparison.b)}:
            # It was steady only after the warm-up, if it was this arm: as good as a warm-up of all its steps.
            bench.warm_ups[slot][-1] = self._warmed[slot]
        reasons = [*self.disturbance.reasons(), *bench.telemetry.disturbances(), *late.values()]
        state = BlockState(block=self.number, order_seed=self._plan.order_seed, dirty=bool(reasons), reasons=reasons,
                           repeats=self._plan.repeats, part=self.part.name)
        self.append(state)
        return state

    def append(self, event: Event) -> None:
        """Write one line."""
        self.bench.writer.append(event)

    def log(self, slot: ArmSlot) -> str:
        """The name of an arm's log."""
        return f"{slot}-block-{self.number}"

    def turn(self, pair: int, work: Callable[[ArmSlot, int, int], None], what: str = "") -> None:
        """Let every arm do its work once.

        Args:
            pair: its number, which with the block's recorded seed says who begins.
            work: takes the arm's slot, the pair, and the position in it.
            what: is done, for people.

        Raises:
            TimeIsUpError: the user's time limit is over, so that the block stays unfinished.
        """
        self.bench.check_time(recorded("in block {block}", block=self.number))
        # From the plan's order of arms, so that the recorded seed tells it.
        group = [slot for slot in self.bench.plan.slots if slot in self._group]
        for position, slot in enumerate(turn_order(group, self._plan.order_seed, pair)):
            if slot in self.live:
                self.bench.progress.status(f"{self.live[slot].session.arm.name}: {what}" if what else "")
                self.guarded(slot, work, pair, position)

    def each(self, work: Callable[[ArmSlot], None], what: str) -> None:
        """Let every arm do, in the order of the block, what is not measured."""
        for slot in self._group:
            if slot in self.live:
                self.bench.progress.status(f"{self.live[slot].session.arm.name}: {what}")
                self.guarded(slot, work)

    def guarded(self, slot: ArmSlot, work: Callable[..., None], *args: int) -> None:
        """Do one arm's work; its failure ends this arm in this block and nothing else."""
        try:
            work(slot, *args)
        except WorkerFailedError as error:
            self._failed.add(slot)
            started = self.live.pop(slot, None)
            if started is not None:
                started.session.kill()
            self.bench.ledger.fail(self._case(slot), slot, self.number, error, self.log(slot))

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
        self.disturbance.begin([arm.session.pid for arm in self.live.values()])
        alternate_steps(self)
        self.part.windows(self)
        self.disturbance.end()
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

    def _may_run(self, slot: ArmSlot) -> bool:
        if not self.bench.given_up(slot):
            return True
        self.bench.ledger.case(Case(case_id=self._case(slot), arm=slot, block=self.number, status="skipped",
                                    reason=recorded("it failed in {n} blocks in a row", n=MAX_FAILURES)))
        return False

    def _stop(self, at_once: bool = False) -> None:
        self.bench.telemetry.watch({})
        for arm in self.live.values():
            arm.session.kill() if at_once else arm.session.stop()
        self.live.clear()

    def _case(self, slot: ArmSlot) -> str:
        return f"block-{self.number}-{slot}"
