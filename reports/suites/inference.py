"""The chapter on forward passes without gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import PartName
from messages import marked, tell
from reports.chapters import chapter
from reports.page.blocks import Section
from reports.page.figures import FigureMaker
from reports.view.run import RunView
from reports.view.words import Unit


@dataclass(frozen=True)
class Inference(chapter.Timed):
    """Forward passes."""

    part: PartName = marked("inference")
    unit: Unit = Unit(marked("forward pass"), marked("forward passes"), marked("time of a forward pass"),
                      marked("pass"), marked("time of a forward pass"), per={"stepwise": marked("per forward pass")})

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """What all timed parts have, images per second, and the parity that is its gate."""
        from reports.chapters.answer import key_figures
        from reports.chapters.measured import load, ratio, starts, steps, telemetry
        from reports.suites.parity import gate

        typical: key_figures.Rows = [
            (tell("{time}, median", time=tell(self.unit.time)), key_figures.step_time),
            (tell("images/s"), lambda view, arm: key_figures.images_per_s(
                view, arm, "stepwise", tell(key_figures.NO_WINDOWS))),
        ]
        yield Section("key-figures", tell("Key figures"), (
            key_figures.key_figures(seen, typical),)) if seen.arms else None
        yield ratio.section(seen, figures)
        yield steps.section(seen, figures)
        yield load.why(seen, figures, key_figures.suspects(seen))
        yield telemetry.section(seen, figures) if seen.alone else None
        yield starts.section(seen, figures)
        yield gate.section(seen, figures)

    def method(self, seen: RunView) -> Iterable[str]:
        """What a pass is."""
        return (tell("A forward pass is what the pair's file calls its outputs, or its loss, in evaluation mode and "
                     "without gradients, on one of a few batches that lie on the device."),)
