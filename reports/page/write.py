"""Writes a page that stands by itself: `NAME.html` (self-contained), `NAME.md` and `figures/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.record.writer import write_atomically
from impls.errors import UsageError
from messages import tell
from reports.page import render
from reports.page.blocks import Report
from reports.page.figures import FigureMaker


def write(name: str, folder: Path, made: Callable[[FigureMaker], Report], png: bool = False) -> Path:
    """Write both forms; pages that are there are replaced.

    Args:
        name: of the files.
        folder: where to.
        made: draws the figures and gives the page.
        png: also write the figures as PNG.

    Returns:
        the path of the HTML page.

    Raises:
        UsageError: the folder cannot be written.
    """
    figures = folder / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        page = made(FigureMaker(figures, png=png))
        write_atomically(folder / f"{name}.md", render.markdown(page))
        write_atomically(folder / f"{name}.html", render.html(page))
    except OSError as error:
        raise UsageError(tell("{folder}: cannot write {name} ({reason}): give another folder with --out", folder=folder,
                              name=f"{name}.html", reason=error.strerror or error)) from error
    return folder / f"{name}.html"
