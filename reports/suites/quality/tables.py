"""Image quality as tables: every set of images, differences between arms, trainings, copies, and the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from harness.record.events import ImagesSampled, Metric, NearestImages, QualityDifference, Trained
from messages import choice, count, marked, plural, shown, tell, words
from reports.page.blocks import Table, head, table_of
from reports.suites.quality import facts as quality
from reports.suites.quality.cards import difference
from reports.suites.quality.facts import Estimate, ImageSet, parts
from reports.text import DASH, Value, commas, duration, missing, number
from reports.view.run import RunView
from reports.view.words import cell_words, short_cell

FURTHER: tuple[tuple[str, Metric], ...] = (("KID", "kid"), ("IS", "is"), (marked("precision"), "precision"),
                                           (marked("recall"), "recall"))  # fmt: skip


def figure(found: Estimate) -> Value:
    """A figure with its interval below it, or why there is none."""
    if found.value is None:
        return missing(found.reason)
    text, interval = parts(found)
    return Value(text, interval or tell(quality.NO_INTERVAL))


def names(one: ImageSet) -> tuple[Value, Value]:
    """The first two cells of a set's row."""
    return set_name(one.cell, one.train_steps), Value(one.arm.label, slot=one.arm.slot)


def set_name(cell: str, steps: int | None) -> Value:
    """A cell with the length of training below it."""
    return Value(short_cell(cell), tell("given weights") if steps is None else plural(steps, "training step"))


def distances(view: RunView, label: str) -> Table | None:
    """One row per set of images: the distance, its extrapolation, N with its warnings, time."""
    sets = quality.image_sets(view, label)
    numbered = quality.warnings(sets)
    rows = (
        (
            *names(one),
            figure(one.figure("fd")),
            figure(one.figure("fd-extrapolated")),
            number_of_images(one, numbered),
            time_per_image(one),
        )
        for one in quality.longest_first(sets)
    )
    heads = (*words("images", "arm"), label, f"{label}, N \N{RIGHTWARDS ARROW} \N{INFINITY}", "N",
             tell("seconds per image"))  # fmt: skip
    caption = tell("{label} of every set of images, with 95 % intervals; lower is better", label=label)
    return table_of(caption, heads, rows)


def number_of_images(one: ImageSet, numbered: Mapping[str, int]) -> Value:
    """N, with the numbers of the warnings about this set beside it."""
    if one.images is None:
        return missing(one.reason)
    found = sorted({numbered[word] for word in one.quality.warnings}) if one.quality else []
    note = tell("warning {numbers}", numbers=", ".join(map(str, found))) if found else None
    return Value(count(one.images), note, "warn" if found else "")


def time_per_image(one: ImageSet) -> Value:
    """Seconds per image, with the batch size."""
    found = one.seconds_per_image()
    if found.value is None or one.sampled is None:
        return missing(found.reason)
    return Value(duration(found.value * 1e9), tell("batches of {size}", size=count(one.sampled.batch_size)))


def further(view: RunView, label: str) -> Table | None:
    """KID, IS, precision and recall of every set of images."""
    sets = quality.image_sets(view, label)
    if not any(one.quality for one in sets):
        return None
    rows = [
        (*names(one), *(figure(one.figure(metric)) for _, metric in FURTHER)) for one in quality.longest_first(sets)
    ]
    known = quality.reference(view.run, label)
    caption = tell(
        "Further measures over {network}, with 95 % intervals: KID lower is better, the others higher",
        network=known.extractor,
    ) if known else tell(
        "Further measures, with 95 % intervals: KID lower is better, the others higher"
    )  # fmt: skip
    return Table(caption, head(*words("images", "arm", *(name for name, _ in FURTHER))), tuple(rows))


def differences(view: RunView, label: str) -> Table | None:
    """Distance of one arm less that of another, image by image from the same noise."""
    found = sorted(quality.differences(view, label), key=lambda one: -(one.train_steps or 0))
    rows = (difference_row(view, one) for one in found)
    heads = (*words("images", "first", "second"), tell("{label}, first less second", label=label), tell("weights"), "N")
    caption = tell("Differences in {label} between arms, paired, with 95 % intervals", label=label)
    return table_of(caption, heads, rows)


def difference_row(view: RunView, one: QualityDifference) -> tuple[Value, ...]:
    """One difference, and whether its interval holds 0."""
    found = difference(one)
    text, interval = parts(found)
    apart = quality.away_from_zero(found)
    note = tell(quality.NO_INTERVAL)
    if interval:
        note = (tell("{interval}: leaves out 0", interval=interval) if apart
                else tell("{interval}: holds 0: cannot be told apart", interval=interval))  # fmt: skip
    return (
        set_name(one.cell, one.train_steps),
        Value(view.label(one.arm_a), slot=one.arm_a),
        Value(view.label(one.arm_b), slot=one.arm_b),
        missing(found.reason) if found.value is None else Value(text, note),
        Value(tell("the same") if one.matched_weights else tell("each arm's own")),
        Value(count(one.images)),
    )


def trainings(view: RunView) -> Table | None:
    """What every arm was trained for, and what came out."""
    found = sorted(view.run.of(Trained), key=lambda one: (one.steps, one.arm))
    heads = words("trained for", "arm", "loss", "time", "weights, SHA-256")
    return table_of(tell("Trainings of this run"), heads, (training_row(view, one) for one in found))


