"""Where the graphs of a figure stand: under one another, as large as what is written around them leaves room for."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxBase

from reports.page.frame import Frame, Recorder
from reports.page.key import Key
from reports.text import Floats

# What stays free around everything, in inches: that of matplotlib's constrained layout.
PAD = 0.04167


def arrange(figure: Figure) -> None:
    """Place all graphs, each as high as its share says: what constrained layout does, which measures everything twice.

    Only the labels of ticks are measured again in the final place: which there are depends on the room.
    """
    renderer, pad, axes = Recorder(figure.dpi), PAD * figure.dpi, figure.axes
    rows: Any = axes[0].get_subplotspec()
    shares = np.asarray(rows.get_gridspec().get_height_ratios())
    above = sum(one.height * figure.dpi / 72 + 2 * pad for one in figure.artists if isinstance(one, Key))
    fixed = [over(one, inside(one, renderer)) for one in axes]
    for _ in range(2):
        edges = np.maximum(fixed, [over(one, frame(one).get_tightbbox(renderer)) for one in axes]) + pad
        place(figure, edges, shares, above)


def place(figure: Figure, edges: Floats, shares: Floats, above: float) -> None:
    """Place graphs whose surroundings take `edges`: a row each, in pixels left, below, right, above."""
    width, height = figure.bbox.size
    left, _, right, _ = edges.max(axis=0)
    free = height - above - edges[:, 1].sum() - edges[:, 3].sum()
    heights = np.maximum(free, 1) * shares / shares.sum()
    at = height - above
    for axes, (_, below, _, over), high in zip(figure.axes, edges, heights, strict=True):
        at -= over + high
        axes.set_position((left / width, at / height, max(width - left - right, 1) / width, high / height))
        at -= below


def inside(axes: Axes, renderer: RendererBase) -> BboxBase:
    """What titles, words and a legend cover: everything else but the frame is cut off at the graph's edges."""
    boxes, box = [axes.bbox], axes.bbox
    for one in axes.get_children():
        if isinstance(one, Legend):
            boxes.append(one.get_window_extent(renderer))
        elif isinstance(one, Text) and one.get_text():
            found = one.get_window_extent(renderer)
            # No account is taken of how long a title is.
            boxes.append(found if one in axes.texts else Bbox([(box.x0, found.y0), (box.x1, found.y1)]))
    return Bbox.union(boxes)


def frame(axes: Axes) -> Frame:
    """The frame of a graph."""
    return next(one for one in axes.get_children() if isinstance(one, Frame))


def over(axes: Axes, covered: BboxBase) -> tuple[float, float, float, float]:
    """How far something stands out of a graph: left, below, right, above."""
    box = axes.bbox
    return box.x0 - covered.x0, box.y0 - covered.y0, covered.x1 - box.x1, covered.y1 - box.y1
