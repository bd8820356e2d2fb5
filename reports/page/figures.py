"""Makes a figure of a page: drawn twice (desktop and phone), inlined, and written to figures/."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.record.writer import write_atomically
from messages import marked, shown, tell
from reports.page.blocks import Picture, Prose
from reports.text import one_line

if TYPE_CHECKING:
    from reports.page.plotting import Drawn

# From whether it is for a phone to the figure, or to why there is none.
Draw = Callable[[bool], "Drawn | str"]


# What figures are called where they are missing.
NAMES = (marked("Losses"), marked("Ratio"), marked("Step times"), marked("Distribution"), marked("Throughput"),
         marked("Epochs"), marked("Memory"), marked("Cold start"), marked("Timeline"), marked("Timeline windows"),
         marked("Timeline epochs a"), marked("Timeline epochs b"), marked("Parity"), marked("Waterfall"),
         marked("Dots"), marked("Roofline"), marked("Speed up"), marked("Step"), marked("Over calls"),
         marked("Cells"), marked("Batch sizes"), marked("Curves"), marked("Difference"), marked("Compare"))  # fmt: skip


@dataclass(frozen=True)
class FigureMaker:
    """Makes figures whose names begin with `prefix`; with a folder also writes them there.

    Attributes:
        folder: where they go as SVG; None for inside the page alone.
        prefix: of their names.
        png: also as PNG, for viewers without SVG, which no page of ours is: that takes a fifth of a report's time. One
            that is there already is drawn anew, so that it never tells of an older report.
        drawn: what came of each, by name: a second language draws none again.
    """

    folder: Path | None = None
    prefix: str = ""
    png: bool = False
    drawn: dict[str, Drawing | str] = field(default_factory=dict, repr=False)

    def make(self, name: str, draw: Draw) -> Picture | Prose:
        """One figure, or a sentence that says why it cannot be drawn."""
        name = f"{self.prefix}{name}"
        raster = self.folder and self.folder / f"{name}.png"
        try:
            drawn = drawing(name, draw, png=bool(raster and (self.png or raster.exists())))
        except Exception as error:
            # Whatever the drawing library meets on this machine: what was measured is worth more than its picture.
            drawn = undrawn(error)
            print(tell("figure {name} could not be drawn: {reason}", name=name, reason=drawn), file=sys.stderr)
        self.drawn[name] = drawn
        if isinstance(drawn, str):
            return absent(name, drawn)
        if self.folder is not None:
            write_atomically(self.folder / f"{name}.svg", drawn.svg)
        if raster is not None and drawn.png is not None:
            raster.write_bytes(drawn.png)
        return drawn.picture


@dataclass(frozen=True)
class Drawing:
    """A figure in all its forms: inside a page, and as files beside it."""

    picture: Picture
    svg: str
    png: bytes | None


def drawing(name: str, draw: Draw, png: bool = False) -> Drawing | str:
    """The figure drawn for a desktop and for a phone, and for viewers without SVG if asked; or why there is none."""
    # matplotlib takes long to load, and the index and the command line's errors draw nothing.
    from reports.page.plotting import alone, raster, style_context, svg

    with style_context():
        wide = draw(False)
        if isinstance(wide, str):
            return wide
        # Nobody points at a phone.
        inline = {"wide": svg(wide.figure, f"{name}-w", wide.data)}
        file = raster(wide.figure) if png else None
        phone = draw(True)
        if not isinstance(phone, str):
            inline["narrow"] = svg(phone.figure, f"{name}-n")
    data = wide.data.table if wide.data and wide.data.marks else None
    return Drawing(Picture(name, wide.alt, wide.caption, inline, data), alone(inline["wide"]), file)


def absent(name: str, reason: str) -> Prose:
    """What stands in the place of a figure that cannot be drawn."""
    plain, _, number = name.rpartition("-") if name[-1:].isdigit() else (name, "", "")
    figure = f"{tell(plain.replace('-', ' ').capitalize())} {number}".rstrip()
    return Prose(tell("{figure}: n/a, {reason}.", figure=figure, reason=shown(reason)), small=True)


def undrawn(error: Exception) -> str:
    """Why a figure is missing that there should be."""
    return one_line(tell("it cannot be drawn here ({error})", error=f"{type(error).__name__}: {error}"))


def numbered(name: str, number: int) -> str:
    """The name of one of several like figures or sections; the first needs no number."""
    return f"{name}-{number}" if number else name