def training_row(view: RunView, one: Trained) -> tuple[Value, ...]:
    """One training up to a number of steps."""
    loss = one.loss if one.loss is not None and quality.sound(one.loss) else None
    known = one.seconds is not None and quality.sound(one.seconds)
    return (
        Value(plural(one.steps, "step"), tell("batches of {size}", size=count(one.batch_size))),
        Value(view.label(one.arm), slot=one.arm),
        missing(tell("no usable loss was recorded")) if loss is None
        else Value(number(loss), tell("mean of the last tenth")),
        Value(duration((one.seconds or 0.0) * 1e9)) if known else missing(tell("interrupted in between")),
        Value(short(one.weights_sha256), one.checkpoint),
    )  # fmt: skip


def short(digest: str) -> str:
    """The beginning of a hash, enough to tell two apart."""
    return digest if len(digest) <= 16 else f"{digest[:16]}\N{HORIZONTAL ELLIPSIS}"


def nearest(view: RunView) -> Table | None:
    """How near drawn images come to training images, against how near those are to one another."""
    rows = (nearest_row(view, one) for one in view.run.of(NearestImages))
    heads = words("images", "arm", "nearest of all", "median", "typical", "nearest / typical")
    return table_of(tell("Distance of drawn images to their nearest training image"), heads, rows)


def nearest_row(view: RunView, one: NearestImages) -> tuple[Value, ...]:
    """Distances of one set."""
    found = [value for value in one.distances if quality.sound(value)]
    typical = one.typical if quality.sound(one.typical) else None
    ratio = min(found) / typical if found and typical else None
    none = missing(tell("no usable distance was recorded"))
    return (
        Value(short_cell(one.cell), tell("in {space}", space=shown(one.space))),
        Value(view.label(one.arm), slot=one.arm),
        Value(number(min(found)), choice(len(found), "of {n} image", "of {n} images")) if found else none,
        Value(number(float(np.median(found)))) if found else none,
        none if typical is None else Value(number(typical), tell("between training images")),
        none if ratio is None or not quality.sound(ratio) else Value(number(ratio, 2)),
    )


def protocol(view: RunView, label: str) -> Table | None:
    """What the images were held against, and how."""
    known = quality.reference(view.run, label)
    sets = [one.quality for one in quality.image_sets(view, label) if one.quality]
    intervals = " / ".join(dict.fromkeys(shown(one.interval) for one in sets))
    rates = [one.images_per_s for one in sets if one.images_per_s is not None and quality.sound(one.images_per_s)]
    made = (Value(tell("intervals")), Value(intervals) if intervals else missing(tell("no set was evaluated")))
    speed = (
        Value(tell("features of drawn images")),
        Value(rate(float(np.median(rates)))) if rates else missing(tell("not recorded")),
    )
    caption, heads = tell("Protocol of {label}", label=label), head(*words("what", "value"))
    if known is None:
        why = missing(tell("the journal does not say what the images were held against"))
        return Table(caption, heads, ((Value(tell("reference")), why), made, speed)) if sets else None
    cost = rate(known.images_per_s) if known.images_per_s is not None else tell("computed in this run")
    rows = (
        (Value(tell("distance")), Value(label, name_rule(label))),
        (Value(tell("network that looks at the images")),
         Value(known.extractor, tell("weights SHA-256 {hash}", hash=known.weights_sha256))),
        (Value(tell("it sees")), Value(tell("{pixels} pixels a side", pixels=known.input_size))),
        (Value(tell("it gives")), Value(plural(known.feature_size, "feature"))),
        (Value(tell("real images")),
         Value(commas([known.dataset, shown(known.split)]), f"SHA-256 {known.images_sha256}")),
        (Value(tell("number of real images")), Value(count(known.images))),
        (Value(tell("features of real images")), Value(tell("from the cache") if known.cached else cost)),
        speed,
        made,
    )  # fmt: skip
    return Table(caption, heads, rows)


def rate(images_per_s: float) -> str:
    """Images in a second."""
    return tell("{number} images/s", number=number(images_per_s))


def name_rule(label: str) -> str:
    """Why the distance is called what it is called."""
    if label == quality.FID:
        return tell("over the published Inception weights")
    return tell("a Fr\u00e9chet distance over another network than FID's: not an FID, not comparable with published "
                "FIDs")  # fmt: skip


def settings(view: RunView) -> Table | None:
    """How every arm drew its images: values that several sets share are shown once."""
    label = next(iter(quality.labels(view.run)), "")
    sets = [one.sampled for one in quality.image_sets(view, label) if one.sampled]
    if not sets:
        return None
    arms = [arm for arm in view.arms if any(one.arm == arm.slot for one in sets)]
    rows = tuple(
        (Value(tell(name)), *(distinct(said(one) for one in sets if one.arm == arm.slot) for arm in arms))
        for name, said in TELL
    )
    heads = (Value(tell("what")), *(Value(arm.label, slot=arm.slot) for arm in arms))
    return Table(tell("How the images were drawn"), heads, rows)


def distinct(values: Iterable[str]) -> Value:
    """Values of several sets, each once."""
    return Value(tell(", ").join(dict.fromkeys(values)) or DASH)


TELL: tuple[tuple[str, Callable[[ImagesSampled], str]], ...] = (
    (marked("cells"), lambda one: cell_words(one.cell)),
    (marked("images per set, N"), lambda one: count(one.images)),
    (marked("network calls per image (NFE)"), lambda one: count(one.nfe)),
    (marked("spacing of timesteps"), lambda one: one.spacing),
    ("eta", lambda one: f"{one.eta:g}" if quality.sound(one.eta) else DASH),
    (marked("seed"), lambda one: str(one.seed)),
    (marked("batch size"), lambda one: count(one.batch_size)),
    (marked("weights"), lambda one: tell("{name}: {value}", name=shown(one.weights), value=quality.weights_words(one))),
    (marked("weights, SHA-256"), lambda one: short(one.weights_sha256)),
)
