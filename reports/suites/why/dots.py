"""What each class of operators holds of a gap, by every method that says something of it, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.record.events import Share
from messages import listed, marked, tell, words
from reports.page.data import Data
from reports.page.plotting import BAND, INK, MUTED, PAPER, Drawn, legend_above, sheet
from reports.suites.why.advice import NETWORK
from reports.suites.why.causes import ALL, Told, name_of, short_name, with_doubt
from reports.text import commas, number, percent, semicolons, tag, tick
from reports.view.run import RunView

# Below it a share does not explain, as the words say.
BAND_SHARE = 0.05
# Of the gap: where intervals go on beyond, a picture of them would hide the rest. Every dot is inside all the same.
LEAST, MOST = -1.0, 2.0


class Method(NamedTuple):
    """How a method is called and drawn; in one colour, so that nobody needs to tell two apart."""

    name: str
    marker: str
    fill: str


METHODS = {"cuts": Method(marked("cut out of the step"), "o", INK),
           "isolated": Method(marked("operators alone"), "s", PAPER),
           "swapped": Method(marked("closed by a swap"), "D", MUTED),
           "left-out": Method(marked("gone without it"), "^", PAPER)}


def of(view: RunView, one: Told) -> dict[str, dict[str, Share]]:
    """Class -> method -> share, of one pair; phases that consist of operators only where no operator was timed."""
    found: dict[str, dict[str, Share]] = {}
    shares = [share for share in view.run.of(Share) if {share.arm_a, share.arm_b} == {one.slow, one.fast}
              and share.of == "step" and share.cause != ALL and share.method in METHODS and share.share is not None]
    alone = any(share.method == "isolated" for share in shares)
    for share in shares:
        before = found.setdefault(share.cause, {}).get(share.method)
        # Of several swaps of a class the one that closes most.
        if before is None or (share.share or 0) > (before.share or 0):
            found[share.cause][share.method] = share
    return {cause: by for cause, by in found.items() if not (alone and cause in NETWORK)}


def dots(view: RunView, one: Told, narrow: bool) -> Drawn | str:
    """A row for each class, a dot with its interval for each method."""
    found = of(view, one)
    if not found:
        return tell("no method says what a class of operators holds of the gap")
    causes = sorted(found, key=lambda cause: -max(share.share or 0 for share in found[cause].values()))
    used = [method for method in METHODS if any(method in by for by in found.values())]
    figure, (axis,) = sheet(narrow, 1.4 + 0.36 * len(causes))
    axis.axvspan(-100 * BAND_SHARE, 100 * BAND_SHARE, color=BAND, linewidth=0,
                 label=tell("does not explain: within ±5 %"))
    axis.axvline(0, color=MUTED, linewidth=0.8)
    data = Data(words("class", "method", "share of the gap"))
    for method in used:
        style = METHODS[method]
        own = [(place + lifted(found[cause], method), found[cause][method]) for place, cause in enumerate(causes)
               if method in found[cause]]
        for height, share in own:
            left, right = limits(share)
            data.bar(axis, (100 * left, height), (100 * right, height), name_of(share.cause),
                     tell(style.name), with_doubt(share))  # fmt: skip
            axis.plot([100 * end for end in limits(share)], [height] * 2, color=INK, linewidth=1.2)
        axis.plot([100 * (share.share or 0) for _, share in own], [height for height, _ in own], style.marker,
                  color=INK, markerfacecolor=style.fill, markersize=6, label=tell(style.name))
    every = [share for by in found.values() for share in by.values()]
    middle, ends = [share.share or 0.0 for share in every], [end for share in every for end in limits(share)]
    low = min(*middle, max(LEAST, min(*ends, -BAND_SHARE)))
    high = max(*middle, min(MOST, max(*ends, BAND_SHARE)))
    room = 0.04 * (high - low)
    axis.set_xlim(100 * (low - room), 100 * (high + room))
    axis.set_yticks(range(len(causes)), [tick(short_name(cause), narrow) for cause in causes])
    axis.set_ylim(len(causes) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    slow, fast = tag(view.label(one.slow)), tag(view.label(one.fast))
    axis.set_xlabel(tell("share of the gap, %") if narrow else
                    tell("share of what a step of {slow} takes longer, %", slow=slow))
    legend_above(figure, axis, 1 if narrow else 4)
    return Drawn(figure, tell("Shares of the gap between {slow} and {fast}, by class and method: {shares}.", slow=slow,
                              fast=fast, shares=message(causes, found)), caption(ends, low, high), data)


def lifted(by: dict[str, Share], method: str) -> float:
    """How far a dot is from the middle of its row, so that those of one class do not hide one another."""
    here = [name for name in METHODS if name in by]
    return 0.26 * (here.index(method) - (len(here) - 1) / 2)


def limits(share: Share) -> tuple[float, float]:
    """Its interval, or itself."""
    value = share.share or 0.0
    return value if share.ci_low is None else share.ci_low, value if share.ci_high is None else share.ci_high


def message(causes: Sequence[str], found: dict[str, dict[str, Share]]) -> str:
    """Every dot in words."""
    return semicolons(tell("{cause} {shares}", cause=short_name(cause), shares=commas(
        tell("{share} {method}", share=percent(share.share), method=tell(METHODS[method].name))
        for method, share in found[cause].items())) for cause in causes)


def caption(ends: Sequence[float], low: float, high: float) -> str:
    """What is drawn, and that intervals are cut off at an edge, where they are."""
    text = tell("A dot with its 95 % interval for each method; where the methods of a class differ, each measures "
                "something else.")
    cut = [f"{number(100 * edge)} %" for edge, there in ((low, min(ends) < low), (high, max(ends) > high)) if there]
    return tell("{caption} Intervals go on beyond {edges}.", caption=text, edges=listed(cut)) if cut else text
