"""The sections about image quality: figures and tables per distance, pictures, copies, trainings, the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from harness.record.events import NearestImages, Trained
from messages import plural
from reports.page.blocks import Images, Picture, Prose, Raster, Section, Table, present, section
from reports.page.figures import FigureMaker, numbered
from reports.page.images import Shelf
from reports.page.plotting import Drawn
from reports.suites.quality import facts as quality
from reports.suites.quality import figures, tables, trends
from reports.suites.quality.facts import ImageSet, training_words
from reports.text import number
from reports.view.run import RunView
from reports.view.words import short_cell

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


def sections(seen: RunView, maker: FigureMaker) -> Iterator[Section | None]:
    """Everything about image quality, in order."""
    names = quality.labels(seen.run)
    found = [told for place, label in enumerate(names) for told in distance(seen, maker, label, place)]
    yield from found
    if not any(isinstance(block, Table) for told in found for block in told.blocks):
        yield Section("quality", "Image quality", (Prose(NOTHING),))
    shelf = Shelf(seen.run.path)
    sets = quality.image_sets(seen, next(iter(names), ""))
    last = quality.final(sets)
    drawn = by_cell(shelf, last)
    yield Section("quality-images", "Drawn images", (Prose(LOOK), *drawn)) if drawn else None
    earlier = by_cell(shelf, [one for one in sets if one not in last])
    yield section("quality-earlier", "Drawn images after shorter training", *earlier, folded=True)
    yield copies(seen, shelf)
    yield trainings(seen)
    protocols = (tables.settings(seen), *(tables.protocol(seen, label) for label in names))
    yield section("quality-protocol", "Protocol of the image quality figures", *protocols)


def distance(seen: RunView, maker: FigureMaker, label: str, place: int) -> list[Section]:
    """Figures and tables of one distance; `place` tells several apart."""
    sets = quality.image_sets(seen, label)
    if not sets:
        return []

    def drawn(name: str, draw: Callable[[RunView, str, bool], Drawn | str]) -> Picture | Prose:
        return maker.make(numbered(name, place), partial(draw, seen, label))

    unlike = figures.why_not_published(seen, label)
    no_curves = Prose(f"Published curves are not drawn: {unlike}.", small=True) if unlike else None
    lengths = {one.train_steps for one in sets}
    over_training = drawn("distance-over-training", trends.over_training) if len(lengths) > 1 else None
    over_images = drawn("distance-over-images", trends.over_images)
    differences, further = tables.differences(seen, label), tables.further(seen, label)
    return [
        Section(
            numbered("quality", place),
            f"Image quality: {label}",
            present(
                Prose(READ),
                drawn("distance-over-calls", figures.over_calls),
                no_curves,
                tables.distances(seen, label),
                *(Prose(f"Warning {n}: {words}.", small=True) for words, n in quality.warnings(sets).items()),
                Prose(PAIRED) if differences else None,
                differences,
                further,
                Prose(MEASURES, small=True) if further else None,
            ),
        ),
        Section(
            numbered("quality-cost", place),
            f"{label} over time, training and number of images",
            present(drawn("distance-over-seconds", figures.against_seconds), over_training, over_images),
        ),
    ]


def by_cell(shelf: Shelf, sets: Sequence[ImageSet]) -> tuple[Images, ...]:
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


def grid(shelf: Shelf, one: ImageSet) -> Raster:
    """The first images of one set."""
    if one.sampled is None:
        return Raster(one.arm.slot, one.arm.label, "", "", reason=one.reason)
    drawn = one.sampled
    alt = f"The first images by {one.arm.label}: {short_cell(one.cell)}, {training_words(one.train_steps)}"
    caption = f"the first of {plural(drawn.images, 'image')}; {quality.weights_words(drawn)}: {drawn.weights}"
    return shelf.file(one.arm.slot, one.arm.label, f"{alt}, seed {drawn.seed}", caption, drawn.grid)


def copies(seen: RunView, shelf: Shelf) -> Section | None:
    """Drawn images beside their nearest training images."""
    found = seen.run.of(NearestImages)
    pictures = (
        Images(
            f"{short_cell(cell)}: drawn, then nearest",
            tuple(neighbours(seen, shelf, one) for one in found if one.cell == cell),
        )
        for cell in dict.fromkeys(one.cell for one in found)
    )
    table = tables.nearest(seen)
    return Section("quality-copies", "Nearest training images", (Prose(COPIES), table, *pictures)) if table else None


def neighbours(seen: RunView, shelf: Shelf, one: NearestImages) -> Raster:
    """The picture of one set, with the distance of each row."""
    shown = ", ".join(number(value) for value in one.distances[:16])
    more = ", \N{HORIZONTAL ELLIPSIS}" if len(one.distances) > 16 else ""
    label = seen.label(one.arm)
    alt = f"Drawn images by {label}, {short_cell(one.cell)}, each beside its nearest training images"
    caption = f"distance of the nearest, row by row: {shown}{more}; typical {number(one.typical)}"
    return shelf.file(one.arm, label, alt, caption, one.picture)


def trainings(seen: RunView) -> Section | None:
    """What was trained for this."""
    table = tables.trainings(seen)
    if table is None:
        return None
    several = len({one.arm for one in seen.run.of(Trained)}) > 1
    why = Prose("Times of whole trainings, one each: no verdict on speed, which suite train-speed gives.", small=True)
    return Section("quality-training", "Trainings", (table, why) if several else (table,))
