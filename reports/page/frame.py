"""The frame of a graph: grid, ticks and their labels, drawn from numbers instead of an object for each.

Matplotlib makes five artists a tick and measures each for every layout and drawing: that was most of a report's time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, cast

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick, XAxis, YAxis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.spines import Spine
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from matplotlib.ticker import Formatter, NullLocator
from matplotlib.transforms import Bbox, IdentityTransform

from reports.text import Floats

Kind = Literal["major", "minor"]
# Of one kind: where, in the graph's own units, and their labels.
Ticks = tuple[Kind, Sequence[float], Sequence[str]]
# Left, lower, right and upper end, in pixels.
Box = tuple[float, float, float, float]
# Between an axis and what it is counted in, such as 1e6: as matplotlib has it.
OFFSET_PAD = 3.0
# The style in force.
LOOK: Mapping[str, Any] = cast("Mapping[str, Any]", mpl.rcParams)  # English


@dataclass(frozen=True)
class Level:
    """The major or the minor ticks inside an axis's limits: where, in pixels along it, and their labels."""

    kind: Kind
    places: Floats
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """A laid out text, in points from its anchor: every line with the left end of its baseline, and what all cover."""

    lines: tuple[tuple[str, float, float], ...]
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Placed:
    """A text and where its anchor is, in pixels; `points` of them to a point."""

    words: Words
    ha: str
    x: float
    y: float
    points: float

    @property
    def box(self) -> Box:
        """What it covers."""
        words, by = self.words, self.points
        return self.x + words.x0 * by, self.y + words.y0 * by, self.x + words.x1 * by, self.y + words.y1 * by


class Unticked:
    """An axis that makes no tick, not even the one of each kind that matplotlib sets up for its looks."""

    majorTicks: Any = ()  # noqa: N815
    minorTicks: Any = ()  # noqa: N815

    def get_major_ticks(self, numticks: int | None = None) -> list[Tick]:
        """None."""
        return []

    def get_minor_ticks(self, numticks: int | None = None) -> list[Tick]:
        """None."""
        return []


class Across(Unticked, XAxis):
    """The lower axis."""


class Upright(Unticked, YAxis):
    """The left axis."""


class Graph(Axes):
    """Axes whose ticks a frame draws, open above and on the right."""

    def _init_axis(self) -> None:
        self.xaxis, self.yaxis = Across(self, clear=False), Upright(self, clear=False)
        self.spines["bottom"].register_axis(self.xaxis)
        self.spines["left"].register_axis(self.yaxis)

    def _gen_axes_spines(self, *_: Any, **__: Any) -> dict[str, Spine]:
        return {side: Spine.linear_spine(self, side) for side in ("left", "bottom")}


