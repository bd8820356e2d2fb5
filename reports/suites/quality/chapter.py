"""The sections about image quality: figures and tables per distance, pictures, copies, trainings, the protocol."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record.events import NearestImages, Trained
from reports.page import images as pictures
from reports.page.blocks import Block, Images, Picture, Prose, Raster, Section, Table
from reports.page.figures import FigureMaker
from reports.suites.quality import (
    facts as quality,
)
from reports.suites.quality import (
    figures as figures_quality,
)
from reports.suites.quality import (
    tables as tables_quality,
)
from reports.suites.quality import (
    trends as figures_quality_trends,
)
from reports.suites.quality.facts import ImageSet, short_cell, training_words
from reports.text import number, plural
from reports.view.run import RunView

READ = (
    "A smaller distance means that the drawn images, as a crowd, look to the network more like the real ones. An "
    "interval holds for one figure at a time: of twenty, one is expected to miss."
)
PAIRED = (
    "Image i of both arms starts from the same noise, so what the arms share cancels: the interval of a difference can "
    "be far narrower than those of the two distances."
)
MEASURES = (
    "KID compares the same features by a kernel and has no bias from few images. IS (inception score) grows where "
    "single images look like one thing and all together like many. Precision: the share of drawn images that could be "
    "real; recall: the share of real images that the drawn ones cover."
)
LOOK = (
    "With one seed, image i of every arm starts from the same noise. Pictures are for looking at: what counts are the "
    "distances."
)
COPIES = (
    "Has the network learned images by heart? Each row is a drawn image, then the training images nearest to it. A "
    "copy would lie far nearer to its neighbour than training images lie to one another (typical)."
)
NOTHING = "Image quality: n/a, no set of images was evaluated in this run."


def sections(seen: RunView, maker: FigureMaker) -> list[Section]:
    """Everything about image quality, in order; nothing where the run says nothing about it."""
    if not quality.recorded(seen.run):
        return []
    names = quality.labels(seen.run)
    found = [told for number_, label in enumerate(names) for told in distance(seen, maker, label, number_)]
    if not any(isinstance(block, Table) for section in found for block in section.blocks):
        found.append(Section("quality", "Image quality", (Prose(NOTHING),)))
    shelf = pictures.Shelf(seen)
    rest = (
        grids(seen, shelf),
        earlier(seen, shelf),
        copies(seen, shelf),
        trainings(seen),
        protocol(seen, names),
    )
    return [*found, *(section for section in rest if section is not None)]


def distance(seen: RunView, maker: FigureMaker, label: str, place: int) -> list[Section]:
    """Figures and tables of one distance; `place` tells several apart."""
    suffix = f"-{place}" if place else ""
    sets = quality.image_sets(seen, label)
    if not sets:
        return []

    def drawn(name: str, draw: figures_quality.Draw) -> Picture | Prose:
        return maker.make(f"{name}{suffix}", lambda view, narrow: draw(view, label, narrow))

    unlike = figures_quality.why_not_published(seen, label)
    no_curves = Prose(f"Published curves are not drawn: {unlike}.", small=True) if unlike else None
    lengths = {one.train_steps for one in sets}
    over_training = drawn("distance-over-training", figures_quality_trends.over_training) if len(lengths) > 1 else None
    over_images = drawn("distance-over-images", figures_quality_trends.over_images)
    differences, further = tables_quality.differences(seen, label), tables_quality.further(seen, label)
    return [
        Section(
            f"quality{suffix}",
            f"Image quality: {label}",
            present(
                Prose(READ),
                drawn("distance-over-calls", figures_quality.over_calls),
                no_curves,
                tables_quality.distances(seen, label),
                *(Prose(f"Warning {n}: {words}.", small=True) for words, n in quality.warnings(sets).items()),
                Prose(PAIRED) if differences else None,
                differences,
                further,
                Prose(MEASURES, small=True) if further else None,
            ),
        ),
        Section(
            f"quality-cost{suffix}",
            f"{label} over time, training and number of images",
            present(drawn("distance-over-seconds", figures_quality.against_seconds), over_training, over_images),
        ),
    ]


def present(*blocks: Block | None) -> tuple[Block, ...]:
    """The blocks that there are."""
    return tuple(block for block in blocks if block is not None)


def grids(seen: RunView, shelf: pictures.Shelf) -> Section | None:
    """The grids of the longest training, arms side by side."""
    sets = quality.image_sets(seen, next(iter(quality.labels(seen.run)), ""))
    found = by_cell(shelf, quality.final(sets))
    return Section("quality-images", "Drawn images", (Prose(LOOK), *found)) if found else None


def earlier(seen: RunView, shelf: pictures.Shelf) -> Section | None:
    """The grids of shorter trainings."""
    sets = quality.image_sets(seen, next(iter(quality.labels(seen.run)), ""))
    last = quality.final(sets)
    found = by_cell(shelf, [one for one in sets if one not in last])
    return Section("quality-earlier", "Drawn images after shorter training", found, folded=True) if found else None


def by_cell(shelf: pictures.Shelf, sets: Sequence[ImageSet]) -> tuple[Images, ...]:
    """One row of grids per length of training and cell, for those that any arm drew."""
    groups: dict[tuple[int | None, str], list[ImageSet]] = {}
    for one in sets:
        groups.setdefault((one.train_steps, one.cell), []).append(one)
    found = []
    for (steps, cell), group in groups.items():
        seeds = sorted({one.sampled.seed for one in group if one.sampled})
        if not seeds:
            continue
        words = f"{short_cell(cell)}, {training_words(steps)}, seed {' and '.join(map(str, seeds))}"
        found.append(Images(words, tuple(grid(shelf, one) for one in group)))
    return tuple(found)


def grid(shelf: pictures.Shelf, one: ImageSet) -> Raster:
    """The first images of one set."""
    if one.sampled is None:
        return Raster(one.arm.slot, one.arm.label, "", "", reason=one.reason)
    drawn = one.sampled
    alt = f"The first images by {one.arm.label}: {short_cell(one.cell)}, {training_words(one.train_steps)}"
    caption = f"the first of {plural(drawn.images, 'image')}; {quality.weights_words(drawn)}: {drawn.weights}"
    return shelf.file(one.arm.slot, f"{alt}, seed {drawn.seed}", caption, drawn.grid)


def copies(seen: RunView, shelf: pictures.Shelf) -> Section | None:
    """Drawn images beside their nearest training images."""
    newest = {(one.cell, one.arm): one for one in seen.run.of(NearestImages)}
    table = tables_quality.nearest(seen)
    if table is None:
        return None
    cells = dict.fromkeys(cell for cell, _ in newest)
    found = [
        Images(
            f"{short_cell(cell)}: drawn, then nearest",
            tuple(neighbours(seen, shelf, one) for (where, _), one in newest.items() if where == cell),
        )
        for cell in cells
    ]
    return Section("quality-copies", "Nearest training images", (Prose(COPIES), table, *found))


def neighbours(seen: RunView, shelf: pictures.Shelf, one: NearestImages) -> Raster:
    """The picture of one set, with the distance of each row."""
    shown = ", ".join(number(value) for value in one.distances[:16])
    more = ", \N{HORIZONTAL ELLIPSIS}" if len(one.distances) > 16 else ""
    alt = f"Drawn images by {seen.label(one.arm)}, {short_cell(one.cell)}, each beside its nearest training images"
    return shelf.file(
        one.arm, alt, f"distance of the nearest, row by row: {shown}{more}; typical {number(one.typical)}", one.picture
    )


def trainings(seen: RunView) -> Section | None:
    """What was trained for this."""
    table = tables_quality.trainings(seen)
    if table is None:
        return None
    several = len({one.arm for one in seen.run.of(Trained)}) > 1
    why = Prose("Times of whole trainings, one each: no verdict on speed, which suite train-speed gives.", small=True)
    return Section("quality-training", "Trainings", (table, why) if several else (table,))


def protocol(seen: RunView, names: Sequence[str]) -> Section | None:
    """All that a figure must be quoted with."""
    tables = [tables_quality.settings(seen), *(tables_quality.protocol(seen, label) for label in names)]
    found = tuple(table for table in tables if table is not None)
    return Section("quality-protocol", "Protocol of the image quality figures", found) if found else None
