"""Ratios under one another on one scale, as markup that the page lays out: one drawing for desktop, phone and paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from messages import tell
from reports.text import commas, printable

# Ticks that are nearer than this to another are left out: per cent of the width of a phone.
APART = 13.0
# An interval that reaches further beyond the ratios is cut off at the edge, so that it does not hide the others.
FAR = 4.0


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis for ratios.

    Attributes:
        low: ratio at its left end.
        high: ratio at its right end.
        ticks: ratios that are named.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, ratio: float) -> float:
        """Where a ratio stands, in per cent of the width; one beyond an end at that end."""
        place = 100 * math.log(ratio / self.low) / math.log(self.high / self.low)
        return round(min(max(place, 0.0), 100.0), 2)


@dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
        label: what is compared.
        text: the ratio with its interval, or why there is none.
        word: what was decided, for people.
        tone: "decided", "even", "open" or "refused", as a card's.
        ratio: None where there is none.
        low: lower end of its interval; None where there is none.
        high: upper end.
        minor: whether it is a detail of a row above, or a self-check.
    """

    label: str
    text: str
    word: str
    tone: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    minor: bool = False

    @property
    def ends(self) -> tuple[float, float] | None:
        """Its interval, or the ratio alone."""
        if not sound(self.ratio) or self.ratio is None:
            return None
        low, high = (end if sound(end) and end else self.ratio for end in (self.low, self.high))
        return low, high


@dataclass(frozen=True)
class Forest:
    """The ratios of one pair of arms.

    Attributes:
        title: what is divided by what.
        left: what it means to lie left of 1.
        right: what it means to lie right of it.
        rows: from the most important down.
        margin: how far from 1 a ratio may lie and still count as equal; None where nothing was declared.
        scale: the axis; `on_one_scale` gives all forests of a page the same.
    """

    title: str
    left: str
    right: str
    rows: tuple[Row, ...]
    margin: float | None = None
    scale: Scale | None = None

    @property
    def band(self) -> tuple[float, float]:
        """What counts as equal."""
        edge = self.margin if self.margin and self.margin > 0 else 0.0
        return 1 / (1 + edge), 1 + edge

    def track(self, row: Row) -> str:
        """One row drawn: band, line of equality, interval, ratio; "" where it has no ratio."""
        ends = row.ends
        if self.scale is None or ends is None or row.ratio is None:
            return ""
        left, right = (self.scale.at(end) for end in self.band)
        one, middle = self.scale.at(1.0), self.scale.at(row.ratio)
        low, high = (self.scale.at(end) for end in ends)
        mark = f'<circle cx="{middle}%" cy="11" r="{4 if row.minor else 5.5}"/>'  # English
        if row.tone == "even":
            mark = f'<rect x="{middle}%" y="6" width="10" height="10" transform="translate(-5)"/>'
        return (
            f'<svg class="track" width="100%" height="22" aria-hidden="true"><title>{text_of(row)}</title>'  # English
            f'<rect class="band" x="{left}%" width="{round(right - left, 2)}%" height="22"/>'
            f'<line class="one" x1="{one}%" x2="{one}%" y1="0" y2="22"/>'
            f'<line class="span" x1="{low}%" x2="{high}%" y1="11" y2="11"/><g class="{row.tone}">{mark}</g></svg>'
        )

    @property
    def axis(self) -> str:
        """The axis drawn."""
        if self.scale is None:
            return ""
        named = "".join(
            f'<line x1="{at}%" x2="{at}%" y1="0" y2="4"/><text x="{at}%" y="17" text-anchor="{anchor(at)}">{tick:g}'
            "</text>" for tick, at in ((tick, self.scale.at(tick)) for tick in self.scale.ticks)
        )  # fmt: skip
        return ('<svg class="axis" width="100%" height="21" aria-hidden="true">'
                f'<line x1="0" x2="100%" y1=".5" y2=".5"/>{named}</svg>')  # English


def anchor(at: float) -> str:
    """How a tick's name stands to it, so that it stays inside."""
    return "start" if at < 4 else "end" if at > 96 else "middle"


def text_of(row: Row) -> str:
    """What a row says, escaped, for whoever points at it."""
    return escape(printable(tell("{name}: {value}", name=row.label, value=commas([row.text, row.word]))))


def sound(value: float | None) -> bool:
    """Whether a ratio can be drawn."""
    return value is not None and math.isfinite(value) and value > 0


def on_one_scale(forests: Sequence[Forest]) -> tuple[Forest, ...]:
    """The forests on one axis, which holds 1: a length means the same in all of them."""
    rows = [(row.ratio, row.ends) for forest in forests for row in forest.rows if row.ends and row.ratio]
    if not rows:
        return tuple(forests)
    ratios = [1.0, *(edge for forest in forests for edge in forest.band), *(ratio for ratio, _ in rows)]
    least, most = min(ratios) / FAR, max(ratios) * FAR
    ends = [min(max(end, least), most) for _, both in rows for end in both]
    low, high = min(*ratios, *ends), max(*ratios, *ends)
    room = max(math.log(high / low), 0.004) * 0.06
    low, high = low * math.exp(-room), high * math.exp(room)
    scale = Scale(low, high, ())
    scale = replace(scale, ticks=ticks(scale))
    return tuple(replace(forest, scale=scale) for forest in forests)


def ticks(scale: Scale) -> tuple[float, ...]:
    """Round ratios on an axis, 1 among them, as many as a phone has room for."""
    low, high = scale.low, scale.high
    if high / low < 3:
        step = next(size * 10.0**power for power in range(-5, 2) for size in (1, 2, 5)
                    if size * 10.0**power * 6 >= high - low)
        found = [round(step * number, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    else:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        # The roundest first: what comes later finds no room where it is tight.
        found = [round(size * 10.0**power, 9) for size in (1, 2, 5, 3, 1.5) for power in powers]
    kept = [1.0]
    for value in found:
        if low <= value <= high and all(abs(scale.at(value) - scale.at(other)) >= APART for other in kept):
            kept.append(value)
    return tuple(sorted(kept))
