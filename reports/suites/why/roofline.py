"""How fast each class of operators runs in each arm, under what products and memory allow here."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from impls.recipe.isolated import COPY
from messages import tell, words
from reports.page.data import Data
from reports.page.plotting import INK, MUTED, PAPER, SERIES, Drawn, legend_above, sheet
from reports.suites.why.causes import Told, name_of
from reports.suites.why.operators import CLASSES, ceilings, rates
from reports.text import commas, number, semicolons, tag
from reports.view.run import RunView


def roofline(view: RunView, one: Told, narrow: bool) -> Drawn | str:
    """A dot for each class and arm: operations per byte across, operations per second up."""
    peak, copy = ceilings(view)
    if peak is None or copy is None:
        return tell("no arm measured what products and memory allow")
    figure, (axis,) = sheet(narrow, 4.2)
    dots = {slot: {kind: (rate.flop / rate.bytes, rate.flop / rate.ns) for kind, rate in rates(view, slot).items()
                   if kind != COPY and rate.flop and rate.ns} for slot in (one.slow, one.fast)}
    across = [x for of in dots.values() for x, _ in of.values()]
    if not across:
        return tell("no class of operators was timed")
    x = np.geomspace(min(across) / 3, max(*across, peak / copy) * 3, 200)
    axis.plot(x, np.minimum(peak, copy * x) / 1e9, color=INK, label=tell("best product and sum of arrays here"))
    axis.axvline(peak / copy, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    messages = []
    data = Data((*words("arm", "class", "floating-point operations per byte"), "GFLOP/s"))
    for slot, of in dots.items():
        for kind, (wide, tall) in of.items():
            data.point(axis, wide, tall, view.label(slot), name_of(kind), number(wide), number(tall))
        style = SERIES[slot]
        axis.plot([x for x, _ in of.values()], [y for _, y in of.values()], style.marker, color=style.color,
                  label=tag(view.label(slot)), markersize=7)
        told = commas(tell("{operators} {rate}", operators=name_of(kind), rate=number(y))
                      for kind, (_, y) in of.items())
        messages.append(tell("{arm}: {rates}", arm=tag(view.label(slot)), rates=told))
    for kind in CLASSES:
        ends = [of[kind] for of in dots.values() if kind in of]
        if ends:
            axis.plot([x for x, _ in ends], [y for _, y in ends], color=MUTED, linewidth=0.8, zorder=1)
            axis.annotate(name_of(kind), min(ends, key=lambda end: end[1]), (0, -14),
                          textcoords="offset points",  # English
                          ha="center", fontsize=8, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6})
    axis.set_xscale("log")
    axis.set_yscale("log")
    # Room for the name below the lowest dot.
    axis.set_ylim(bottom=min(y for of in dots.values() for _, y in of.values()) / 2.5)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        scale.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
        scale.set_minor_formatter(NullFormatter())
    axis.set_xlabel(tell("floating-point operations per byte read or written at least"))
    axis.set_ylabel("GFLOP/s")
    legend_above(figure, axis, 1 if narrow else 3)
    return Drawn(
        figure,
        tell("GFLOP/s of each class of operators alone. {rates}. The best product reaches {peak} GFLOP/s, a sum of "
             "arrays {copy} GB/s.", rates=semicolons(messages), peak=number(peak / 1e9), copy=number(copy / 1e9)),
        tell("Line: what the arms reached at best here, in a product of matrices (flat) and in a sum of large arrays "
             "(rising). A dot below it has room; a grey line joins the two arms of a class."),
        data,
    )
