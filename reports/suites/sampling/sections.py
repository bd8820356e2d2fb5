"""The sections of a run that only sampling has, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby

from harness.record.events import SampleAgreement, SamplesDrawn, Verdict
from messages import marked, plural, shown, tell
from reports.chapters.measured import load, ratio, starts, steps, telemetry
from reports.page.blocks import Block, Images, Prose, Raster, Section
from reports.page.figures import FigureMaker, numbered
from reports.page.images import Shelf
from reports.suites.sampling import figures, tables
from reports.view.run import RunView, is_self_check
from reports.view.words import cell_words

TRAP = marked(
    "A framework only queues its work; who reads the clock without waiting for the device measures the queueing. One "
    "public comparison of the two frameworks timed its sampling so. The same batch, by both clocks:"
)
SWEEP = marked(
    "Larger batches fill the machine better until it is full. One block measured this: a description without verdict."
)
AGREE = marked(
    "Every arm samples from the same weights, seed and settings, and the noise of an image depends on its number "
    "alone, so the images must be the same up to rounding."
)
DRAWN = marked("Pictures are for looking at: the agreement above is what is held to a bound.")
NOTHING = marked("no images of this arm were recorded")
LINE = marked(
    "A network call is the same work however many there are, so the time of a batch is a line: its slope is a network "
    "call with the update around it, its intercept what a batch costs besides. Least squares, residuals weighed by "
    "1 / time."
)


def sections(seen: RunView, maker: FigureMaker) -> Iterator[Section | None]:
    """All sections, in order."""
    yield Section("key-figures", tell("Key figures"), key_figures(seen)) if seen.arms else None
    yield ratio.section(seen, maker, cell_ratios(seen, maker))
    line = (maker.make("over-calls", partial(figures.over_calls, seen)), tables.lines(seen), Prose(tell(LINE)))
    yield Section("over-calls", tell("Time over network calls"), line)
    yield sweep(seen, maker)
    yield trap(seen)
    yield agreement(seen)
    drawn = pictures(seen)
    said = tell(DRAWN) if drawn else tell("Images: n/a, none were drawn in this run.")
    yield Section("images", tell("Images"), (Prose(said), *drawn))
    yield steps.section(seen, maker)
    yield load.why(seen, maker, tables.where_time_goes(seen))
    yield telemetry.section(seen, maker) if seen.alone else None
    yield starts.section(seen, maker)


def key_figures(seen: RunView) -> tuple[Block, ...]:
    """Cells by arms, then what belongs to an arm."""
    table, peak = tables.batches(seen), tables.peak(seen)
    if table is None:
        return Prose(tell("Whole batches: n/a, the journal names no cell.")), tables.key_figures(seen)
    return (table, *((Prose(peak, small=True),) if peak else ()), tables.key_figures(seen))


def cell_ratios(seen: RunView, maker: FigureMaker) -> list[Block]:
    """One forest over cells per pair of arms, the self-checks last."""

    def pair(verdict: Verdict) -> tuple[bool, str, str]:
        return is_self_check(verdict), verdict.arm_a, verdict.arm_b

    batches = sorted((one for one in seen.run.of(Verdict) if one.kind == seen.unit.windows), key=pair)
    groups = [list(group) for _, group in groupby(batches, key=pair)]
    return [
        maker.make(numbered("cells", number), partial(figures.forest, seen, group))
        for number, group in enumerate(groups)
        if any(one.cell is not None for one in group)
    ]


def sweep(seen: RunView, maker: FigureMaker) -> Section | None:
    """Other batch sizes, or why there are none where the run declared some."""
    table, declared = tables.sweep(seen), bool(seen.declared("sweep"))
    if table is None:
        lost = Prose(tell("Other batch sizes: n/a, the run declared a sweep but no batch of it was measured."))
        return Section("batch-sizes", tell("Batch size"), (lost,)) if declared else None
    drawn = maker.make("batch-sizes", partial(figures.sweep, seen))
    return Section("batch-sizes", tell("Batch size (description, no verdict)"), (Prose(tell(SWEEP)), drawn, table))


def trap(seen: RunView) -> Section:
    """The clock that does not wait."""
    table = tables.traps(seen)
    blocks: tuple[Block, ...] = (
        (Prose(tell(TRAP)), table) if table
        else (Prose(tell("Timing without synchronisation: n/a, not measured in this run.")),)
    )
    return Section("trap", tell("What a clock without synchronisation shows"), blocks)


def agreement(seen: RunView) -> Section | None:
    """All checks that arms draw the same images, or that there is none."""
    found = seen.run.of(SampleAgreement)
    title = tell("Agreement: do both draw the same images?")
    if not found:
        none = Prose(tell("Agreement: n/a, no comparison of images was recorded in this run."))
        return Section("agreement", title, (none,)) if len(seen.arms) > 1 else None
    blocks: list[Block] = [Prose(tell(AGREE))]
    for result in found:
        blocks.append(tables.agreement(seen, result))
        if result.reason:
            reason = shown(result.reason)
            said = tell("Note: {reason}", reason=reason) if result.passed else tell("Failed: {reason}", reason=reason)
            blocks.append(Prose(said))
    return Section("agreement", title, tuple(blocks))


def pictures(seen: RunView) -> tuple[Images, ...]:
    """Per cell the grids of all arms side by side, then their denoising; nothing where none were drawn."""
    groups: dict[str, dict[str, SamplesDrawn]] = {}
    for drawn in seen.run.of(SamplesDrawn):
        groups.setdefault(drawn.cell, {})[drawn.arm] = drawn
    shelf = Shelf(seen.run.path)
    found: list[Images] = []
    for cell, by_arm in groups.items():
        drew = {arm.name for arm in seen.arms if arm.slot in by_arm}
        # An arm that is there twice draws once.
        slots = [arm.slot for arm in seen.arms if arm.slot in by_arm or arm.name not in drew]
        seeds = tell(" and ").join(str(seed) for seed in sorted({drawn.seed for drawn in by_arm.values()}))
        told = cell_words(cell)
        grids = tuple(picture(seen, shelf, slot, by_arm.get(slot)) for slot in slots)
        found.append(Images(tell("Images by {cell}, seed {seed}", cell=told, seed=seeds), grids))
        gifs = tuple(picture(seen, shelf, slot, by_arm.get(slot), moving=True) for slot in slots)
        found.append(Images(tell("Denoising by {cell}, seed {seed}", cell=told, seed=seeds), gifs, moving=True))
    return tuple(found)


def picture(seen: RunView, shelf: Shelf, slot: str, drawn: SamplesDrawn | None, moving: bool = False) -> Raster:
    """The grid of one arm, or its GIF; or why there is none."""
    label, name = seen.label(slot), (drawn.gif if moving else drawn.grid) if drawn else None
    if drawn is None or name is None:
        why = tell(NOTHING) if drawn is None else shown(drawn.why_no_gif or "") or tell("no reason recorded")
        return Raster(slot, label, "", "", reason=why)
    images, told = plural(drawn.images, "image"), cell_words(drawn.cell)
    alt = (
        tell("{images} from noise, denoised by {arm}: {cell}, seed {seed}", images=images, arm=label, cell=told,
             seed=drawn.seed)
        if moving
        else tell("{images} by {arm}: {cell}, seed {seed}", images=images, arm=label, cell=told, seed=drawn.seed)
    )
    caption = tell("{images}; weights: {source}", images=images, source=shown(drawn.weights))
    return shelf.file(slot, label, alt, caption, name)
