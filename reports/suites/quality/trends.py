"""Figures of image quality over what was spent on it: over training steps, and over the number of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from messages import choice, count, tell, words
from reports.page.data import Data
from reports.page.plotting import SERIES, Drawn, legend_above, sheet
from reports.suites.quality import facts as quality
from reports.suites.quality.facts import Estimate, ImageSet, sound, told, training_words
from reports.suites.quality.figures import distance_axis, draw_open, draw_series, mark, sideways
from reports.text import commas, number, semicolons, sentences, tag
from reports.view.run import RunView
from reports.view.words import short_cell

MOST_PANELS = 4


def over_training(view: RunView, label: str, narrow: bool) -> Drawn | str:
    """Distance over training steps, one panel per cell that was drawn after several trainings."""
    known = [
        one for one in quality.image_sets(view, label)
        if one.train_steps and 0 < one.train_steps < quality.MOST and one.figure("fd").value is not None
    ]  # fmt: skip
    lengths: dict[str, set[int]] = {}
    for one in known:
        lengths.setdefault(one.cell, set()).add(one.train_steps or 0)
    cells = [cell for cell, steps in lengths.items() if len(steps) > 1]
    if not cells:
        return tell("no cell was evaluated after more than one length of training")
    shown, steps = cells[:MOST_PANELS], sorted({one.train_steps or 0 for one in known})
    figure, axes = sheet(narrow, 0.9 + 1.6 * len(shown), len(shown), sharex=True, sharey=True)
    data = Data((*words("arm", "cell", "training steps"), label))
    messages, told_of = [], main_cell(shown)
    for axis, cell in zip(axes, shown, strict=True):
        for place, arm in enumerate(quality.present(view)):
            own = [one for one in known if one.arm is arm and one.cell == cell]
            aside = 0.004 * max(steps) * sideways(view, place)
            for one in own:
                mark(data, axis, (one.train_steps or 0) + aside, one, count(one.train_steps or 0))
            draw_series(axis, arm.slot, [((one.train_steps or 0) + aside, one.figure("fd")) for one in own],
                        tag(arm.label))  # fmt: skip
            if own and cell == told_of:
                ends = [(told(one.figure("fd")), count(one.train_steps or 0)) for one in own]
                figures = [tell("{value} after {steps}", value=value, steps=number_) for value, number_ in ends]
                messages.append(
                    tell("{arm} {cell} {figures}", arm=arm.label, cell=short_cell(cell), figures=commas(figures))
                )
        distance_axis(axis, label)
        axis.set_title(tag(short_cell(cell)))
        axis.yaxis.set_major_locator(MaxNLocator(4))
    axes[-1].set_xlabel(tell("training steps"))
    few = len(steps) <= (4 if narrow else 7)
    axes[-1].xaxis.set_major_locator(FixedLocator(steps) if few else MaxNLocator(5 if narrow else 8, integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    legend_above(figure, axes[0], 1 if narrow else 4)
    return Drawn(
        figure,
        tell("{label} over training steps: {figures}.", label=label, figures=semicolons(messages)),
        sentences(
            tell("One training per arm, looked at in between; bars: 95 % intervals over the drawn images, which say "
                 "nothing about another training. Arms are set a little apart sideways. Lower is nearer to the "
                 "reference images."),
            in_the_table(len(cells) - MOST_PANELS),
        ),
        data,
    )  # fmt: skip


def in_the_table(further: int) -> str:
    """That so many cells have no panel."""
    if further <= 0:
        return ""
    return choice(further, "{n} further cell in the table.", "{n} further cells in the table.")


def over_images(view: RunView, label: str, narrow: bool) -> Drawn | str:
    """Distance over 1/N with its extrapolation to infinitely many images, one panel per cell."""
    sets = [one for one in quality.final(quality.image_sets(view, label)) if rungs(one)]
    cells = list(dict.fromkeys(one.cell for one in sets))
    if not cells:
        return tell("no distance over fewer images was recorded")
    shown = cells[:MOST_PANELS]
    figure, axes = sheet(narrow, 0.9 + 1.6 * len(shown), len(shown), sharex=True, sharey=True)
    data = Data((*words("arm", "cell", "images"), label))
    messages, told_of = [], main_cell(shown)
    least = min(n for one in sets for n, _ in rungs(one))
    aside = {arm.slot: 0.006 / least * sideways(view, place) for place, arm in enumerate(quality.present(view))}
    for axis, cell in zip(axes, shown, strict=True):
        for one in sets:
            if one.cell != cell:
                continue
            limit = one.figure("fd-extrapolated")
            draw_ladder(axis, one, limit, aside[one.arm.slot])
            ladder = [(1 / n, count(n), number(value), value) for n, value in rungs(one)]
            if limit.value is not None:
                ladder.append((0.0, "\N{INFINITY}", told(limit), limit.value))
            for x, images, text, value in ladder:
                data.point(axis, x + aside[one.arm.slot], value, one.arm.label, short_cell(cell), images, text)
            if cell != told_of:
                continue
            most = rungs(one)[-1]
            known = {"arm": one.arm.label, "cell": short_cell(cell), "value": told(one.figure("fd")),
                     "images": count(most[0])}  # fmt: skip
            messages.append(
                tell("{arm} {cell} from {value} with {images} images to {limit} without end", **known,
                     limit=told(limit)) if limit.value is not None else
                tell("{arm} {cell} from {value} with {images} images extrapolation n/a, {reason}", **known,
                     reason=limit.reason)
            )  # fmt: skip
        distance_axis(axis, label)
        axis.yaxis.set_major_locator(MaxNLocator(4))
        axis.set_title(tag(short_cell(cell)))
    images_axis(axes[-1], sorted({n for one in sets for n, _ in rungs(one)}, reverse=True))
    legend_above(figure, axes[0], 1 if narrow else 4)
    return Drawn(
        figure,
        tell("{label} {training}, extrapolated over the number of images: {figures}.", label=label,
             training=training_words(quality.final_steps(sets)), figures=semicolons(messages)),
        sentences(
            tell("A distance from few images is too large, by about a constant over N (Chong and Forsyth 2020). "
                 "Filled: means over disjoint subsets of N images; open, at the left edge: the extrapolation with its "
                 "95 % interval; the line joins the two."),
            in_the_table(len(cells) - MOST_PANELS),
        ),
        data,
    )  # fmt: skip


def main_cell(cells: Sequence[str]) -> str:
    """The cell whose figures are put into words: DDIM's of the most network calls, else the last one."""
    ddim = [cell for cell in cells if cell.startswith("ddim")]
    return (ddim or cells)[-1]


