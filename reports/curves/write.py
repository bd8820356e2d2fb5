"""Writes an alignment of curves: `align.html` (self-contained), `align.md` and `figures/`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness.record.writer import write_atomically
from impls.errors import UsageError
from reports.curves.aligned import Aligned
from reports.curves.figure import difference, overlay
from reports.curves.page import report
from reports.page import render
from reports.page.figures import FigureMaker


def write(found: Aligned, folder: Path, command: Sequence[str]) -> Path:
    """Write the pages.

    Args:
        found: what was judged.
        folder: where to; pages there are replaced.
        command: what repeats it.

    Returns:
        the path of `align.html`.

    Raises:
        UsageError: the folder cannot be written.
    """
    figures = folder / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        maker = FigureMaker(figures)
        drawn = [maker.make("curves", partial(overlay, found)), maker.make("difference", partial(difference, found))]
        page = report(found, drawn, command)
        write_atomically(folder / "align.md", render.markdown(page))
        write_atomically(folder / "align.html", render.html(page))
    except OSError as error:
        raise UsageError(f"{folder}: cannot write the pages ({error.strerror or error}): give another folder with "
                         "--out") from error
    return folder / "align.html"
