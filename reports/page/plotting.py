"""The house style of all figures, and SVG that follows the page it stands in: its colours, its font, ids of its own."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter

from impls.pictures.plot import style
from messages import tell
from reports.page import font
from reports.page.arrangement import arrange
from reports.page.data import Data
from reports.page.frame import Frame, Graph, extent
from reports.page.key import Key
from reports.text import Floats, number, time_unit

INK, MUTED, GRID, BAND, PAPER = "#1b1f24", "#5c6670", "#d5dae0", "#e8edf2", "#fffffe"
LONG = re.compile(r"\d+\.\d{3,}")
ROOT_STYLE = "stroke-linejoin:round;stroke-linecap:butt"


@dataclass(frozen=True)
class SeriesStyle:
    """How one arm is drawn; every arm can be told apart without colour. Colours: Okabe & Ito 2008."""

    color: str
    marker: str
    line: Any
    hatch: str


SERIES: dict[str, SeriesStyle] = {
    "A": SeriesStyle("#0072b2", "o", "-", ""),
    "B": SeriesStyle("#d55e00", "s", (0, (5, 1.5)), "////"),
    "C": SeriesStyle("#009e73", "^", (0, (1, 1)), "\\\\\\\\"),
    "D": SeriesStyle("#cc79a7", "D", (0, (5, 1.5, 1, 1.5)), "xxx"),
    "E": SeriesStyle("#e69f00", "v", (0, (8, 2)), "---"),
    "F": SeriesStyle("#56b4e9", "P", (0, (3, 1, 1, 1, 1, 1)), "+++"),
    "G": SeriesStyle("#7f7f80", "X", (0, (2, 2)), "|||"),
    "H": SeriesStyle("#a6761d", "*", (0, (8, 2, 2, 2)), "/-/-"),
}
# Both themes read these; the fallback is what a viewer without the page's style sheet shows.
VARIABLES = {
    INK: "currentColor",
    MUTED: f"var(--muted,{MUTED})",
    GRID: f"var(--grid,{GRID})",
    BAND: f"var(--band,{BAND})",
    PAPER: "var(--paper,#fff)",
    **{style.color: f"var(--arm-{slot.lower()},{style.color})" for slot, style in SERIES.items()},
}
ALONE_STYLE = """<style>
:root{color:#1b1f24;--paper:#fff}
@media (prefers-color-scheme:dark){:root{color:#e6e9ec;background:#14181d;--paper:#14181d;--muted:#9aa5b0;
--grid:#333b44;--band:#232a32;--arm-a:#56b4e9;--arm-f:#0072b2;--arm-g:#a8a8a8}}
.targets>:hover{fill-opacity:.14}
</style>"""  # English
RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ddpm-bench",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.5,
    "text.parse_math": False,
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Drawn:
    """One figure with its message: `alt` in one sentence, `caption` says what is drawn, `data` its numbers."""

    figure: Figure
    alt: str
    caption: str
    data: Data | None = None


def sheet(narrow: bool, height: float, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure for a desktop column (8.6 in) or a phone (3.9 in), and its axes from top to bottom.

    Args:
        narrow: for a phone.
        height: in inches, of the whole figure.
        rows: axes above one another.
        options: more of `Figure.subplots`.
    """
    figure = Figure(figsize=(3.9 if narrow else 8.6, height))
    graphs = figure.subplots(rows, 1, squeeze=False, subplot_kw={"axes_class": Graph}, **options)
    axes = [axis for line in graphs for axis in line]
    for axis in axes:
        Frame(axis)
    return figure, axes


def labelled(axis: Axes) -> tuple[list[Artist], list[str]]:
    """What a legend names, each label once."""
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    return list(unique.values()), list(unique)


def legend_above(figure: Figure, axis: Axes, columns: int) -> None:
    """One key for the whole figure, above it."""
    handles, labels = labelled(axis)
    if handles:
        figure.add_artist(Key(handles, labels, columns))


def seconds_axis(axis: Axes, values_ns: Floats, name: str, which: str = "y") -> None:
    """Label a nanosecond axis in the unit that fits the middle of the data."""
    factor, unit = time_unit(float(np.nanmedian(values_ns)))
    target = axis.yaxis if which == "y" else axis.xaxis
    target.set_major_formatter(FuncFormatter(lambda value, _: number(value / factor)))
    target.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    (axis.set_ylabel if which == "y" else axis.set_xlabel)(tell("{name}, {unit}", name=name, unit=unit))


def envelope(x: Floats, y: Floats, most: int = 800) -> tuple[Floats, Floats]:
    """At most about `most` points of a series: the smallest and the largest value of every bin, so no spike is lost."""
    if len(x) <= most:
        return x, y
    width = -(-len(y) // (most // 2))
    bins = np.pad(y, (0, -len(y) % width), constant_values=np.nan).reshape(-1, width)
    # Of a bin without any value its first place, where the line has a gap, is both.
    ends = np.where(np.isnan(bins), np.inf, bins).argmin(axis=1), np.where(np.isnan(bins), -np.inf, bins).argmax(axis=1)
    keep = np.unique([end + np.arange(len(bins)) * width for end in ends])
    return x[keep], y[keep]


class Pen(RendererSVG):
    """Writes SVG; what a text covers is known from the layout."""

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        """As it was measured once."""
        return extent(s, prop, ismath)


def svg(figure: Figure, prefix: str, data: Data | None = None) -> str:
    """The figure as one SVG element that can stand inside a page: `prefix` makes its ids unique there.

    Args:
        figure: what is drawn.
        prefix: of ids.
        data: what whoever points at the figure is told.
    """
    buffer = io.StringIO()
    figure.set_dpi(72)
    arrange(figure)
    # Matplotlib's is untyped.
    made: Any = Pen
    pen = made(*figure.bbox.size, buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    figure.draw(pen)
    pen.finalize()
    text = tidied(buffer.getvalue(), prefix)
    return text.removesuffix("</svg>") + data.targets(figure) + "</svg>" if data else text


def tidied(text: str, prefix: str) -> str:
    """Matplotlib's SVG without prolog, unused ids and page-wide style; colours as variables, ids prefixed."""
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S)
    # matplotlib hashes a clip box's last bits into its id, and those differ between two identical drawings.
    order = dict.fromkeys(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    names = {old: f"{prefix}-{number}" for number, old in enumerate(order)}
    text = re.sub(r" id=\"([^\"]*)\"", lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", text)
    text = re.sub(r"(url\(#|href=\"#)([^)\"]+)", lambda m: m[1] + names[m[2]], text)
    # Only inside tags: what is written in the figure keeps its digits.
    text = re.sub(r"<[^>]+>", lambda tag: LONG.sub(_short, tag[0]), text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    text = font.dressed(re.sub(r"<defs>\s*</defs>", "", text))
    text = re.sub(r"\n\s*", "\n", text)
    opening = re.search(r"viewBox=\"[^\"]+\"", text)
    box = opening[0] if opening else ""
    return re.sub(
        r"<svg[^>]*>",
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box} style="{ROOT_STYLE}">',
        text,
        count=1,
    )


def _short(match: re.Match[str]) -> str:
    return _rounded(match[0])


# Steps have every place twice, and panels on one axis all of theirs.
@lru_cache(maxsize=2**14)
def _rounded(text: str) -> str:
    return f"{float(text):.2f}".rstrip("0").rstrip(".")


def alone(text: str) -> str:
    """An inline SVG element as a file of its own, which follows the viewer's light or dark theme."""
    width, height = re.findall(r"viewBox=\"0 0 ([\d.]+) ([\d.]+)\"", text)[0]
    letters = f"\n{font.style(text)}".rstrip()
    return (
        re.sub(
            r"<svg([^>]*)>",
            lambda m: (
                f'<svg{m[1]} width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}">\n{ALONE_STYLE}'
                f"{letters}"
            ),
            text,
            count=1,
        )
        + "\n"
    )


def raster(figure: Figure) -> bytes:
    """The figure on white as PNG, for viewers without SVG."""
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(110)
    figure.set_facecolor("white")
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def style_context() -> AbstractContextManager[None]:
    """The house style, for as long as the context lasts."""
    return style(look())


def look() -> dict[str, Any]:
    """The house style in the reader's language."""
    return {**RC, "font.family": font.families()}
