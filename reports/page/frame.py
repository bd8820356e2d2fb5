"""The frame of a graph: grid, ticks and their labels, drawn from numbers instead of an object for each.

Matplotlib makes five artists a tick and measures each for every layout and drawing: that was most of a report's time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import Formatter
from matplotlib.transforms import Bbox, IdentityTransform

from reports.text import Floats

# Between an axis and what it is counted in, such as 1e6: as matplotlib has it.
OFFSET_PAD = 3.0
# The style in force.
LOOK: Mapping[str, Any] = cast("Mapping[str, Any]", mpl.rcParams)  # English


@dataclass(frozen=True)
class Level:
    """The major or the minor ticks inside an axis's limits: where, in pixels along it, and their labels."""

    kind: Literal["major", "minor"]
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
    def box(self) -> Bbox:
        """What it covers."""
        words, by = self.words, self.points
        return Bbox.from_extents(
            self.x + words.x0 * by, self.y + words.y0 * by, self.x + words.x1 * by, self.y + words.y1 * by
        )


class Frame(Artist):
    """Draws both axes of a graph in matplotlib's own looks; locators, formatters, limits and names stay theirs."""

    def __init__(self, axes: Axes) -> None:
        """Take over the drawing of the axes' ticks and labels."""
        super().__init__()
        self.graph = axes
        self.set_zorder(0.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_visible(False)
        axes.add_artist(self)
        # It stands around the axes, so the layout must not take it for clipped.
        self.set_clip_on(False)

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox:
        """What the layout keeps free: like matplotlib's it takes no account of how long an axis's name is."""
        boxes = []
        for upright in (False, True):
            texts, edge, label = self._texts(upright, list(self._levels(upright)))
            boxes += [one.box for one in texts]
            corner = (edge, self.graph.bbox.y0) if upright else (self.graph.bbox.x0, edge)
            boxes.append(Bbox([corner, (self.graph.bbox.x1, self.graph.bbox.y1)]))
            if label is not None:
                box = label.get_window_extent(renderer)
                x, y = (box.p0 + box.p1) / 2
                boxes.append(Bbox([(box.x0, y), (box.x1, y)]) if upright else Bbox([(x, box.y0), (x, box.y1)]))
        return Bbox.union(boxes)

    def draw(self, renderer: RendererBase) -> None:
        """Grid, ticks, labels."""
        for upright in (False, True):
            levels = list(self._levels(upright))
            self._lines(renderer, upright, levels)
            texts, _, label = self._texts(upright, levels)
            self._write(renderer, texts, "ytick" if upright else "xtick")
            if label is not None:
                label.draw(renderer)
        self.stale = False

    def _axis(self, upright: bool) -> Axis:
        return self.graph.yaxis if upright else self.graph.xaxis

    def _levels(self, upright: bool) -> Iterator[Level]:
        axis = self._axis(upright)
        low, high = sorted(self.graph.bbox.intervaly if upright else self.graph.bbox.intervalx)
        room = (high - low) * 1e-9
        along = self.graph.get_yaxis_transform() if upright else self.graph.get_xaxis_transform()
        sorts: tuple[tuple[Literal["major", "minor"], Floats, Formatter], ...] = (
            ("major", axis.get_majorticklocs(), axis.get_major_formatter()),
            ("minor", axis.get_minorticklocs(), axis.get_minor_formatter()),
        )
        for kind, locs, formatter in sorts:
            if len(locs):
                labels = formatter.format_ticks(list(locs))
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

    def _write(self, renderer: RendererBase, texts: list[Placed], name: str) -> None:
        """Text line by line; SVG asks the text object for its anchor, so that it stands right in any font."""
        font = FontProperties(size=LOOK[f"{name}.labelsize"])
        anchor: Any = Text(fontproperties=font)
        anchor.set_figure(self.figure)
        context = renderer.new_gc()
        context.set_foreground(LOOK[f"{name}.labelcolor"])
        for one in texts:
            anchor.set_horizontalalignment(one.ha)
            anchor.set_position((one.x, one.y))
            for line, right, up in one.words.lines:
                x, y = one.x + right * one.points, one.y + up * one.points
                y = self.figure.bbox.height - y if renderer.flipy() else y
                renderer.draw_text(context, x, y, line, font, 0, ismath=False, mtext=anchor)
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
        edge = min([edge, *((one.box.x0 if upright else one.box.y0) for one in texts)])
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

    def draw_text(self, gc: Any, x: float, y: float, s: str, *args: Any, **options: Any) -> None:
        """One line."""
        self.lines.append((s, x, y))


@lru_cache(maxsize=4096)
def laid_out(text: str, size: float, ha: str, va: str) -> Words:
    """A text as matplotlib lays it out; the same one stands in many figures, and twice in each."""
    recorder, written = Recorder(), Text(0, 0, text, fontsize=size, ha=ha, va=va)
    written.set_figure(Figure(dpi=72))
    written.draw(recorder)
    box = written.get_window_extent(recorder)
    return Words(tuple(recorder.lines), box.x0, box.y0, box.x1, box.y1)
