"""What the lines and areas of a figure are called: above its graphs, where it can cover nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.container import Container
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Affine2D

from reports.page.frame import LOOK, Placed, Words, laid_out, write

# In sizes of the letters, as matplotlib's legend has them but for the first, which leaves more room to the graphs.
MARGIN, BORDER, BETWEEN_ROWS, BEFORE_NAME, SAMPLE = 0.2, 0.4, 0.5, 0.8, 0.7


class Key(Artist):
    """Samples with their names, column by column; matplotlib's legend lays itself out some ten times for each of these.

    Attributes:
        height: in points.
    """

    def __init__(
        self, handles: Sequence[Artist | Container], labels: Sequence[str], columns: int, length: float = 2.2,
        gap: float = 1.4,
    ) -> None:
        """Stand in the upper left corner of the figure to which this is added.

        Args:
            handles: what is named: lines, areas or groups of bars.
            labels: their names.
            columns: how many stand side by side.
            length: of a sample, in sizes of the letters.
            gap: between columns, in the same.
        """
        super().__init__()
        self.size: float = LOOK["legend.fontsize"]
        self._corner = Affine2D()
        self._samples: list[Artist] = []
        self._names: list[tuple[Words, float, float]] = []
        words = [laid_out(label, self.size, "left", "baseline") for label in labels]
        ascent, descent = max(SAMPLE * self.size, *(one.y1 for one in words)), max(-one.y0 for one in words)
        pitch, left, rows = ascent + descent + BETWEEN_ROWS * self.size, BORDER * self.size, 0
        for column in np.array_split(np.arange(len(labels)), min(columns, len(labels))):
            name_at = left + (length + BEFORE_NAME) * self.size
            for row, i in enumerate(column):
                at = -BORDER * self.size - ascent - row * pitch
                self._samples.append(sample(handles[i], left, at, length * self.size, SAMPLE * self.size))
                self._names.append((words[i], name_at, at))
            left = name_at + max(words[i].x1 for i in column) + gap * self.size
            rows = max(rows, len(column))
        self.height = rows * pitch + (2 * BORDER - BETWEEN_ROWS) * self.size
        for one in self._samples:
            one.set_transform(self._corner)
            one.set_clip_box(None)
            one.set_clip_path(None)

    def set_figure(self, fig: Figure | SubFigure) -> None:
        """Of the samples, too."""
        super().set_figure(fig)
        for one in self._samples:
            one.set_figure(fig)

    def get_children(self) -> list[Artist]:
        """The samples, for whoever changes the colours of a figure."""
        return self._samples

    def draw(self, renderer: RendererBase) -> None:
        """Samples and names."""
        points, margin = self.figure.dpi / 72, MARGIN * self.size
        left, top = margin * points, self.figure.bbox.height - margin * points
        self._corner.clear().scale(points).translate(left, top)
        for one in self._samples:
            one.draw(renderer)
        write(renderer, self.figure, [Placed(words, "left", left + x * points, top + y * points, points)
                                      for words, x, y in self._names], self.size, LOOK["text.color"])
        self.stale = False


def sample(handle: Artist | Container, x: float, y: float, length: float, height: float) -> Artist:
    """A short line or a small area that looks like what it stands for, its lower left corner at a place."""
    like = handle[0] if isinstance(handle, Container) else handle
    if isinstance(like, Line2D):
        # One marker, in the middle.
        line = Line2D([x, x + length / 2, x + length], [y + height / 2] * 3, markevery=[1])
        line.update_from(like)
        return line
    assert isinstance(like, Patch), "a key names lines and areas"  # English
    area = Rectangle((x, y), length, height)
    area.update_from(like)
    return area
