"""The chapter on training: what a step costs, alone and in a stream of steps, and what an epoch costs beside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from harness.record.events import PartName
from messages import marked, tell
from reports.chapters.answer import brief
from reports.chapters.chapter import Timed
from reports.chapters.evidence.reference import EVERYTHING, Published
from reports.page.blocks import Section, section
from reports.page.figures import FigureMaker
from reports.view.run import RunView
from reports.view.words import Unit


@dataclass(frozen=True)
class Training(Timed):
    """Training steps."""

    part: PartName = marked("training")
    unit: Unit = Unit(per={"stepwise": marked("per training step"), "free": marked("per training step, free-running")})
    published: tuple[Published, ...] = EVERYTHING
    remark: str = marked("its FIDs rest on 1000 images")

    def rate(self, seen: RunView) -> brief.Rate:
        """As in a stream of steps, where that was measured."""
        return brief.FREE if any(arm.windows("free") for arm in seen.arms) else brief.STEPWISE

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """What all timed parts have, throughput, epochs, losses, and the parity that is its gate."""
        from reports.chapters.measured import load, losses, ratio, starts, steps, telemetry
        from reports.suites.parity import gate
        from reports.suites.training import figures as drawn
        from reports.suites.training import tables

        yield Section("key-figures", tell("Key figures"), (tables.key_figures(seen),)) if seen.arms else None
        yield ratio.section(seen, figures)
        yield steps.section(seen, figures)
        throughput = figures.make("throughput", partial(drawn.throughput, seen))
        yield Section("throughput", tell("Stepwise and free-running"), (throughput, tables.throughputs(seen)))
        epochs = figures.make("epochs", partial(drawn.epoch_times, seen))
        yield section("epochs", tell("Epochs"), epochs, tables.epochs(seen))
        yield load.why(seen, figures, tables.where_time_goes(seen))
        yield telemetry.section(seen, figures) if seen.alone else None
        yield starts.section(seen, figures)
        yield losses.section(seen, figures)
        yield gate.section(seen, figures)
