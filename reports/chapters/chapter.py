"""What a report tells of one part of a run; a part without a chapter of its own is told as far as it is like others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.record.events import PartName
from harness.record.plugins import GROUP
from messages import marked, tell
from reports.chapters.answer import brief, verdicts
from reports.chapters.evidence.reference import Published
from reports.page.blocks import Note, Section, Table, VerdictCard
from reports.page.figures import FigureMaker
from reports.page.forest import Forest
from reports.view.run import RunView
from reports.view.words import STEPS, Unit

if TYPE_CHECKING:
    from reports.export.columns import Exported

TINY = marked(
    "The preset tiny is sized for CPUs: fixed costs per operator weigh more in it than in the paper's network."
)


@dataclass(frozen=True)
class Chapter:
    """One part of a run. `seen` is that part alone, and a chapter tells only what it recorded.

    Attributes:
        part: its name in the journal.
        unit: what a step of it is called.
    """

    part: PartName
    unit: Unit = STEPS

    def cards(self, seen: RunView) -> Iterable[VerdictCard]:
        """What is said first."""
        return ()

    def forests(self, seen: RunView) -> Iterable[Forest]:
        """Its ratios, those of one pair of arms together, for one picture of all."""
        return ()

    def quoted(self, seen: RunView) -> Table | None:
        """The few figures that people quote, a row for each arm."""
        return None

    def notes(self, seen: RunView) -> Iterable[Note]:
        """What a reader must know before the numbers, beside the recorded findings."""
        return ()

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """Its sections in order. What draws is imported here: cards must not wait for matplotlib."""
        return ()

    def exported(self) -> Mapping[str, Exported]:
        """Tables of its own, by name, for `python -m reports export`."""
        return {}

    def method(self, seen: RunView) -> Iterable[str]:
        """How it measured, a paragraph each."""
        return ()

    def limits(self, seen: RunView) -> Iterable[str]:
        """What it says nothing about, a sentence each."""
        return ()


@dataclass(frozen=True)
class Timed(Chapter):
    """A part that was timed in blocks.

    Attributes:
        published: what others published about it.
        remark: what those figures are worth.
    """

    published: tuple[Published, ...] = ()
    remark: str = ""

    def cards(self, seen: RunView) -> Iterable[VerdictCard]:
        """The recorded verdicts."""
        return verdicts.cards(seen)

    def forests(self, seen: RunView) -> Iterable[Forest]:
        """The same in one picture."""
        return brief.forests(seen)

    def quoted(self, seen: RunView) -> Table | None:
        """Images per second, memory, cold start."""
        return brief.quoted(seen, self.rate(seen))

    def rate(self, seen: RunView) -> brief.Rate:
        """How fast it is, as people quote it."""
        return brief.STEPWISE

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """Key figures, ratio, steps, where the time goes, memory, cold start."""
        from reports.chapters.answer import key_figures
        from reports.chapters.measured import load, ratio, starts, steps, telemetry

        typical = [(tell("{time}, median", time=tell(self.unit.time)), key_figures.step_time)]
        yield (Section("key-figures", tell("Key figures"), (key_figures.key_figures(seen, typical),))
               if seen.arms else None)  # fmt: skip
        yield ratio.section(seen, figures)
        yield steps.section(seen, figures)
        yield load.why(seen, figures, key_figures.suspects(seen))
        yield telemetry.section(seen, figures) if seen.alone else None
        yield starts.section(seen, figures)

    def limits(self, seen: RunView) -> Iterable[str]:
        """Devices, absolute times, a small preset."""
        yield from devices(seen)
        yield tell("Absolute times belong to this machine and its load; quote ratios with their intervals.")
        if seen.setting("preset") == "tiny":
            yield tell(TINY)


def devices(seen: RunView) -> Iterable[str]:
    """What a run says nothing about because it ran elsewhere."""
    if seen.devices == ["cpu"]:
        yield tell("Not run on hardware here: CUDA. This run measured on the CPU and says nothing about a GPU.")
    elif not seen.devices:
        yield tell("No worker proved a device, so this run says nothing about any.")


@dataclass(frozen=True)
class Unknown(Timed):
    """A part on which no installed package has a chapter: what it has in common with others."""

    def notes(self, seen: RunView) -> Iterable[Note]:
        """Who would tell more."""
        suite = seen.run.started.suite if seen.run.started else tell("unknown")
        yield Note(
            "info",
            tell("No chapter on {part} is installed: the report shows what it has in common with other parts",
                 part=self.part),
            tell("the package that brings the suite {suite} (entry points {group}) tells more", suite=suite,
                 group=GROUP),
        )