class Frame(Artist):
    """Draws both axes of a graph in matplotlib's own looks; locators, formatters, limits and names stay theirs.

    It draws the ticks for which the layout has kept room last.
    """

    def __init__(self, axes: Axes) -> None:
        """Take over the drawing of the axes' ticks and labels."""
        super().__init__()
        self.graph = axes
        self._ticks: dict[bool, list[Ticks]] = {}
        self.set_zorder(0.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_visible(False)
        for spine in axes.spines.values():
            # Otherwise the first tick does that.
            spine.set_position(("outward", 0))
        axes.add_artist(self)
        # It stands around the axes, so the layout must not take it for clipped.
        self.set_clip_on(False)

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox:
        """What the layout keeps free: like matplotlib's it takes no account of how long an axis's name is."""
        left, low, right, high = map(float, self.graph.bbox.extents)
        boxes: list[Box] = []
        for upright in (False, True):
            self._ticks[upright] = self._found(upright)
            texts, edge, label = self._texts(upright, list(self._levels(upright)))
            boxes += [one.box for one in texts]
            boxes.append((edge, low, right, high) if upright else (left, edge, right, high))
            if label is not None:
                x0, y0, x1, y1 = map(float, label.get_window_extent(renderer).extents)
                x, y = (x0 + x1) / 2, (y0 + y1) / 2
                boxes.append((x0, y, x1, y) if upright else (x, y0, x, y1))
        lefts, lows, rights, highs = zip(*boxes, strict=True)
        return Bbox.from_extents(min(lefts), min(lows), max(rights), max(highs))

    def draw(self, renderer: RendererBase) -> None:
        """Grid, ticks, labels."""
        for upright in (False, True):
            levels = list(self._levels(upright))
            self._lines(renderer, upright, levels)
            texts, _, label = self._texts(upright, levels)
            name = "ytick" if upright else "xtick"
            write(renderer, self.graph.figure, texts, LOOK[f"{name}.labelsize"], LOOK[f"{name}.labelcolor"])
            if label is not None:
                label.draw(renderer)
        self.stale = False

    def _axis(self, upright: bool) -> Axis:
        return self.graph.yaxis if upright else self.graph.xaxis

    def _found(self, upright: bool) -> list[Ticks]:
        axis = self._axis(upright)
        # Matplotlib looks for the major ticks once more to find that there are no minor ones.
        minor: Any = [] if isinstance(axis.get_minor_locator(), NullLocator) else axis.get_minorticklocs()
        sorts: tuple[tuple[Kind, Any, Formatter], ...] = (
            ("major", axis.get_majorticklocs(), axis.get_major_formatter()),
            ("minor", minor, axis.get_minor_formatter()),
        )
        return [(kind, locs, formatter.format_ticks(list(locs))) for kind, locs, formatter in sorts if len(locs)]

    def _levels(self, upright: bool) -> Iterator[Level]:
        """The ticks for which room was kept, where they are now."""
        low, high = sorted(self.graph.bbox.intervaly if upright else self.graph.bbox.intervalx)
        room = (high - low) * 1e-9
        along = self.graph.get_yaxis_transform() if upright else self.graph.get_xaxis_transform()
        for kind, locs, labels in self._ticks[upright]:
            points = np.zeros((len(locs), 2))
            points[:, int(upright)] = locs
            places = along.transform(points)[:, int(upright)]
            inside = np.isfinite(places) & (places >= low - room) & (places <= high + room)
            yield Level(kind, places[inside], tuple(labels[i] for i in np.flatnonzero(inside)))

    def _lines(self, renderer: RendererBase, upright: bool, levels: list[Level]) -> None:
        """The grid of the major ticks, then the ticks."""
        box, name = self.graph.bbox, "ytick" if upright else "xtick"
        shown = self._axis(upright).get_tick_params(which="major").get("gridOn", LOOK["axes.grid"])
        for level in levels:
            length = LOOK[f"{name}.{level.kind}.size"] * self.figure.dpi / 72
            if level.kind == "major" and shown:
                far = box.x1 if upright else box.y1
                color, width = LOOK["grid.color"], LOOK["grid.linewidth"]
                self._strokes(renderer, level.places, upright, far, color, width, "projecting")
            near = (box.x0 if upright else box.y0) - length
            color, width = LOOK[f"{name}.color"], LOOK[f"{name}.{level.kind}.width"]
            self._strokes(renderer, level.places, upright, near, color, width, "butt")

    def _strokes(
        self, renderer: RendererBase, places: Floats, upright: bool, end: float, color: str, width: float, cap: str
    ) -> None:
        """Lines across the axis from it to `end`, all of them as one path."""
        if not len(places):
            return
        start = self.graph.bbox.x0 if upright else self.graph.bbox.y0
        points = np.empty((2 * len(places), 2))
        points[:, int(upright)] = np.repeat(places, 2)
        points[:, 1 - int(upright)] = np.tile([start, end], len(places))
        context: Any = renderer.new_gc()
        context.set_foreground(color)
        context.set_linewidth(width)
        context.set_capstyle(cap)
        renderer.draw_path(context, Path(points, [Path.MOVETO, Path.LINETO] * len(places)), IdentityTransform())
        context.restore()

    def _texts(self, upright: bool, levels: list[Level]) -> tuple[list[Placed], float, Text | None]:
        """Labels of ticks, how far they reach, and the axis's name beyond them."""
        axis, box, name = self._axis(upright), self.graph.bbox, "ytick" if upright else "xtick"
        points, size = self.figure.dpi / 72, LOOK[f"{name}.labelsize"]
        ha, va = ("right", "center_baseline") if upright else ("center", "top")
        texts: list[Placed] = []
        start = box.x0 if upright else box.y0
        edge = start
        for level in levels:
            length = LOOK[f"{name}.{level.kind}.size"]
            pad = (length + LOOK[f"{name}.{level.kind}.pad"]) * points
            edge = min(edge, start - length * points)
            if not axis.get_tick_params(which=level.kind).get("labelleft" if upright else "labelbottom", True):
                continue
            for at, text in zip(level.places, level.labels, strict=True):
                if text:
                    place = (start - pad, at) if upright else (at, start - pad)
                    texts.append(Placed(laid_out(text, size, ha, va), ha, *place, points))
        edge = min([edge, *(one.box[0 if upright else 1] for one in texts)])
        offset = axis.get_offset_text().get_visible() and axis.get_major_formatter().get_offset()
        if offset and upright:
            words = laid_out(offset, size, "left", "baseline")
            texts.append(Placed(words, "left", box.x0, box.y1 + OFFSET_PAD * points, points))
        elif offset:
            words = laid_out(offset, size, "right", "top")
            texts.append(Placed(words, "right", box.x1, edge - OFFSET_PAD * points, points))
        label: Text = axis.label
        if not label.get_text():
            return texts, edge, None
        x, y = label.get_position()
        beyond = edge - axis.labelpad * points
        label.set_position((beyond, y) if upright else (x, beyond))
        return texts, edge, label


def write(renderer: RendererBase, figure: Figure | SubFigure, texts: Iterable[Placed], size: float, color: str) -> None:
    """Text line by line; SVG asks the text object for its anchor, so that it stands right in any font."""
    font = FontProperties(size=size)
    anchor: Any = Text(fontproperties=font)
    anchor.set_figure(figure)
    context = renderer.new_gc()
    context.set_foreground(color)
    for one in texts:
        anchor.set_horizontalalignment(one.ha)
        anchor.set_position((one.x, one.y))
        for line, right, up in one.words.lines:
            x, y = one.x + right * one.points, one.y + up * one.points
            y = figure.bbox.height - y if renderer.flipy() else y
            renderer.draw_text(context, x, y, line, font, 0, ismath=False, mtext=anchor)
    context.restore()


class Recorder(RendererBase):
    """Measures text, and takes down where lines are written instead of writing them."""

    def __init__(self, dpi: float = 72) -> None:
        """Without a line yet."""
        super().__init__()
        self.dpi = dpi
        self.lines: list[tuple[str, float, float]] = []

    def points_to_pixels(self, points: Any) -> Any:
        """Lengths."""
        return points * self.dpi / 72

    def flipy(self) -> bool:
        """Upwards is positive."""
        return False

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        """In pixels, as matplotlib's layout has it."""
        return measured(s, prop, ismath, self.dpi)

    def draw_text(self, gc: Any, x: float, y: float, s: str, *args: Any, **options: Any) -> None:
        """One line."""
        self.lines.append((s, x, y))


# Most lines stand in several figures, and matplotlib measures anew for each.
@lru_cache(maxsize=8192)
def measured(line: str, font: FontProperties, math: Any, dpi: float) -> tuple[float, float, float]:
    """Width, height and descent of a line."""
    return RendererBase.get_text_width_height_descent(Recorder(dpi), line, font, math)


# The same in points, as SVG has it.
extent = lru_cache(maxsize=8192)(TextToPath().get_text_width_height_descent)


@lru_cache(maxsize=4096)
def laid_out(text: str, size: float, ha: str, va: str) -> Words:
    """A text as matplotlib lays it out; the same one stands in many figures, and twice in each."""
    recorder, written = Recorder(), Text(0, 0, text, fontsize=size, ha=ha, va=va)
    written.set_figure(_sheet())
    written.draw(recorder)
    box = written.get_window_extent(recorder)
    return Words(tuple(recorder.lines), box.x0, box.y0, box.x1, box.y1)


@cache
def _sheet() -> Figure:
    return Figure(dpi=72)
