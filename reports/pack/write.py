"""Writes the pack of a run: NAME.md, to be pasted into a README, and the folder NAME beside it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from harness.record.run import JOURNAL, RecordedRun
from harness.record.writer import write_atomically
from impls.errors import UsageError
from impls.pictures import plot
from impls.store.files import replacement
from reports.chapters import verdicts
from reports.pack import badge, latex
from reports.pack.cells import cells
from reports.pack.quotes import limits, quotes
from reports.report import report_of, title_names
from reports.suites.registry import whole
from reports.text import one_line

FOLDER = "readme"
NO_ARMS = "no arm recorded"
# What else lies in the folder.
FILES = {
    "badge.svg": "a badge: the main figure in one line, grey where it is not comparable",
    "table.tex": "the cells as a table in plain LaTeX",
    JOURNAL: "everything measured, raw, as JSON lines: python -m reports build makes the page from it",
}
CANNOT_WRITE = "{place}: cannot write the section ({reason}): give another place with --out"
OWN_FOLDER = "{place}: the pack would be written into the run itself: give another place with --out"


def pack(run: RecordedRun, out: Path | None = None) -> Path:
    """Write the section and what goes with it.

    Args:
        run: the run, which holds something measured.
        out: the folder of a README; `readme/` in the run's folder when None.

    Returns:
        the section.

    Raises:
        UsageError: the target cannot be written, or is the run's own folder.
    """
    target = out or run.path / FOLDER
    name = file_name(run.path.resolve().name)
    place = target / name
    if place.resolve() == run.path.resolve():
        raise UsageError(OWN_FOLDER.format(place=place))
    try:
        place.mkdir(parents=True, exist_ok=True)
        # Drawing needs matplotlib, which a refusal must not wait for.
        plot.imported()
        text = filled(run, place, name)
        write_atomically(target / f"{name}.md", text)
    except OSError as error:
        raise UsageError(CANNOT_WRITE.format(place=target, reason=error.strerror or error)) from error
    return target / f"{name}.md"


def file_name(run: str) -> str:
    """A run's name, of what a file and an address may hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", run).strip(".") or "run"


def filled(run: RecordedRun, place: Path, name: str) -> str:
    """Write the folder; returns the section.

    Raises:
        OSError: it does not take it.
    """
    from reports.pack import pictures, section

    seen, chosen = whole(run), pictures.Chosen()
    page = report_of(run, chosen).sections
    shown = {figure: pictures.write(place, figure, chosen.draws[figure]) for figure in section.wanted(page)}
    found, setting = cells(seen), verdicts.setting(seen)
    made = badge.badge_of(seen, found)
    write_atomically(place / "badge.svg", badge.svg(made))
    write_atomically(place / "table.tex", latex.table(found, f"{setting}.", run.path.resolve().name))
    with replacement(place / JOURNAL) as scratch:
        shutil.copyfile(run.path / JOURNAL, scratch)
    return section.markdown(section.Pack(
        seen, one_line(title_names(seen)) or NO_ARMS, setting, name, page, shown, found, quotes(seen), limits(seen),
        FILES, one_line(f"{made.label}: {made.message}")))
