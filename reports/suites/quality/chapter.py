"""The chapter on image quality: statements, what they rest on, and how they were come by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.record.events import PartName
from messages import marked, tell
from reports.chapters.chapter import Chapter
from reports.page.blocks import Note, Section, VerdictCard
from reports.page.figures import FigureMaker
from reports.suites.quality import cards
from reports.view.run import RunView
from reports.view.words import Unit

if TYPE_CHECKING:
    from reports.export.columns import Exported

METHOD = marked(
    "Image quality: every arm draws image i from the same noise, seed and settings. A feature network turns drawn and "
    "real images into vectors; the distance compares their means and covariances. Intervals leave out one group of "
    "images after another (jackknife), for differences the same group in both arms."
)
LIMITS = marked(
    "A distance belongs to its network, real images and number of images: quote it with them, and compare only "
    "distances that share all three."
)
TINY = marked("The preset tiny is sized for CPUs: its distances say nothing about the paper's network.")


@dataclass(frozen=True)
class Quality(Chapter):
    """Sets of images and their distances to real ones."""

    part: PartName = marked("quality")
    # Its images are drawn in batches of their own, which each set's line tells.
    unit: Unit = Unit(settings="")

    def cards(self, seen: RunView) -> Iterable[VerdictCard]:
        """Statements, each with its interval."""
        return cards.cards(seen)

    def notes(self, seen: RunView) -> Iterable[Note]:
        """Warnings about sets of images."""
        return cards.notes(seen)

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """Figures and tables per distance, pictures, copies, trainings, the protocol."""
        from reports.suites.quality import sections

        return sections.sections(seen, figures)

    def exported(self) -> Mapping[str, Exported]:
        """Every figure."""
        from reports.suites.quality.exported import TABLES

        return TABLES

    def method(self, seen: RunView) -> Iterable[str]:
        """What a distance is."""
        return (tell(METHOD),)

    def limits(self, seen: RunView) -> Iterable[str]:
        """What distances say nothing about."""
        device = seen.bench("device")
        if isinstance(device, str):
            yield tell("The images were drawn on the device {device}.", device=device)
        yield tell(LIMITS)
        if seen.setting("preset") == "tiny":
            yield tell(TINY)
