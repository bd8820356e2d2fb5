"""A ratio over runs as a small picture: SVG from numbers, because the index is made after every run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from messages import marked, tell
from reports.history.series import Point, Series, usable
from reports.text import signed_percent
from reports.view.words import DECIDED

# In the units of the picture, which the page scales.
WIDTH, HEIGHT = 300.0, 72.0
SIDE, TOP = 10.0, 12.0
# An interval that is wider than this many times what the ratios span is cut off, so that these can be told apart.
WIDEST = 2.0
LABEL = marked("Time {a} / time {b} over {count} runs, {oldest} to {newest}: first {first}, last {last}. {steps}")
NO_STEP = marked("No step.")
HOVER = marked("{date}, {run}: {ratio}, {blocks}, {word}")


@dataclass(frozen=True)
class Scale:
    """From run and ratio to places in the picture."""

    runs: int
    low: float
    high: float

    def x(self, place: float) -> float:
        """Where a run stands."""
        return SIDE + (WIDTH - 2 * SIDE) * (place / (self.runs - 1) if self.runs > 1 else 0.5)

    def y(self, log: float) -> float:
        """Where a logarithm stands; outside the picture at its edge."""
        share = (min(max(log, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - TOP - (HEIGHT - 2 * TOP) * share


def scale_of(row: Series) -> Scale:
    """Around all ratios and, as far as it does not hide these, their intervals and 1."""
    edge = math.log1p(row.margin)
    low, high = min(row.logs), max(row.logs)
    room = WIDEST * max(high - low, edge)
    ends = [end for one in row.drawn for end in interval(one)]
    low, high = min(low, max(min(ends, default=low), low - room)), max(high, min(max(ends, default=high), high + room))
    if low - room < edge and high + room > -edge:
        low, high = min(low, -edge), max(high, edge)
    return Scale(len(row.drawn), low, high if high > low else low + edge)


def interval(point: Point) -> tuple[float, ...]:
    """The ends of a run's interval as logarithms; none without one."""
    low, high = point.verdict.ci_low, point.verdict.ci_high
    return (math.log(low or 1), math.log(high or 1)) if usable(low) and usable(high) else ()


def picture(row: Series) -> Markup:
    """Every run's ratio with its interval, the margin around 1, levels between steps; hovering tells the numbers."""
    scale, edge = scale_of(row), math.log1p(row.margin)
    parts = []
    if scale.low <= edge and scale.high >= -edge:
        top, bottom = scale.y(edge), scale.y(-edge)
        parts.append(f'<rect class="band" x="0" y="{top:.1f}" width="{WIDTH:.0f}" '  # English
                     f'height="{bottom - top:.1f}"/>')
        parts.append(f'<path class="one" d="M0 {scale.y(0):.1f}H{WIDTH:.0f}"/>')  # English
    parts += levels(row, scale)
    parts += [mark(row, place, scale) for place in range(len(row.drawn))]
    return Markup(f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{escape(label(row))}">'
                  f'{"".join(parts)}</svg>')  # English


def levels(row: Series, scale: Scale) -> list[str]:
    """The mean between steps as lines, and every step as an upright one with its size; nothing without a step."""
    if not row.steps:
        return []
    edges = [0, *(step.at for step in row.steps), len(row.logs)]
    parts = []
    for first, after in zip(edges, edges[1:], strict=False):
        y = scale.y(sum(row.logs[first:after]) / (after - first))
        parts.append(f'<path class="level" d="M{scale.x(first):.1f} {y:.1f}H{scale.x(after - 1):.1f}"/>')  # English
    for step, words in zip(row.steps, row.step_words, strict=True):
        x = scale.x(step.at - 0.5)
        anchor = "start" if x < WIDTH / 2 else "end"
        parts.append(f'<g class="step"><title>{escape(words)}</title><path d="M{x:.1f} {TOP:.0f}V{HEIGHT:.0f}"/>'
                     f'<text x="{x:.1f}" y="{TOP - 3:.0f}" text-anchor="{anchor}">'
                     f"{signed_percent(step.ratio - 1)}</text></g>")
    return parts


def mark(row: Series, place: int, scale: Scale) -> str:
    """One run: hollow where it decided nothing."""
    point, x = row.drawn[place], scale.x(place)
    ends = interval(point)
    bar = f'<path d="M{x:.1f} {scale.y(ends[0]):.1f}V{scale.y(ends[1]):.1f}{arrows(x, ends, scale)}"/>' if ends else ""
    open_ = point.verdict.word not in DECIDED
    words = tell(HOVER, date=f"{point.when:%Y-%m-%d %H:%M}", run=point.run, ratio=point.told,
                 blocks=point.rests_on, word=point.verdict.word)
    return (f'<g class="run{" open" if open_ else ""}"><title>{escape(words)}</title>{bar}'
            f'<circle cx="{x:.1f}" cy="{scale.y(row.logs[place]):.1f}" r="3.2"/></g>')  # English


def arrows(x: float, ends: tuple[float, ...], scale: Scale) -> str:
    """The heads of an interval that goes on beyond the picture, as pieces of a path."""
    low, high = ends
    found = ""
    if high > scale.high:
        found += f"M{x - 2.5:.1f} {TOP + 4:.1f}L{x:.1f} {TOP:.1f}L{x + 2.5:.1f} {TOP + 4:.1f}"
    if low < scale.low:
        bottom = HEIGHT - TOP
        found += f"M{x - 2.5:.1f} {bottom - 4:.1f}L{x:.1f} {bottom:.1f}L{x + 2.5:.1f} {bottom - 4:.1f}"
    return found


def label(row: Series) -> str:
    """The message of the picture, with its numbers."""
    first, last = row.drawn[0], row.drawn[-1]
    return tell(LABEL, a=row.a, b=row.b, count=len(row.drawn), oldest=f"{first.when:%Y-%m-%d}",
                newest=f"{last.when:%Y-%m-%d}", first=first.told, last=last.told,
                steps="; ".join(row.step_words) or tell(NO_STEP))
