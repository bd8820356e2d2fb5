"""The chapter on causes: what each phase of a step holds of the gap, then what every timed part has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import PartName, Profiled
from messages import marked, tell
from reports.chapters import chapter
from reports.page.blocks import Section, Table, VerdictCard
from reports.page.figures import FigureMaker
from reports.suites.why import advice, apart, causes, kernels, operators, swaps
from reports.view.run import RunView
from reports.view.words import Unit

METHOD = marked(
    "Cut steps wait for the device at the end of each phase; as many whole steps run beside them, turn about. A share "
    "is the difference of a phase's times over the difference of whole steps' times, both averaged over blocks; its "
    "interval is the jackknife's. Of the steps of a block the middle half is averaged. A phase explains the gap where "
    "the interval lies above 5 % of it, and works against it below \N{MINUS SIGN}5 %."
)
OPERATORS = marked(
    "Once, behind the windows of the first block, each operator of the network runs alone, forward and backward, the "
    "arms in turn, round by round. Its time, as often as the network has it, is added up by class. Bytes are what must "
    "be read and written at least, in float32."
)
SWAPS = marked(
    "A swap replaces one kind of operator of the slower arm; both step in turn in one process, behind the windows of "
    "each block. Its share is what it saves of a step over the blocks' gap. A class on which two methods differ by "
    "over 10 % of the gap is contested: each measures something else, and they are not averaged."
)
KERNELS = marked(
    "Kernels are what each framework's own profiler tells of a few steps, once, behind everything else of the first "
    "block; the host (Python, the framework's dispatch, waiting) is what is left of as many steps before them and "
    "behind them, which no profiler slows down. Two profilers count unlike: neither these times nor these launches are "
    "a verdict. A trace opens in Perfetto or in Chrome's trace viewer and holds real spans only; where a profiler "
    "knows sums alone they stand in it as such. The traces lie beside this page, in traces/, and are not part of it."
)


@dataclass(frozen=True)
class Why(chapter.Timed):
    """Training steps, whole and in phases."""

    part: PartName = marked("why")
    unit: Unit = Unit(per={"stepwise": marked("per training step")})

    def cards(self, seen: RunView) -> Iterable[VerdictCard]:
        """The verdict, then its largest cause."""
        return (*super().cards(seen), *causes.cards(seen))

    def quoted(self, seen: RunView) -> Table | None:
        """What every timed part has; beside a training, whose steps these are, that one tells it."""
        return super().quoted(seen) if seen.alone else None

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """The causes first."""
        from reports.chapters.measured import losses, ratio, starts, steps, telemetry
        from reports.suites.parity import gate

        yield advice.section(seen)
        yield causes.section(seen, figures)
        yield operators.section(seen, figures)
        yield swaps.section(seen)
        yield apart.section(seen)
        yield kernels.section(seen)
        yield ratio.section(seen, figures)
        yield steps.section(seen, figures)
        yield telemetry.section(seen, figures) if seen.alone else None
        yield starts.section(seen, figures)
        yield losses.section(seen, figures)
        # Beside a training it is that one's gate, and shown there.
        yield gate.section(seen, figures) if seen.alone else None

    def method(self, seen: RunView) -> Iterable[str]:
        """What a cut step, an operator alone, a swap and a share are."""
        yield from (tell(METHOD), tell(OPERATORS))
        yield from (tell(SWAPS),) if swaps.of(seen) else ()
        yield from (tell(KERNELS),) if seen.run.of(Profiled) else ()

    def limits(self, seen: RunView) -> Iterable[str]:
        """What phases do not tell."""
        yield from super().limits(seen)
        yield tell("Operators alone leave out what a framework does between them, or saves by fusing them.")
