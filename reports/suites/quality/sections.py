"""The sections about image quality: figures and tables per distance, pictures, copies, trainings, the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from harness.record.events import NearestImages, Trained
from messages import choice, marked, shown, tell
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

READ = marked(
    "A smaller distance means that the drawn images, as a crowd, look to the network more like the real ones. An "
    "interval holds for one figure at a time: of twenty, one is expected to miss."
)
PAIRED = marked(
    "Image i of both arms starts from the same noise, so what the arms share cancels: the interval of a difference can "
    "be far narrower than those of the two distances."
)
MEASURES = marked(
    "KID compares the same features by a kernel and has no bias from few images. IS (inception score) grows where "
    "single images look like one thing and all together like many. Precision: the share of drawn images that could be "
    "real; recall: the share of real images that the drawn ones cover."
)
LOOK = marked(
    "With one seed, image i of every arm starts from the same noise. Pictures are for looking at: what counts are the "
    "distances."
)
COPIES = marked(
    "Has the network learned images by heart? Each row is a drawn image, then the training images nearest to it. A "
    "copy would lie far nearer to its neighbour than training images lie to one another (typical)."
)
NOTHING = marked("Image quality: n/a, no set of images was evaluated in this run.")


def sections(seen: RunView, maker: FigureMaker) -> Iterator[Section | None]:
    """Everything about image quality, in order."""
    names = quality.labels(seen.run)
    found = [told for place, label in enumerate(names) for told in distance(seen, maker, label, place)]
    yield from found
    if not any(isinstance(block, Table) for told in found for block in told.blocks):
        yield Section("quality", tell("Image quality"), (Prose(tell(NOTHING)),))
    shelf = Shelf(seen.run.path)
    sets = quality.image_sets(seen, next(iter(names), ""))
    last = quality.final(sets)
    drawn = by_cell(shelf, last)
    yield Section("quality-images", tell("Drawn images"), (Prose(tell(LOOK)), *drawn)) if drawn else None
    earlier = by_cell(shelf, [one for one in sets if one not in last])
    yield section("quality-earlier", tell("Drawn images after shorter training"), *earlier, folded=True)
    yield copies(seen, shelf)
    yield trainings(seen)
    protocols = (tables.settings(seen), *(tables.protocol(seen, label) for label in names))
    yield section("quality-protocol", tell("Protocol of the image quality figures"), *protocols)


def distance(seen: RunView, maker: FigureMaker, label: str, place: int) -> list[Section]:
    """Figures and tables of one distance; `place` tells several apart."""
    sets = quality.image_sets(seen, label)
    if not sets:
        return []

    def drawn(name: str, draw: Callable[[RunView, str, bool], Drawn | str]) -> Picture | Prose:
        return maker.make(numbered(name, place), partial(draw, seen, label))

    unlike = figures.why_not_published(seen, label)
    no_curves = Prose(tell("Published curves are not drawn: {reason}.", reason=unlike), small=True) if unlike else None
    lengths = {one.train_steps for one in sets}
    over_training = drawn("distance-over-training", trends.over_training) if len(lengths) > 1 else None
    over_images = drawn("distance-over-images", trends.over_images)
    differences, further = tables.differences(seen, label), tables.further(seen, label)
    return [
        Section(
            numbered("quality", place),
            tell("Image quality: {label}", label=label),
            present(
                Prose(tell(READ)),
                drawn("distance-over-calls", figures.over_calls),
                no_curves,
                tables.distances(seen, label),
                *(
                    Prose(tell("Warning {number}: {text}.", number=n, text=shown(text)), small=True)
                    for text, n in quality.warnings(sets).items()
                ),
                Prose(tell(PAIRED)) if differences else None,
                differences,
                further,
                Prose(tell(MEASURES), small=True) if further else None,
            ),  # fmt: skip
        ),
        Section(
            numbered("quality-cost", place),
            tell("{label} over time, training and number of images", label=label),
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
        caption = tell("{cell}, {training}, seed {seeds}", cell=short_cell(cell), training=training_words(steps),
                       seeds=tell(" and ").join(map(str, seeds)))  # fmt: skip
        found.append(Images(caption, tuple(grid(shelf, one) for one in group)))
    return tuple(found)


def grid(shelf: Shelf, one: ImageSet) -> Raster:
    """The first images of one set."""
    if one.sampled is None:
        return Raster(one.arm.slot, one.arm.label, "", "", reason=one.reason)
    drawn = one.sampled
    alt = tell("The first images by {arm}: {cell}, {training}, seed {seed}", arm=one.arm.label,
               cell=short_cell(one.cell), training=training_words(one.train_steps), seed=drawn.seed)  # fmt: skip
    caption = choice(drawn.images, "the first of {n} image; {kind}: {weights}",
                     "the first of {n} images; {kind}: {weights}",
                     kind=quality.weights_words(drawn), weights=shown(drawn.weights))  # fmt: skip
    return shelf.file(one.arm.slot, one.arm.label, alt, caption, drawn.grid)


def copies(seen: RunView, shelf: Shelf) -> Section | None:
    """Drawn images beside their nearest training images."""
    found = seen.run.of(NearestImages)
    pictures = (
        Images(
            tell("{cell}: drawn, then nearest", cell=short_cell(cell)),
            tuple(neighbours(seen, shelf, one) for one in found if one.cell == cell),
        )
        for cell in dict.fromkeys(one.cell for one in found)
    )
    table = tables.nearest(seen)
    if table is None:
        return None
    return Section("quality-copies", tell("Nearest training images"), (Prose(tell(COPIES)), table, *pictures))


def neighbours(seen: RunView, shelf: Shelf, one: NearestImages) -> Raster:
    """The picture of one set, with the distance of each row."""
    rows = [number(value) for value in one.distances[:16]]
    more = ["\N{HORIZONTAL ELLIPSIS}"] if len(one.distances) > 16 else []
    label = seen.label(one.arm)
    alt = tell("Drawn images by {arm}, {cell}, each beside its nearest training images", arm=label,
               cell=short_cell(one.cell))  # fmt: skip
    caption = tell("distance of the nearest, row by row: {distances}; typical {typical}",
                   distances=", ".join([*rows, *more]), typical=number(one.typical))  # fmt: skip
    return shelf.file(one.arm, label, alt, caption, one.picture)


def trainings(seen: RunView) -> Section | None:
    """What was trained for this."""
    table = tables.trainings(seen)
    if table is None:
        return None
    several = len({one.arm for one in seen.run.of(Trained)}) > 1
    why = tell("Times of whole trainings, one each: no verdict on speed, which suite train-speed gives.")
    return Section("quality-training", tell("Trainings"), (table, Prose(why, small=True)) if several else (table,))