def rungs(one: ImageSet) -> list[tuple[int, float]]:
    """Number of images and distance of every usable rung, few images first."""
    ladder = one.quality.ladder if one.quality else []
    return sorted((rung.images, rung.value) for rung in ladder if 0 < rung.images < quality.MOST and sound(rung.value))


def draw_ladder(axis: Axes, one: ImageSet, limit: Estimate, aside: float) -> None:
    """The rungs of one set over 1/N, and the line from the recorded limit through them, all `aside` of their place."""
    slot, found = one.arm.slot, rungs(one)
    style, x = SERIES[slot], np.array([1 / n for n, _ in found])
    y = np.array([value for _, value in found])
    axis.plot(x + aside, y, style.marker, color=style.color, markersize=5.5, zorder=3)
    axis.plot([], [], color=style.color, linestyle=style.line, marker=style.marker, label=tag(one.arm.label))
    if limit.value is None:
        return
    # The limit is as recorded; only the slope is fitted here, to draw the line.
    slope = float((x * (y - limit.value)).sum() / (x * x).sum())
    ends = np.array([0.0, float(x.max())])
    axis.plot(ends + aside, limit.value + slope * ends, color=style.color, linestyle=style.line, linewidth=1.1)
    draw_open(axis, slot, aside, limit, None)


def images_axis(axis: Axes, images: Sequence[int]) -> None:
    """An axis of 1/N labelled by N, from infinitely many images on the left."""
    widest = 1 / images[-1]
    kept = [0.0]
    for n in images:
        if 1 / n - kept[-1] >= 0.09 * widest:
            kept.append(1 / n)
    axis.xaxis.set_major_locator(FixedLocator(kept))
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: count(round(1 / value)) if value > 0 else "\N{INFINITY}")
    )
    axis.set_xlim(-0.06 * widest, 1.08 * widest)
    axis.set_xlabel(tell("number of images N, drawn over 1/N"))
