"""A suite from outside, complete: does a step get cheaper where several run without a wait in between?

Nothing of the product knows it: `bursts-1.0.dist-info/entry_points.txt` names this module in the group
`ddpm_bench.suites`, as an installed package would. Whoever adds a suite can start from a copy.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.part import Asked, Metric, Metrics, Needs, Suite, Timed
from harness.record.events import ArmSlot, Event
from impls.recipe.flops import training_step_flop
from messages import count
from reports.chapters import chapter
from reports.page.blocks import Section, Table, head, section
from reports.text import Value, duration

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.processes.session import Session
    from harness.protocol import life
    from impls.recipe.config import ExperimentConfig
    from reports.page.figures import FigureMaker
    from reports.view.run import RunView


class Burst(Event):
    """Steps that ran without a wait in between."""

    type: Literal["burst"] = "burst"
    # A line of this kind is told from another by these fields; the newer of two alike counts.
    subject: ClassVar[tuple[str, ...]] = ("arm", "block", "pair")
    part: Literal["bursts"] = "bursts"
    arm: ArmSlot
    block: int
    pair: int
    steps: int
    burst_ns: int


@dataclass(frozen=True)
class Bursts(Timed):
    """Blocks of single steps, as every timed part has them, and of bursts beside them.

    Attributes:
        burst_steps: steps of a burst; `--steps N`.
    """

    name: ClassVar[str] = "bursts"
    needs: ClassVar[Needs] = Needs(images=True)
    pairs: ClassVar[int] = 20
    metrics: ClassVar[Metrics] = Metrics(Metric("time of a lone step", "stepwise"))

    burst_steps: int = 8

    @classmethod
    def planned(cls, asked: Asked) -> Bursts:
        """Eight steps unless the user says otherwise."""
        return cls(asked.options.step_count or cls.burst_steps)

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """For `--dry-run`."""
        return [f"bursts of {self.burst_steps} steps"]

    def build(self, bench: Bench, session: Session) -> life.Built:
        """A trainer."""
        return bench.build(session, bench.experiment)

    def step_flop(self, recipe: ExperimentConfig) -> int:
        """Those of a training step."""
        return training_step_flop(recipe.model, recipe.train.batch_size)

    def windows(self, block: Block) -> None:
        """Two bursts of every arm."""
        for pair in range(2):
            block.turn(pair, partial(self._burst, block), "bursts")

    def _burst(self, block: Block, slot: ArmSlot, pair: int, position: int) -> None:
        from harness.protocol.timing import Free

        arm = block.live[slot]
        span = arm.session.ask(Free(steps=self.burst_steps), arm.limit_s(self.burst_steps))
        block.append(Burst(arm=slot, block=block.number, pair=pair, steps=span.steps,
                           burst_ns=span.end_ns - span.start_ns))


@dataclass(frozen=True)
class BurstsChapter(chapter.Timed):
    """Lone steps as in every timed part, and a table of the bursts."""

    part: str = "bursts"

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """The bursts first."""
        yield section("bursts", "Bursts", self.table(seen))
        yield from super().sections(seen, figures)

    def method(self, seen: RunView) -> Iterable[str]:
        """What a burst is."""
        return ("A burst is a number of steps of which only the last is waited for.",)

    def table(self, seen: RunView) -> Table | None:
        """One row an arm."""
        rows = []
        for arm in seen.arms:
            own = [one for one in seen.run.of(Burst) if one.arm == arm.slot]
            if own:
                step_ns = statistics.median(one.burst_ns / one.steps for one in own)
                rows.append((Value(arm.label, slot=arm.slot), Value(count(len(own))), Value(duration(step_ns))))
        return Table("Steps within a burst", head("arm", "bursts", "median step"), tuple(rows)) if rows else None


SUITES = (Suite("bursts", (Bursts,), "lone steps against steps in bursts"),)
EVENTS = (Burst,)
CHAPTERS = (BurstsChapter(),)
