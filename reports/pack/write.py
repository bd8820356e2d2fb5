"""Writes the pack of a run: NAME.md, to be pasted into a README, and the folder NAME beside it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from harness.record.run import JOURNAL, RecordedRun
from harness.record.writer import write_atomically
from impls.errors import UsageError
from impls.pictures import plot
from impls.store.files import replacement
from messages import LANGUAGES, language, marked, speaking, tell
from reports.chapters.answer import verdicts
from reports.pack import badge, latex
from reports.pack.cells import cells
from reports.pack.quotes import limits, quotes
from reports.report import CHINESE, report_of, title_names
from reports.suites.registry import whole
from reports.text import one_line

FOLDER = "readme"
NO_ARMS = marked("no arm recorded")
# What else lies in the folder.
FILES = {
    "badge.svg": marked("a badge: the main figure in one line, grey where it is not comparable"),
    "table.tex": marked("the cells as a table in plain LaTeX"),
    JOURNAL: marked("everything measured, raw, as JSON lines: python -m reports build makes the page from it"),
}
CANNOT_WRITE = marked("{place}: cannot write the section ({reason}): give another place with --out")
OWN_FOLDER = marked("{place}: the pack would be written into the run itself: give another place with --out")


def pack(run: RecordedRun, out: Path | None = None, both: bool = False) -> Path:
    """Write the section and what goes with it.

    Args:
        run: the run, which holds something measured.
        out: the folder of a README; `readme/` in the run's folder when None.
        both: in English and, as NAME.zh.md with the same folder, in Chinese; else in the reader's language.

    Returns:
        the section.

    Raises:
        UsageError: the target cannot be written, or is the run's own folder.
    """
    target = out or run.path / FOLDER
    name = file_name(run.path.resolve().name)
    place = target / name
    if place.resolve() == run.path.resolve():
        raise UsageError(tell(OWN_FOLDER, place=place))
    try:
        place.mkdir(parents=True, exist_ok=True)
        # Drawing needs matplotlib, which a refusal must not wait for.
        plot.imported(manual=False)
        for one in LANGUAGES if both else (language(),):
            suffix = CHINESE if both and one == "zh" else ""
            with speaking(one):
                # What a run has remembered is in the language in which it was asked.
                text = filled(replace(run), place, name, suffix)
            write_atomically(target / f"{name}{suffix}.md", text)
    except OSError as error:
        raise UsageError(tell(CANNOT_WRITE, place=target, reason=error.strerror or error)) from error
    return target / f"{name}.md"


def file_name(run: str) -> str:
    """A run's name, of what a file and an address may hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", run).strip(".") or "run"


def filled(run: RecordedRun, place: Path, name: str, suffix: str = "") -> str:
    """Write the folder; returns the section.

    Args:
        run: the run.
        place: the folder.
        name: its name.
        suffix: of the names of files that another language has, too.

    Raises:
        OSError: it does not take it.
    """
    from reports.pack import pictures, section

    seen, chosen = whole(run), pictures.Chosen()
    page = report_of(run, chosen).sections
    shown = {figure: pictures.write(place, f"{figure}{suffix}", chosen.draws[figure])
             for figure in section.wanted(page)}
    found, setting = cells(seen), verdicts.setting(seen)
    made = badge.badge_of(seen, found)
    write_atomically(place / f"badge{suffix}.svg", badge.svg(made))
    write_atomically(place / "table.tex", table(run))
    with replacement(place / JOURNAL) as scratch:
        shutil.copyfile(run.path / JOURNAL, scratch)
    return section.markdown(section.Pack(
        seen, one_line(title_names(seen)) or tell(NO_ARMS), setting, name, page, shown, found, quotes(seen),
        limits(seen), {file.replace(".svg", f"{suffix}.svg"): tell(what) for file, what in FILES.items()},
        one_line(tell("{name}: {value}", name=made.label, value=made.message)), suffix))


def table(run: RecordedRun) -> str:
    """The cells for LaTeX, whose fonts and engines seldom hold Chinese: English for every reader."""
    with speaking("en"):
        seen = whole(replace(run))
        return latex.table(cells(seen), f"{verdicts.setting(seen)}.", run.path.resolve().name)
