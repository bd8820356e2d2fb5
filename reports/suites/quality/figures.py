"""Figures of image quality that a user chooses by: distance over network calls, and against seconds per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from messages import choice, count, marked, plural, tell, words
from reports.page.data import Data
from reports.page.plotting import MUTED, PAPER, SERIES, Drawn, legend_above, sheet
from reports.suites.quality import facts as quality
from reports.suites.quality.facts import Estimate, ImageSet, parts, told, training_words
from reports.text import commas, duration, semicolons, sentences, tag
from reports.view.run import RunView
from reports.view.words import short_cell

NOTHING = marked("no set of images has a distance")
BARS = marked(
    "Bars: 95 % intervals. Filled and joined: DDIM; open: other methods. Lower is nearer to the reference images."
)
ELSEWHERE = marked(
    "Grey: published elsewhere, with other weights and the number of images named; the earlier comparison is the one "
    "that this project grew from."
)


@dataclass(frozen=True)
class Published:
    """A published curve: network calls -> FID on CIFAR-10, over so many images."""

    name: str
    images: int
    points: dict[int, float]
    line: object
    marker: str


# Song et al. 2021, table 1 (eta 0); Ho et al. 2020 (fixed large variance); the comparison this project grew from.
PUBLISHED = (
    Published(marked("Song et al. 2021, DDIM"), 50_000, {10: 13.36, 20: 6.84, 50: 4.67, 100: 4.16, 1000: 4.04},
              (0, (1, 1.5)), "x"),
    Published(marked("Ho et al. 2020, DDPM"), 50_000, {1000: 3.17}, "none", "+"),
    Published(marked("earlier comparison, PyTorch DDIM"), 1000, {50: 76.43, 250: 69.97, 1000: 67.66},
              (0, (4, 2)), "1"),
    Published(marked("earlier comparison, Jittor DDIM"), 1000, {50: 80.18, 250: 72.93, 1000: 71.81},
              (0, (4, 2, 1, 2)), "2"),
    Published(marked("earlier comparison, PyTorch DDPM"), 1000, {1000: 70.17}, "none", "3"),
    Published(marked("earlier comparison, Jittor DDPM"), 1000, {1000: 74.27}, "none", "4"),
)  # fmt: skip
# FID falls with the number of images (Chong & Forsyth 2020): sets of another size by more than this stand elsewhere.
MOST_TIMES = 5


def why_not_published(view: RunView, label: str) -> str | None:
    """Why published curves must not stand beside this distance; None where they may."""
    known = quality.reference(view.run, label)
    if label != quality.FID:
        return tell("this distance is {label}, and a distance over another network cannot be compared with an FID",
                    label=label)  # fmt: skip
    if known is None:
        return tell("the journal does not say what the images were held against")
    if known.dataset != "cifar10":
        return tell("they are FIDs on cifar10, and these images were held against {data}", data=known.dataset)
    if not published(view, label):
        return tell("they are FIDs of 1000 or of 50,000 images, and an FID falls with the number of images: these sets "
                    "are too small to stand beside them")  # fmt: skip
    return None


def published(view: RunView, label: str) -> list[Published]:
    """The published curves over about as many images as this run's sets."""
    largest = max((one.quality.images for one in quality.image_sets(view, label) if one.quality), default=0)
    return [curve for curve in PUBLISHED if largest / MOST_TIMES <= curve.images <= largest * MOST_TIMES]


