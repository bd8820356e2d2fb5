"""Writes a comparison of runs: `compare.html` (self-contained), `compare.md`, `figures/`, and lines for a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from messages import marked, shown, tell, words
from reports.compare.figure import forest
from reports.compare.page import notes, report, unjudged
from reports.compare.runs import SAID, Comparison, Row, told
from reports.page import write as pages
from reports.page.blocks import Report
from reports.page.figures import FigureMaker
from reports.text import commas, one_line
from reports.view.words import metric_name

MOST_IDS = 4
SEVERITIES = {"error": marked("error"), "warning": marked("warning")}


def write(comparison: Comparison, out: Path | None, command: Sequence[str], png: bool = False) -> Path:
    """Write the pages.

    Args:
        comparison: what was judged.
        out: the folder; one named after the runs, in the current folder, when None. Pages there are replaced.
        command: what repeats it.
        png: also write the figure as PNG.

    Returns:
        the path of `compare.html`.

    Raises:
        UsageError: the folder cannot be written.
    """
    def made(figures: FigureMaker) -> Report:
        return report(comparison, figures.make("compare", partial(forest, comparison)), command)

    return pages.write("compare", out or default_folder(comparison), made, png)


def default_folder(comparison: Comparison) -> Path:
    """`compare-<id>-<id>` in the current folder."""
    ids = [short_id(run.path) for run in comparison.runs.values()]
    more = [f"and-{len(ids) - MOST_IDS}-more"] if len(ids) > MOST_IDS else []
    return Path("-".join(["compare", *ids[:MOST_IDS], *more]))


def short_id(run: Path) -> str:
    """A run's own id, the end of its folder's name; of other names what a file name may hold."""
    name = run.resolve().name
    own = re.fullmatch(r"[a-z-]+-\d{8}T\d{6}Z-([0-9a-f]{6})", name)
    return own[1] if own else re.sub(r"[^A-Za-z0-9._-]", "_", name)[:40]


def lines(comparison: Comparison) -> list[str]:
    """The verdicts as a table for a terminal."""
    table = [words("run", "arm", "metric", "blocks", "time after / before", "verdict")]
    for pair, row in comparison.rows:
        change = row.verdict or row.direct
        metric = commas(filter(None, [metric_name(row.subject.metric), row.subject.cell]))
        blocks = f"{change.blocks_before} + {change.blocks_after}"
        table.append((pair.name, row.subject.arm, metric, blocks, told(change), word(row, comparison.control)))
    plain = [tuple(map(one_line, row)) for row in table]
    widths = [max(columns(row[i]) for row in plain) for i in range(len(plain[0]))]
    return ["  ".join(cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in plain]  # fmt: skip


def columns(text: str) -> int:
    """How wide a text is on a terminal: Chinese letters take two columns."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def word(row: Row, control: str | None) -> str:
    """The verdict with what it rests on and why it is open; or why there is none."""
    if row.verdict is None:
        return tell("not judged ({reason})", reason=unjudged(row, control))
    text = tell(SAID[row.verdict.word])
    if row.judged == "relative":
        text = tell("{what}, relative to {control}", what=text, control=row.control)
    return tell("{text} ({reason})", text=text, reason=shown(row.verdict.reason)) if row.verdict.reason else text


def remarks(comparison: Comparison) -> list[str]:
    """What a reader of the terminal must not miss: warnings, and what only one run has."""
    found = [tell(": ").join(filter(None, [tell(SEVERITIES[note.severity]), note.where, note.message]))
             for note in notes(comparison) if note.severity != "info"]  # fmt: skip
    found += [tell("not compared: {subject} is only in {run}", subject=subject, run=where) for pair in comparison.pairs
              for subject, where in pair.alone.items()]  # fmt: skip
    return list(map(one_line, found))
