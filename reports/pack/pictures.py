"""The figures of a run's page as files for others: SVG and 16:9 PNG, light and dark, drawn by the page's own code."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure

from impls.pictures.plot import style
from impls.store.files import replacement
from messages import tell
from reports.page import figures
from reports.page.arrangement import arrange
from reports.page.blocks import Picture, Prose
from reports.page.figures import Draw, FigureMaker
from reports.page.plotting import ALONE_STYLE, INK, PAPER, ROOT_STYLE, VARIABLES, alone, look, svg

# A slide's.
PIXELS = (1920, 1080)
PROPERTIES = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


@dataclass(frozen=True)
class Chosen(FigureMaker):
    """Draws nothing: keeps how every figure of a page is drawn, so that a few of them can be."""

    draws: dict[str, Draw] = field(default_factory=dict)

    def make(self, name: str, draw: Draw, *_: Any, **__: Any) -> Picture | Prose:
        """A place for the figure, with nothing in it."""
        name = f"{self.prefix}{name}"
        self.draws[name] = draw
        return Picture(name, "", "")


@dataclass(frozen=True)
class Shown:
    """A figure that lies in a folder as NAME.svg, NAME-dark.svg, NAME.png and NAME-dark.png.

    Attributes:
        name: of the files.
        alt: the figure's message.
        caption: what is drawn.
    """

    name: str
    alt: str
    caption: str


def write(folder: Path, name: str, draw: Draw) -> Shown | str:
    """Draw one figure in all forms; or say why there is none.

    Raises:
        OSError: the folder does not take it.
    """
    try:
        drawn = _drawn(name, draw)
    except Exception as error:
        # Whatever the drawing library meets on this machine: what was measured is worth more than its picture.
        drawn = figures.undrawn(error)
        print(tell("figure {name} could not be drawn: {reason}", name=name, reason=drawn), file=sys.stderr)
    if isinstance(drawn, str):
        return drawn
    shown, files = drawn
    for suffix, content in files.items():
        with replacement(folder / f"{name}{suffix}") as scratch:
            scratch.write_bytes(content)
    return shown


def _drawn(name: str, draw: Draw) -> tuple[Shown, dict[str, bytes]] | str:
    """The figure and its files by the ends of their names."""
    with style(look()):
        drawn = draw(False)
        if isinstance(drawn, str):
            return drawn
        inline = alone(svg(drawn.figure, name))
        files = {".svg": fixed(inline, light()).encode(), "-dark.svg": fixed(inline, dark()).encode()}
        shaped(drawn.figure)
        files[".png"] = _slide(drawn.figure, light()["paper"])
    mapped = recoloured(dark())
    with style({key: mapped.get(value, value) if isinstance(value, str) else value for key, value in look().items()}):
        recolour(drawn.figure, mapped)
        files["-dark.png"] = _slide(drawn.figure, dark()["paper"])
    return Shown(name, drawn.alt, drawn.caption), files


def _slide(figure: Figure, paper: str) -> bytes:
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(72)
    arrange(figure)
    figure.set_dpi(PIXELS[0] / figure.get_size_inches()[0])
    figure.set_facecolor(paper)
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def shaped(figure: Figure) -> None:
    """As wide for its height as a slide is; nothing of it becomes smaller."""
    width, height = figure.get_size_inches()
    height = max(height, width * PIXELS[1] / PIXELS[0])
    figure.set_size_inches(height * PIXELS[0] / PIXELS[1], height)


def fixed(text: str, colours: Mapping[str, str]) -> str:
    """An SVG that follows no theme: a page chooses among several, and some programs know no variables."""
    # The style of themes comes first, and what brings letters along stays.
    text = re.sub(r"<style>.*?</style>\n?", "", text, count=1, flags=re.S)
    text = re.sub(r"var\(--([\w-]+),(#\w+)\)", lambda found: colours.get(found[1], found[2]), text)
    text = text.replace("currentColor", colours["ink"])
    return text.replace(f'style="{ROOT_STYLE}"', f'style="{ROOT_STYLE};background:{colours["paper"]}"', 1)


@cache
def light() -> dict[str, str]:
    """The colours of a light page by the names of the page's variables."""
    return {"ink": INK, "paper": "#ffffff"}


@cache
def dark() -> dict[str, str]:
    """Those of a dark page, as the figures' own style sheet has them."""
    rules = ALONE_STYLE[ALONE_STYLE.index("prefers-color-scheme:dark") :]
    ink = re.search(r"[{;]color:(#\w+)", rules)
    assert ink is not None, "the style sheet has a colour of text for the dark"  # English
    return {**dict(re.findall(r"--([\w-]+):(#\w+)", rules)), "ink": ink[1]}


def recoloured(colours: Mapping[str, str]) -> dict[str, str]:
    """The colours that figures are drawn in -> those of another page."""
    names = {drawn: re.search(r"--([\w-]+)", variable) for drawn, variable in VARIABLES.items()}
    found = {drawn: colours[name[1]] for drawn, name in names.items() if name and name[1] in colours}
    return {**found, INK: colours["ink"], PAPER: colours["paper"]}


def recolour(figure: Figure, mapped: Mapping[str, str]) -> None:
    """Change the colours of everything in a figure that has one of these."""
    for artist in figure.findobj():
        for name in PROPERTIES:
            read, write = (getattr(artist, f"{verb}_{name}", None) for verb in ("get", "set"))
            if read is not None and write is not None:
                write(_mapped(read(), mapped))


def _mapped(value: Any, mapped: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value in ("none", "auto", "face", "inherit"):
        return value
    found = to_rgba_array(value)
    for row in found:
        other = mapped.get(to_hex(row[:3]))
        if other:
            row[:3] = to_rgba_array(other)[0, :3]
    return found[0] if np.ndim(value) < 2 and len(found) == 1 else found