def over_calls(view: RunView, label: str, narrow: bool) -> Drawn | str:
    """Distance over network calls, at the longest training."""
    sets = quality.final(quality.image_sets(view, label))
    shown = [one for one in sets if one.calls and one.figure("fd").value is not None]
    if not shown:
        return tell(NOTHING)
    curves = [] if why_not_published(view, label) else published(view, label)
    figure, (axis,) = sheet(narrow, (5.6 if narrow else 4.4) if curves else 3.6)
    axis.set_xscale("log")
    draw_published(axis, curves)
    messages = []
    data = Data((*words("arm", "cell"), label))
    for elsewhere in curves:
        for n, distance in elsewhere.points.items():
            data.point(axis, n, distance, tell(elsewhere.name), plural(n, "network call"), distance)
    for place, arm in enumerate(quality.present(view)):
        own = [one for one in shown if one.arm is arm]
        for one in own:
            mark(data, axis, (one.calls or 0) * 1.025 ** sideways(view, place), one)
        aside = 1.025 ** sideways(view, place)
        curve = [(one.calls * aside, one.figure("fd")) for one in own if one.is_ddim and one.calls]
        draw_series(axis, arm.slot, curve, tag(arm.label))
        for one in own:
            if not one.is_ddim and one.calls:
                name = f"{tag(arm.label)}, {tag(one.cell.split('-')[0].upper(), 12)}"
                draw_open(axis, arm.slot, one.calls * aside, one.figure("fd"), name)
        if own:
            figures = [f"{parts(x.figure('fd'))[0]} ({short_cell(x.cell)})" for x in own]
            messages.append(tell("{arm} {figures}", arm=arm.label, figures=commas(figures)))
    calls = sorted({one.calls for one in shown if one.calls})
    extra = [n for curve in curves for n in curve.points]
    calls_axis(axis, sorted({*calls, *extra}))
    distance_axis(axis, label)
    if curves:
        axis.set_ylim(bottom=0)
    legend_above(figure, axis, 1 if narrow else 2 if curves else 4)
    return Drawn(
        figure,
        tell("{label} {training}, by network calls: {figures}.", label=label,
             training=training_words(quality.final_steps(sets)), figures=semicolons(messages)),
        sentences(tell(BARS), tell("Arms are set a little apart sideways."), tell(ELSEWHERE) if curves else "",
                  left_out(sets, shown)),
        data,
    )  # fmt: skip


def mark(data: Data, axis: Axes, x: float, one: ImageSet, *more: str) -> None:
    """One set for the data of a figure, its interval with it."""
    found = one.figure("fd")
    low, high = found.bounds or (found.value, found.value)
    data.bar(axis, (x, low or 0.0), (x, high or 0.0), one.arm.label, short_cell(one.cell), *more, told(found))


def sideways(view: RunView, place: int) -> int:
    """Where the arm of this place stands, -1 and 1 for two: side by side, their bars don't cover each other."""
    return 2 * place - len(quality.present(view)) + 1


def draw_published(axis: Axes, curves: Sequence[Published]) -> None:
    """Published curves, in grey."""
    for curve in curves:
        axis.plot(
            list(curve.points), list(curve.points.values()), color=MUTED, linestyle=curve.line, marker=curve.marker,
            markersize=6, linewidth=1, zorder=1,
            label=tell("published: {name}, {images} images", name=tell(curve.name), images=count(curve.images)),
        )  # fmt: skip


def draw_series(axis: Axes, slot: str, points: Sequence[tuple[float, Estimate]], name: str) -> None:
    """Points of one arm joined by its line, each with its interval."""
    known = [(x, found.value) for x, found in points if found.value is not None]
    style = SERIES[slot]
    if known:
        axis.plot(
            [x for x, _ in known], [y for _, y in known], color=style.color, linestyle=style.line,
            marker=style.marker, markersize=6.5, label=name, zorder=3,
        )  # fmt: skip
    for x, found in points:
        draw_bar(axis, slot, x, found)


def draw_open(axis: Axes, slot: str, x: float, found: Estimate, name: str | None) -> None:
    """One figure as an open point with its interval."""
    style = SERIES[slot]
    draw_bar(axis, slot, x, found)
    axis.plot(
        x, found.value or 0.0, style.marker, color=style.color, markerfacecolor=PAPER, markersize=6.5,
        markeredgewidth=1.4, label=name, linestyle="none", zorder=3,
    )  # fmt: skip


def draw_bar(axis: Axes, slot: str, x: float, found: Estimate) -> None:
    """An interval as a capped bar; nothing where it is not known."""
    if found.bounds is not None:
        axis.plot([x, x], found.bounds, color=SERIES[slot].color, linewidth=1.5, marker="_", markersize=6, zorder=2)


