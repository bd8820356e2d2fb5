"""Which chapter tells of which part of a run; one line a part. Outside packages join by entry points."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record.events import PartName
from harness.record.plugins import offered
from harness.record.run import RecordedRun
from impls.errors import UsageError
from messages import tell
from reports.chapters.chapter import Chapter, Timed, Unknown
from reports.chapters.evidence import findings
from reports.page.blocks import Note
from reports.suites.align.chapter import Align
from reports.suites.inference import Inference
from reports.suites.parity.chapter import Parity
from reports.suites.quality.chapter import Quality
from reports.suites.sampling.chapter import Sampling
from reports.suites.scaling.chapter import Scaling
from reports.suites.training.chapter import Training
from reports.suites.why.chapter import Why
from reports.view.run import RunView, remembered, view
from reports.view.words import EITHER, STEPS

CHAPTERS: tuple[Chapter, ...] = (Training(), Inference(), Sampling(), Quality(), Parity(), Why(), Align(), Scaling())


def chapter_of(part: PartName) -> Chapter:
    """The chapter on a part: ours, else one of an installed package, else what it has in common with other parts.

    Raises:
        UsageError: an entry point offers something else.
    """
    return next((one for one in CHAPTERS if one.part == part), None) or _outside().get(part) or Unknown(part)


def _outside() -> dict[PartName, Chapter]:
    found: dict[PartName, Chapter] = {}
    for chapter, where in offered("CHAPTERS"):
        if not isinstance(chapter, Chapter):
            raise UsageError(tell("{where}: its CHAPTERS are no Chapter objects", where=where))
        found[chapter.part] = chapter
    return found


def parts_of(run: RecordedRun) -> tuple[PartName, ...]:
    """The part of the run; of several, those that recorded anything, or the first of them."""
    if len(run.parts) < 2:
        return run.parts
    lines = [set(map(id, run.part(part).events)) for part in run.parts]
    shared = set.intersection(*lines)
    return tuple(part for part, own in zip(run.parts, lines, strict=True) if own - shared) or run.parts[:1]


@remembered
def whole(run: RecordedRun) -> RunView:
    """The run in the words that hold for all that it timed."""
    chapters = [chapter_of(part) for part in parts_of(run)]
    units = [chapter.unit for chapter in chapters if isinstance(chapter, Timed)] or [one.unit for one in chapters[:1]]
    first = chapters[0].part if chapters else ""
    return view(run, EITHER if len(units) > 1 else units[0] if units else STEPS, part=first)


def settings_of(run: RecordedRun) -> set[str]:
    """The groups of the experiment's settings on which what it measured depends."""
    return {chapter_of(part).unit.settings for part in parts_of(run)}


@remembered
def chapters_of(seen: RunView) -> list[tuple[Chapter, RunView]]:
    """Every part of a run with the chapter that tells of it, in order."""
    chapters = [chapter_of(part) for part in parts_of(seen.run)]
    if len(chapters) == 1:
        return [(chapters[0], seen)]
    alone = sum(isinstance(chapter, Timed) for chapter in chapters) < 2
    return [(one, view(seen.run.part(one.part), one.unit, whole=seen, alone=alone, part=one.part)) for one in chapters]


def notes_of(seen: RunView, parts: Sequence[tuple[Chapter, RunView]]) -> tuple[Note, ...]:
    """What a reader must know of a run and its parts, the worst first."""
    timed = any(isinstance(chapter, Timed) for chapter, _ in parts)
    return findings.notes(seen, (note for chapter, part in parts for note in chapter.notes(part)), timed)
