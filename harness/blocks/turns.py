"""What every block is, whatever takes turns in it: who lives and who has failed, whose turn it is, the block's line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from harness.bench import Bench
from harness.blocks.warmup import Started
from harness.machine.disturbance import Disturbance
from harness.part import Blocked
from harness.plan import BlockPlan, turn_order
from harness.processes.session import WorkerFailedError
from harness.record.events import ArmSlot, BlockState, Event
from messages import marked, recorded

K = TypeVar("K", bound=Hashable)
# What journals of before hold; where somebody reads them, it is found here.
FORMER = (marked("before block {block}"),)


class Turns(ABC, Generic[K]):
    """Measures one block and writes it to the journal.

    What takes turns are the part's members: arms, or whatever else it makes of each.

    Attributes:
        bench: the run.
        part: what is measured.
        number: the block's number.
        live: those that run now and have not failed in it.
        failed: those that have.
        disturbance: what speaks against it.
        began: when it began, on the bench's clock.
        once_s: what was spent on that which is measured once in a run.
        groups: of arms that take turns with one another in it.
        done: how many of them have had theirs, the one whose turn it is included.
    """

    def __init__(self, bench: Bench, plan: BlockPlan, part: Blocked) -> None:
        self.bench, self.part, self.number, self._plan = bench, part, plan.block, plan
        self.live: dict[K, Started] = {}
        self.failed: set[K] = set()
        self.disturbance = Disturbance({slot: arm.name for slot, arm in bench.plan.arms}, bench.cpu_ns, bench.busy_ns,
                                       lambda: round(bench.clock() * 1e9), bench.counters)
        self.began, self.once_s = bench.clock(), 0.0
        self._group: list[K] = []
        self.done, self.groups = 0, len(bench.plan.turns(plan))

    @abstractmethod
    def slot(self, member: K) -> ArmSlot:
        """Whose it is."""

    @abstractmethod
    def log(self, member: K) -> str:
        """The name of its log."""

    @abstractmethod
    def _measure(self) -> None:
        """Start those of the group whose turn it is, and measure them."""

    @property
    def ticks(self) -> int:
        """How often it tells that it is a step further."""
        return self.bench.plan.pairs * self.groups

    def run(self) -> BlockState:
        """Measure all that have not failed for good; the state also goes into the journal."""
        bench = self.bench
        turns = [[member for slot in group for member in self.part.members(slot)]
                 for group in bench.plan.turns(self._plan)]
        may = {member for group in turns for member in group if self._may_run(member)}
        bench.ledger.look_around(self.number)
        for self.done, group in enumerate(turns, 1):
            self._group = [member for member in group if member in may]
            if not self._group:
                continue
            try:
                self._measure()
            except BaseException:
                self._stop(at_once=True)
                raise
            self._stop()
        for member in may:
            bench.failures[member] = bench.failures[member] + 1 if member in self.failed else 0
        bench.ledger.look_around(self.number)
        reasons = self._reasons()
        state = BlockState(block=self.number, order_seed=self._plan.order_seed, dirty=bool(reasons), reasons=reasons,
                           repeats=self._plan.repeats, part=self.part.name)
        self.append(state)
        return state

    def append(self, event: Event) -> None:
        """Write one line."""
        self.bench.writer.append(event)

    def turn(self, pair: int, work: Callable[[K, int, int], None], what: str = "") -> None:
        """Let every member do its work once.

        Args:
            pair: its number, which with the block's recorded seed says who begins.
            work: takes the member, the pair, and the position in it.
            what: is done, for people.

        Raises:
            TimeIsUpError: the user's time limit is over, so that the block stays unfinished.
        """
        self.bench.check_time(recorded("in block {block}", block=self.number))
        # From the plan's order of arms, so that the recorded seed tells it.
        every = [member for slot in self.bench.plan.slots for member in self.part.members(slot)]
        group = [member for member in every if member in self._group]
        for position, member in enumerate(turn_order(group, self._plan.order_seed, pair)):
            if member in self.live:
                self.bench.progress.status(f"{self.live[member].session.arm.name}: {what}" if what else "")
                self.guarded(member, work, pair, position)

    def each(self, work: Callable[[K], object], what: str = "") -> None:
        """Let every member do, in the order of the block, what is not measured."""
        for member in self._group:
            if member in self.live:
                if what:
                    self.bench.progress.status(f"{self.live[member].session.arm.name}: {what}")
                self.guarded(member, work)

    def guarded(self, member: K, work: Callable[..., object], *args: int) -> None:
        """Do one member's work; its failure ends this member in this block and nothing else."""
        try:
            work(member, *args)
        except WorkerFailedError as error:
            self.failed.add(member)
            started = self.live.pop(member, None)
            if started is not None:
                started.session.kill()
            self.bench.ledger.fail(self._case(member), self.slot(member), self.number, error, self.log(member))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What disturbs the windows within counts against the block."""
        self.disturbance.begin([pid for one in self.live.values() for pid in one.session.local_pids])
        yield
        self.disturbance.end()

    def _reasons(self) -> list[str]:
        """What speaks against the block, a sentence each."""
        return self.disturbance.reasons()

    def _may_run(self, member: K) -> bool:
        return not self.bench.given_up(member)

    def _stop(self, at_once: bool = False) -> None:
        for one in self.live.values():
            one.session.kill() if at_once else one.session.stop()
        self.live.clear()

    def _case(self, member: K) -> str:
        return f"block-{self.number}-{member}"
