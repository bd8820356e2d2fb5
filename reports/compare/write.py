"""Writes a comparison of runs: `compare.html` (self-contained), `compare.md` (the same facts) and `figures/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.record.writer import write_atomically
from impls.errors import UsageError
from reports.compare import page as compare_page
from reports.compare.figure import forest
from reports.compare.runs import Comparison
from reports.page import render
from reports.page.figures import FigureMaker
from reports.view.parts import whole

MOST_IDS = 4


def write(comparison: Comparison, out: Path | None, command: Sequence[str]) -> Path:
    """Write the pages.

    Args:
        comparison: what was judged.
        out: the folder; one named after the runs, in the current folder, when None. Pages there are replaced.
        command: what repeats it.

    Returns:
        the path of `compare.html`.

    Raises:
        UsageError: the folder cannot be written.
    """
    folder = out or default_folder(comparison)
    figures = folder / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        maker = FigureMaker(whole(comparison.before), figures)
        figure = maker.make("compare", lambda _, narrow: forest(comparison, narrow))
        report = compare_page.report(comparison, figure, command)
        write_atomically(folder / "compare.md", render.markdown(report))
        write_atomically(folder / "compare.html", render.html(report))
    except OSError as error:
        raise UsageError(f"{folder}: cannot write the comparison ({error.strerror or error}): give another folder with "
                         "--out") from error
    return folder / "compare.html"


def default_folder(comparison: Comparison) -> Path:
    """`compare-<id>-<id>` in the current folder."""
    ids = [short_id(run.path) for run in compare_page.runs_of(comparison)]
    more = [f"and-{len(ids) - MOST_IDS}-more"] if len(ids) > MOST_IDS else []
    return Path("-".join(["compare", *ids[:MOST_IDS], *more]))


def short_id(run: Path) -> str:
    """A run's own id, the end of its folder's name; of other names what a file name may hold."""
    name = run.resolve().name
    own = re.fullmatch(r"[a-z-]+-\d{8}T\d{6}Z-([0-9a-f]{6})", name)
    return own[1] if own else re.sub(r"[^A-Za-z0-9._-]", "_", name)[:40]
