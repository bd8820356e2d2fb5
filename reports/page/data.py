"""The numbers behind a figure: shown where a reader points, and as a table that folds out below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from messages import count, marked, tell
from reports.page.blocks import Table, head
from reports.text import Floats, Value, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of a figure, and of one line in it: more rows are no reading, and what was measured has them all.
MOST_ROWS = 240
MOST_OF_LINE = 60
MOST_TARGETS = 160
# Half the size of what a reader points at, in points of the figure.
REACH = 6.0
CAPTION = marked("Data of this figure")
THINNED = marked("Data of this figure: {shown} of {rows} rows, evenly")


@dataclass(frozen=True)
class Mark:
    """One row of the data and where it stands.

    Attributes:
        axes: the graph that it stands in.
        x: across, in the graph's own units.
        y: up.
        cells: its row in the table.
        to: the other end of a bar or stretch; None for a point.
    """

    axes: Axes
    x: float
    y: float
    cells: tuple[str, ...]
    to: tuple[float, float] | None = None


@dataclass
class Data:
    """What a figure shows, in numbers.

    Attributes:
        head: what the columns are, with units where cells have none.
        marks: a row each.
        left_out: points of lines that are too long to be read.
    """

    head: tuple[str, ...]
    marks: list[Mark] = field(default_factory=list)
    left_out: int = 0

    def point(self, axes: Axes, x: float, y: float, *cells: object) -> None:
        """Add a point."""
        self.marks.append(Mark(axes, x, y, tuple(map(str, cells))))

    def bar(self, axes: Axes, start: tuple[float, float], end: tuple[float, float], *cells: object) -> None:
        """Add a bar or a stretch of time, from one end to the other."""
        self.marks.append(Mark(axes, *start, tuple(map(str, cells)), end))

    def line(
        self, axes: Axes, x: Floats, y: Floats, name: str, cells: Callable[[float, float], Iterable[object]]
    ) -> None:
        """Add a line; of a long one points evenly. `cells` tells what stands in a point's row behind the name."""
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        kept = known[:: max(1, -(-known.size // MOST_OF_LINE))]
        self.left_out += known.size - kept.size
        for across, up in zip(x[kept].tolist(), y[kept].tolist(), strict=True):
            self.point(axes, across, up, name, *cells(across, up))

    @property
    def table(self) -> Table:
        """As a table, thinned where it is too long to read."""
        rows = thinned(self.marks, MOST_ROWS)
        every = len(self.marks) + self.left_out
        thin = len(rows) < every
        caption = tell(THINNED, shown=count(len(rows)), rows=count(every)) if thin else tell(CAPTION)
        return Table(caption, head(*self.head), tuple(tuple(map(Value, mark.cells)) for mark in rows))

    def targets(self, figure: Figure) -> str:
        """Invisible shapes over what is drawn, which tell their numbers: SVG for a figure that was just drawn."""
        height = figure.bbox.height
        shown = thinned(self.marks, MOST_TARGETS)
        shapes = "".join(
            shape for axes, marks in groupby(shown, key=lambda mark: mark.axes)
            for shape in shapes_of(axes, list(marks), self.head, height)
        )  # fmt: skip
        return f'<g class="targets" fill-opacity="0" pointer-events="all">{shapes}</g>' if shapes else ""


def thinned(marks: Sequence[Mark], most: int) -> Sequence[Mark]:
    """At most so many, evenly."""
    return marks[:: max(1, -(-len(marks) // most))]


def shapes_of(axes: Axes, marks: Sequence[Mark], names: Sequence[str], height: float) -> Iterator[str]:
    """The shapes of one graph, in points from the upper left corner; what lies outside the graph has none."""
    with np.errstate(all="ignore"):
        starts = axes.transData.transform([(mark.x, mark.y) for mark in marks])
        ends = axes.transData.transform([mark.to or (mark.x, mark.y) for mark in marks])
    box = axes.bbox
    low, high = np.array([box.x0 - 1, box.y0 - 1]), np.array([box.x1 + 1, box.y1 + 1])
    for mark, one, other in zip(marks, starts, ends, strict=True):
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            continue
        (left, down), (right, up) = np.minimum(one, other), np.maximum(one, other)
        if right < low[0] or left > high[0] or up < low[1] or down > high[1]:
            continue
        (left, down), (right, up) = np.maximum((left, down), low), np.minimum((right, up), high)
        title = f"<title>{told(names, mark.cells)}</title>"
        if mark.to is None:
            yield f'<circle cx="{left:.1f}" cy="{height - down:.1f}" r="{REACH}">{title}</circle>'  # English
            continue
        wide, tall = max(right - left, REACH), max(up - down, 2 * REACH)
        x, y = (left + right - wide) / 2, height - (up + down + tall) / 2
        yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}">{title}</rect>'


def told(names: Sequence[str], cells: Iterable[str]) -> str:
    """A row in words, escaped: a line each."""
    return escape("\n".join(f"{name}: {printable(cell)}" for name, cell in zip(names, cells, strict=True) if cell))
