"""Is the machine too busy to measure on? Told from the first pairs of a block, with what to expect of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.record.events import ArmSlot
from harness.record.findings import APART, BUSY_MACHINE
from impls.devices import usable_cpus
from messages import recorded

if TYPE_CHECKING:
    from harness.blocks.block import Block

# As long as alone, so many times, and in every one of an arm's last windows: noise does not get there.
MOST_SLOWDOWN = 3.0
LOOK_PAIRS = 3
# Pairs that take so long are looked at before there are so many.
LOOK_S = 10.0
# Of all processors: a load average is a minute old, and may be that of a machine of which this process sees a part.
LEAST_OTHERS_SHARE = 0.50


class Pace:
    """Watches how fast a block's pairs come.

    Args:
        block: whose arms are warmed up; its windows begin now.
    """

    def __init__(self, block: Block) -> None:
        self._block, self._began = block, block.bench.clock()

    def look(self, done: int) -> None:
        """Say once in a run that the machine is busy, as soon as that can be told; `done` pairs are measured."""
        bench, spent_s = self._block.bench, self._block.bench.clock() - self._began
        if bench.ledger.known(BUSY_MACHINE) or (done < LOOK_PAIRS and spent_s < LOOK_S):
            return
        slowest = self._slowest()
        slowdown = self._slowdown(slowest) if slowest else 1.0
        others, load = self._block.disturbance.others_share(), bench.load()
        why = []
        if slowest and slowdown > MOST_SLOWDOWN:
            arm = self._block.live[slowest]
            why.append(recorded(
                "a step of {arm} takes {ratio} times as long in turn with the others as alone ({alone} s)",
                arm=arm.session.arm.name, ratio=f"{slowdown:.3g}", alone=f"{arm.typical_ns / 1e9:.3g}"))
        foreign = load is not None and load - bench.threads > usable_cpus()
        if foreign and (others is None or others >= LEAST_OTHERS_SHARE):
            why.append(recorded("more processes want a processor than there are"))
        if not why:
            return
        if load is not None:
            why.append(recorded("the load average is {load} on {count} processors", load=f"{load:.1f}",
                                count=usable_cpus()))
        if others is not None:
            why.append(recorded("other programs use {share} of them", share=f"{others:.0%}"))
        bench.ledger.find_once(BUSY_MACHINE.found(
            recorded("the machine is too busy to measure on: {why}; {expected}", why=", ".join(why),
                     expected=self._expected(spent_s / done, slowdown)),
            block=self._block.number,
            advice=recorded("end other programs, or wait until they end; {advice}", advice=APART)
            if bench.threads == 1 else None))

    def _slowest(self) -> ArmSlot | None:
        """The arm that suffers most."""
        return max((slot for slot in self._block.live if self._block.spent.get(slot)), key=self._slowdown, default=None)

    def _slowdown(self, slot: ArmSlot) -> float:
        """By how much even the fastest of an arm's last windows was slower than its warm-up."""
        last = list(self._block.spent[slot].values())[-LOOK_PAIRS:]
        return min(last) / self._block.live[slot].typical_ns

    def _expected(self, pair_s: float, slowdown: float) -> str:
        block, plan = self._block, self._block.bench.plan
        beside_s = block.part.windows_s(plan.device, len(block.live)) + block.part.after_s(block)
        # Of the groups until now; those to come are taken to be alike.
        block_s = self._began - block.began + plan.pairs * pair_s + beside_s * max(1.0, slowdown)
        block_s *= block.groups / block.done
        needed = plan.fewest_blocks
        return recorded("at this pace a block takes about {one} min, the {needed} that are needed about {all} min",
                        one=f"{block_s / 60:.1f}", needed=needed, all=f"{needed * block_s / 60:.0f}")
