"""Makes a figure of a page: drawn twice (desktop and phone), inlined, and written to figures/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.record.writer import write_atomically
from reports.page.blocks import Picture, Prose

if TYPE_CHECKING:
    from reports.page.plotting import Drawn

# From whether it is for a phone to the figure, or to why there is none.
Draw = Callable[[bool], "Drawn | str"]


@dataclass(frozen=True)
class FigureMaker:
    """Makes figures whose names begin with `prefix`; with a folder also writes them there as SVG and PNG."""

    folder: Path | None = None
    prefix: str = ""

    def make(self, name: str, draw: Draw) -> Picture | Prose:
        """One figure, or a sentence that says why it cannot be drawn."""
        # matplotlib takes long to load, and the index and the command line's errors draw nothing.
        from reports.page.plotting import alone, style_context, svg, write_png

        name = f"{self.prefix}{name}"
        with style_context():
            wide = draw(False)
            if isinstance(wide, str):
                return Prose(f"{name.replace('-', ' ').capitalize()}: n/a, {wide}.", small=True)
            inline = {"wide": svg(wide.figure, f"{name}-w")}
            if self.folder is not None:
                write_atomically(self.folder / f"{name}.svg", alone(inline["wide"]))
                write_png(wide.figure, self.folder / f"{name}.png")
            phone = draw(True)
            if not isinstance(phone, str):
                inline["narrow"] = svg(phone.figure, f"{name}-n")
        return Picture(name, wide.alt, wide.caption, inline)


def numbered(name: str, number: int) -> str:
    """The name of one of several like figures or sections; the first needs no number."""
    return f"{name}-{number}" if number else name