def calls_axis(axis: Axes, calls: Sequence[int]) -> None:
    """A logarithmic axis of network calls, labelled at the cells."""
    axis.xaxis.set_major_locator(FixedLocator(spaced(calls)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(calls[0] / 1.4, calls[-1] * 1.4)
    axis.set_xlabel(tell("network calls per image (NFE), logarithmic"))


def spaced(values: Sequence[int]) -> list[int]:
    """Those of ascending values whose labels would not run into the one before."""
    kept: list[int] = []
    for value in values:
        if not kept or value / kept[-1] >= 1.35:
            kept.append(value)
    return kept


def distance_axis(axis: Axes, label: str) -> None:
    """The vertical axis of a distance: its recorded name, and room around the data."""
    axis.set_ylabel(tag(label, 30))
    axis.margins(y=0.12)
    axis.yaxis.set_major_locator(MaxNLocator(6))


def left_out(sets: Sequence[ImageSet], shown: Sequence[ImageSet]) -> str:
    """What the journal should have held but a figure cannot show, with the first reason."""
    lost = [one for one in sets if one not in shown]
    if not lost:
        return ""
    names, more = ", ".join(f"{one.arm.label} {short_cell(one.cell)}" for one in lost[:6]), len(lost) - 6
    if more > 0:
        return tell("Not drawn: {names} and {more} more; the table below says why.", names=names, more=more)
    return tell("Not drawn: {names}; the table below says why.", names=names)


def against_seconds(view: RunView, label: str, narrow: bool) -> Drawn | str:
    """Distance against the time that an image takes: what a user trades."""
    sets = quality.final(quality.image_sets(view, label))
    known = [one for one in sets if one.figure("fd").value is not None]
    shown = [one for one in known if one.seconds_per_image().value]
    if not shown:
        reason = known[0].seconds_per_image().reason if known else None
        return tell("no set's time per image is known ({reason})", reason=reason) if reason else tell(NOTHING)
    figure, (axis,) = sheet(narrow, 3.6)
    axis.set_xscale("log")
    messages = []
    data = Data((*words("arm", "cell", "time per image"), label))
    for place, arm in enumerate(quality.present(view)):
        own = [one for one in shown if one.arm is arm]
        for one in own:
            mark(data, axis, seconds(one), one, duration(seconds(one) * 1e9))
        curve = [(seconds(one), one.figure("fd")) for one in own if one.is_ddim]
        draw_series(axis, arm.slot, curve, tag(arm.label))
        for one in own:
            if not one.is_ddim:
                name = f"{tag(arm.label)}, {tag(one.cell.split('-')[0].upper(), 12)}"
                draw_open(axis, arm.slot, seconds(one), one.figure("fd"), name)
            # The first arm's numbers stand on the other side, where no other arm's point covers them.
            axis.annotate(
                count(one.calls) if one.calls else tag(one.cell, 14), (seconds(one), one.figure("fd").value or 0.0),
                xytext=(6, 4) if place else (-6, -4), ha="left" if place else "right", va="bottom" if place else "top",
                textcoords="offset points", fontsize=8.5, color=MUTED,  # English
            )  # fmt: skip
        if own:
            figures = [
                tell("{value} at {time} ({cell})", value=parts(x.figure("fd"))[0], time=duration(seconds(x) * 1e9),
                     cell=short_cell(x.cell)) for x in own
            ]  # fmt: skip
            messages.append(tell("{arm} {figures}", arm=arm.label, figures=commas(figures)))
    seconds_axis(axis, [seconds(one) for one in shown])
    distance_axis(axis, label)
    legend_above(figure, axis, 1 if narrow else 4)
    batches = sorted({one.sampled.batch_size for one in shown if one.sampled})
    return Drawn(
        figure,
        tell("{label} against seconds per image, {training}: {figures}.", label=label,
             training=training_words(quality.final_steps(sets)), figures=semicolons(messages)),
        sentences(
            tell("Down and to the left is better."),
            tell(BARS),
            tell("Numbers: network calls. Time for all images of a set over their number, batches of {sizes}: a "
                 "description, no verdict on speed.", sizes=" / ".join(map(count, batches))),
            without_time(known, shown),
        ),
        data,
    )  # fmt: skip


def seconds(one: ImageSet) -> float:
    """Seconds per image of a set that has them."""
    return one.seconds_per_image().value or 0.0


def seconds_axis(axis: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis of seconds per image, with as many labels as fit."""
    low, high = min(values), max(values)
    subs = (1, 2, 5) if high / low < 30 else (1, 3) if high / low < 1000 else (1,)
    axis.set_xlim(low / 1.9, high * 1.9)
    axis.xaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=8))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(tell("seconds per image, logarithmic"))


def without_time(known: Sequence[ImageSet], shown: Sequence[ImageSet]) -> str:
    """Sets whose time is not known, with the reason of each."""
    lost = [one for one in known if one not in shown]
    reasons: dict[str, list[str]] = {}
    for one in lost:
        reasons.setdefault(one.seconds_per_image().reason, []).append(f"{one.arm.label} {short_cell(one.cell)}")
    if not lost:
        return ""
    told_of = semicolons(
        tell("{names} ({reason})", names=", ".join(names), reason=reason) for reason, names in reasons.items()
    )
    return choice(len(lost), "Time n/a for {n} set: {sets}.", "Time n/a for {n} sets: {sets}.", sets=told_of)
