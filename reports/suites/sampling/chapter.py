"""The chapter on sampling: whole batches of every cell, and what a network call costs in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import PartName
from messages import marked, tell
from reports.chapters.answer import brief
from reports.chapters.chapter import Timed
from reports.chapters.evidence.reference import SAMPLING_TIMES, Published
from reports.page.blocks import Section
from reports.page.figures import FigureMaker
from reports.view.run import RunView
from reports.view.words import Unit

UNIT = Unit(
    marked("network call"), marked("network calls"), marked("time per call"), marked("call"),
    metric=marked("sampling time"),
    windows="sample",
    per={"sample": marked("per batch"), "stepwise": marked("per network call")},
    cell=marked("a sampling method with its number of network calls"),
    settings="sample",
    no_data=marked("sampling reads no data set"),
)  # fmt: skip
BATCHES = marked(
    "A whole batch is timed from its noise to uint8 images on the host. Ratios of cells are averaged as a geometric "
    "mean of ratios; seconds of different cells are never averaged."
)


@dataclass(frozen=True)
class Sampling(Timed):
    """Whole batches of images; a step is a network call."""

    part: PartName = marked("sampling")
    unit: Unit = UNIT
    published: tuple[Published, ...] = SAMPLING_TIMES
    remark: str = marked("the times per network call are its times divided by the number of calls")

    def rate(self, seen: RunView) -> brief.Rate:
        """Of whole batches of one cell."""
        from reports.suites.sampling import tables

        return tables.rate(seen)

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """Time over network calls, batch sizes, the unsynchronised clock, agreement, pictures, and what all have."""
        from reports.suites.sampling import sections

        return sections.sections(seen, figures)

    def method(self, seen: RunView) -> Iterable[str]:
        """How batches are timed and averaged."""
        return (tell(BATCHES),)
