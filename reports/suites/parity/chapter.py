"""The chapter on parity: do the arms compute the same thing?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import PartName
from messages import marked
from reports.chapters.chapter import Chapter, devices
from reports.page.blocks import Section
from reports.page.figures import FigureMaker
from reports.view.run import RunView


@dataclass(frozen=True)
class Parity(Chapter):
    """Matched steps of all arms."""

    part: PartName = marked("parity")

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """Every check, and the losses that were matched."""
        from reports.chapters.measured import losses
        from reports.suites.parity import gate

        yield gate.section(seen, figures)
        yield losses.section(seen, figures)

    def limits(self, seen: RunView) -> Iterable[str]:
        """The devices that did not take part."""
        return devices(seen)
