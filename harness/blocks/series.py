"""All blocks of a part: until a look is sure, more than are needed while there is time, the disturbed ones again."""

from __future__ import annotations

import statistics

from harness.bench import Bench, TimeIsUpError
from harness.part import Blocked
from harness.record.events import BlockState, Finding, PartName, Resumed
from harness.record.findings import TIME_LIMIT
from harness.record.run import RecordedRun, finished_blocks
from messages import choice, marked, recorded, shown, tell

ENOUGH = marked("for a narrower interval start a new run with a longer --time-limit")
# Without an explicit --blocks or --time-limit, blocks beyond the minimum must end within this.
SOFT_LIMIT_S = 300.0


class Series:
    """Measures the blocks of one part that the journal does not hold yet.

    Args:
        bench: the run, with the plan of this part.
        part: what is measured.
        recorded: what the run holds already.
    """

    def __init__(self, bench: Bench, part: Blocked, recorded: RecordedRun) -> None:
        self._bench, self._plan, self._part = bench, bench.plan, part
        self._resumed = bool(recorded.of(Resumed))
        self._states: dict[int, BlockState] = {number: state for number, state in finished_blocks(recorded).items()
                                               if number in self._plan.block_numbers}
        self._in_vain: set[int] = set()
        self._block_s: list[float] = []
        self._said = self._ended = False
        bench.once_done |= part.once_done(recorded, self._plan)
        if self._plan.share.number:
            # What a run measures once, its first part does.
            bench.once_done |= set(self._plan.slots)

    def run(self) -> None:
        """Measure them; a fault of one arm is in the journal, not raised.

        Raises:
            TimeIsUpError: the user's time limit is over before all that are needed are measured, or within a block.
        """
        repeats: list[int] = [s.block for s in self._states.values() if s.repeats is not None]
        while (number := self._next()) is not None:
            self._block(number, None)
        if self._resumed and self._states and set(self._plan.slots) - self._bench.once_done:
            # Every block is there, but what is measured once beside them was lost: it needs warm processes.
            repeats.append(max(self._states))
            self._block(self._fresh(), max(self._states))
        if self._part.again != "disturbed" or self._ended:
            # At its end by a look the verdicts are the same without the disturbed blocks, or they would not be sure.
            return
        dirty = [s.block for s in self._states.values() if s.dirty and s.repeats is None]
        already = {s.repeats for s in self._states.values() if s.repeats is not None}
        for block in [number for number in dirty if number not in already]:
            if len(repeats) >= self._plan.extra_blocks or not self._in_time(beyond_minimum=True):
                break
            repeats.append(block)
            self._block(self._fresh(), block)

    def _next(self) -> int | None:
        """The next block that is due; None when there are enough, no time or number is left, or nobody to measure."""
        plan = self._plan
        done = sum(1 for state in self._states.values() if state.repeats is None)
        everyone = [member for slot in plan.slots for member in self._part.members(slot)]
        if done >= plan.max_blocks or all(map(self._bench.given_up, everyone)):
            return None
        if self._look(done) or not self._in_time(beyond_minimum=done >= plan.min_blocks):
            return None
        tried = self._states.keys() | self._in_vain
        return next((number for number in plan.block_numbers if number not in tried), None)

    def _fresh(self) -> int:
        """A number behind those of all blocks, which no other part of the run has."""
        return max(self._states) + self._plan.share.of

    def _look(self, done: int) -> bool:
        """Whether the verdicts of so many blocks are sure at a planned look, or none can become so."""
        plan, bench = self._plan, self._bench
        if plan.looks.early(done) is None:
            return False
        going = [c for c in plan.comparisons if not (bench.given_up(c.a) or bench.given_up(c.b))]
        if not going:
            self._ended, what = True, tell("of every comparison an arm has failed for good")
        else:
            self._ended = self._part.decided(bench.writer.run.part(self._part.name), plan, going)
            what = (tell("every comparison is decided") if self._ended else
                    tell("not yet sure; the next one is after {blocks}", blocks=plan.next_look(done)))
        bench.progress.say(tell("look {number} of {looks}, after {blocks} blocks: {what}",
                                number=plan.looks.number(done), looks=len(plan.looks.blocks), blocks=done, what=what))
        return self._ended

    def _in_time(self, beyond_minimum: bool) -> bool:
        """Whether another block may start, which would end in time; that one beyond the minimum may not is a finding.

        Raises:
            TimeIsUpError: one that is needed may not.
        """
        limit, bench = self._plan.time_limit_s, self._bench
        # The user's limit is one for the whole run, the default one for every part.
        spent = bench.clock() - (bench.part_began if limit is None else bench.began)
        expected = spent + (statistics.median(self._block_s[-3:]) if self._block_s else 0.0)
        if limit is not None and expected > limit:
            count = len(self._states)
            where = recorded("after {n} block", n=1) if count == 1 else recorded("after {n} blocks", n=count)
            if not beyond_minimum:
                raise TimeIsUpError(where)
            if not self._said:
                self._said = True
                last = self._plan.suite.parts[-1].name == self._part.name
                bench.ledger.find(time_over(limit, where, mild=True, part=None if last else self._part.name))
            return False
        # A number of blocks that the user gave is needed and wanted alike.
        soft = limit is None and self._plan.max_blocks > self._plan.min_blocks
        return not (beyond_minimum and soft and expected > SOFT_LIMIT_S)

    def _block(self, number: int, repeats: int | None) -> None:
        bench, plan = self._bench, self._plan
        place = plan.block_numbers.index(number if repeats is None else repeats) + 1
        text = (tell("block {block}/{blocks}", block=place, blocks=plan.next_look(place - 1)) if repeats is None else
                tell("block {block} again", block=place))
        block = plan.block(number, repeats)
        start, measured = bench.clock(), self._part.block(bench, block)
        with bench.progress.bar(measured.ticks, text):
            state = measured.run()
        if self._part.again == "failed" and measured.failed:
            self._in_vain.add(number)
        else:
            self._states[number] = state
        # Later blocks are expected to take as long, without what is measured once.
        self._block_s.append(bench.clock() - start - measured.once_s)
        bench.writer.summarise()
        if state.dirty:
            bench.progress.say(tell("block {block} was disturbed: {reasons}", block=place,
                                    reasons="; ".join(map(shown, state.reasons))))
        left = plan.next_look(len(self._states) - 1) - len(self._states)
        if repeats is None and left > 0 and (plan.looks.blocks or len(self._states) < plan.min_blocks):
            minutes = f"{left * self._block_s[-1] / 60:.1f}"
            bench.progress.say(
                choice(left, "about {minutes} min for the {n} block until the next look",
                       "about {minutes} min for the {n} blocks until the next look", minutes=minutes)
                if plan.looks.blocks else
                choice(left, "about {minutes} min for the {n} block that is still needed",
                       "about {minutes} min for the {n} blocks that are still needed", minutes=minutes))


def time_over(limit_s: float, where: str, mild: bool, part: PartName | None = None) -> Finding:
    """That a time limit ended something.

    Args:
        limit_s: the limit.
        where: it was over.
        mild: whether there are as many blocks as a verdict needs, so that a run that ends so is complete.
        part: that was ended; None for the whole run.
    """
    limit = f"{limit_s / 60:g}"
    message = (recorded("the time limit of {limit} min ended the run {where}", limit=limit, where=where)
               if part is None else
               recorded("the time limit of {limit} min ended part {part} {where}", limit=limit, part=part, where=where))
    return TIME_LIMIT.found(message, mild=mild, advice=ENOUGH if mild else None)
