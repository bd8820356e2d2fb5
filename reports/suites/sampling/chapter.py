"""The sections of a run that only sampling has, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from harness.record.events import SampleAgreement, Verdict
from reports.page import images as pictures
from reports.page.blocks import Block, Prose, Section
from reports.page.figures import FigureMaker
from reports.suites.sampling import facts as sampling
from reports.suites.sampling import tables as tables_sampling
from reports.view.run import RunView, is_self_check

TRAP = (
    "A framework only queues its work; who reads the clock without waiting for the device measures the queueing. One "
    "public comparison of the two frameworks timed its sampling so. The same batch, by both clocks:"
)
SWEEP = (
    "Larger batches fill the machine better until it is full. One block measured this: a description without verdict."
)
AGREE = (
    "Every arm samples from the same weights, seed and settings, and the noise of an image depends on its number "
    "alone, so the images must be the same up to rounding."
)
DRAWN = "Pictures are for looking at: the agreement above is what is held to a bound."
LINE = (
    "A network call is the same work however many there are, so the time of a batch is a line: its slope is a network "
    "call with the update around it, its intercept what a batch costs besides. Least squares, residuals weighed by "
    "1 / time."
)

Draw = Mapping[str, Callable[[], Block]]


def key_figures(seen: RunView) -> tuple[Block, ...]:
    """Cells by arms, then what belongs to an arm."""
    table, peak = tables_sampling.batches(seen), tables_sampling.peak(seen)
    cells: tuple[Block, ...] = (
        (table, *((Prose(peak, small=True),) if peak else ()))
        if table
        else (Prose("Whole batches: n/a, the journal names no cell."),)
    )
    return (*cells, tables_sampling.key_figures(seen))


def cell_ratios(maker: FigureMaker, found: Sequence[Verdict]) -> tuple[Block, ...]:
    """One forest over cells per pair of arms and metric family, the self-checks last."""

    def pair(verdict: Verdict) -> tuple[bool, str, str]:
        return is_self_check(verdict), verdict.arm_a, verdict.arm_b

    batches = sorted((one for one in found if sampling.part_of(one) in ("mean", "cell")), key=pair)
    groups = [list(group) for _, group in groupby(batches, key=pair)]
    return tuple(
        maker.cells(group, number) for number, group in enumerate(groups) if any(one.cell is not None for one in group)
    )


def sections(seen: RunView, draw: Draw) -> tuple[Section | None, ...]:
    """Time over network calls, batch sizes, the unsynchronised clock, agreement, pictures."""
    line = (draw["over-calls"](), tables_sampling.lines(seen), Prose(LINE))
    return (
        Section("over-calls", "Time over network calls", line),
        sweep(seen, draw),
        trap(seen),
        agreement(seen),
        images(seen),
    )


def sweep(seen: RunView, draw: Draw) -> Section | None:
    """Other batch sizes, or why there are none where the run declared some."""
    table, declared = tables_sampling.sweep(seen), bool(seen.declared("sweep"))
    if table is None:
        lost = Prose("Other batch sizes: n/a, the run declared a sweep but no batch of it was measured.")
        return Section("batch-sizes", "Batch size", (lost,)) if declared else None
    return Section("batch-sizes", "Batch size (description, no verdict)", (Prose(SWEEP), draw["batch-sizes"](), table))


def trap(seen: RunView) -> Section:
    """The clock that does not wait."""
    table = tables_sampling.traps(seen)
    blocks: tuple[Block, ...] = (
        (Prose(TRAP), table) if table else (Prose("Timing without synchronisation: n/a, not measured in this run."),)
    )
    return Section("trap", "What a clock without synchronisation shows", blocks)


def agreement(seen: RunView) -> Section | None:
    """All checks that arms draw the same images, or that there is none."""
    found = seen.run.of(SampleAgreement)
    title = "Agreement: do both draw the same images?"
    if not found:
        none = Prose("Agreement: n/a, no comparison of images was recorded in this run.")
        return Section("agreement", title, (none,)) if len(seen.arms) > 1 else None
    blocks: list[Block] = [Prose(AGREE)]
    for result in found:
        blocks.append(tables_sampling.agreement(seen, result))
        if result.reason:
            blocks.append(Prose(f"{'Note' if result.passed else 'Failed'}: {result.reason}"))
    return Section("agreement", title, tuple(blocks))


def images(seen: RunView) -> Section:
    """Grids and animations, or that none were drawn."""
    found = pictures.blocks(seen)
    if not found:
        return Section("images", "Images", (Prose("Images: n/a, none were drawn in this run."),))
    return Section("images", "Images", (Prose(DRAWN), *found))
