"""`results/index.html`: all runs of a folder at a glance, newest first; damaged ones are listed with what is wrong."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.record.events import SELF_CHECK
from harness.record.run import JOURNAL, read_run
from harness.record.summary import SUMMARY, read_summary
from harness.record.writer import write_atomically
from impls.errors import UsageError
from reports.chapters.chapter import Chapter, Timed
from reports.page.render import page
from reports.suites.registry import chapter_of, chapters_of, whole
from reports.text import NA, utc
from reports.view.run import nested


@dataclass(frozen=True)
class Entry:
    """One line of the index.

    Attributes:
        name: the run folder's name.
        link: relative address of its report; None when there is none.
        fault: what is wrong with it; None when it could be read.
    """

    name: str
    link: str | None
    date: str
    suite: str
    arms: str
    setting: str
    status: str
    verdicts: tuple[str, ...]
    fault: str | None = None


def build(results: Path) -> Path:
    """Write the index of a results folder.

    Raises:
        UsageError: no such folder, or it cannot be written.
    """
    if not os.path.isdir(results):
        raise UsageError(f"{results}: no such results folder: give the folder that holds the runs")
    target = results / "index.html"
    try:
        # One after another: of two runs that end together, the index written last must know both.
        folder = os.open(results, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            write_atomically(target, page("index.html", entries=entries(results)))
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"{target}: cannot write: {error.strerror or error}") from error
    return target


def entries(results: Path) -> list[Entry]:
    """All run folders, newest first, those without a date last."""
    folders = [
        path
        for path in sorted(results.iterdir())
        if path.is_dir() and not path.is_symlink() and any((path / name).is_file() for name in (JOURNAL, SUMMARY))
    ]
    found = [entry(path) for path in folders]
    return sorted(found, key=lambda one: (one.date != NA, one.date, one.name), reverse=True)


def entry(path: Path) -> Entry:
    """One run by its summary; without a readable one, by what its journal still tells."""
    link = f"{quote(path.name)}/report.html" if (path / "report.html").is_file() else None
    try:
        summary = read_summary(path).model_dump()
    except UsageError as error:
        return Entry(path.name, link, NA, NA, NA, NA, "damaged", (), str(error))
    declared = nested(summary, ("declared", "parts"))
    parts = [chapter_of(part) for part in declared if isinstance(part, str)] if isinstance(declared, list) else []
    return Entry(
        path.name,
        link,
        utc(text(summary.get("started_utc"))),
        text(summary.get("suite")),
        arms(summary),
        setting(summary, parts),
        text(summary.get("status")),
        (*verdict_lines(listed(summary.get("verdicts"))), *statements(path, parts)),
    )


def statements(path: Path, parts: Sequence[Chapter]) -> tuple[str, ...]:
    """What a run states beside its verdicts, as its report does; the summary doesn't hold it, so from the journal."""
    if all(isinstance(chapter, Timed) for chapter in parts):
        return ()
    try:
        told = chapters_of(whole(read_run(path)))
    except UsageError:
        return ()
    return tuple(
        card.sentence
        for chapter, seen in told
        if not isinstance(chapter, Timed)
        for card in chapter.cards(seen)
    )


def listed(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; nothing of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """A scalar as text."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else NA


def arms(summary: Mapping[str, Any]) -> str:
    """The arms' names, in order."""
    return ", ".join(text(arm.get("name")) for arm in listed(summary.get("arms"))) or NA


def setting(summary: Mapping[str, Any], parts: Sequence[Chapter]) -> str:
    """Preset, data set, device, and the batch size of what was measured first."""
    preset = nested(summary, ("config", "experiment", "preset"))
    group = parts[0].unit.settings if parts else ""
    batch = nested(summary, ("config", "experiment", group, "batch_size"))
    device = nested(summary, ("declared", "device")) or nested(summary, ("config", "bench", "device"))
    facts = [
        text(preset),
        text(nested(summary, ("dataset", "name"))),
        text(device),
        f"batch {batch}" if isinstance(batch, int) else NA,
    ]
    return ", ".join(fact for fact in facts if fact != NA) or NA


def verdict_lines(verdicts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What a run decided, in few lines: the cells of a pair of arms share one, below what covers them all."""
    cells = [verdict for verdict in verdicts if isinstance(verdict.get("cell"), str)]
    others = [verdict for verdict in verdicts if not isinstance(verdict.get("cell"), str)]
    # The geometric mean tells more than a single network call; the machine's noise comes last.
    others.sort(key=lambda one: (SELF_CHECK in text(one.get("metric")), "call" in text(one.get("metric"))))
    pairs = dict.fromkeys(family(verdict) for verdict in cells)
    by_cell = [cells_line([cell for cell in cells if family(cell) == pair]) for pair in pairs]
    return (*(verdict_line(verdict) for verdict in others), *by_cell)


def family(verdict: Mapping[str, Any]) -> tuple[str, str, str]:
    """What verdicts of several cells have in common."""
    return text(verdict.get("metric")), text(verdict.get("arm_a")), text(verdict.get("arm_b"))


def cells_line(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Several cells of one metric and pair of arms: word and ratio of each."""
    metric, one, other = family(verdicts[0])
    told = []
    for verdict in verdicts:
        ratio = f"{numbers(verdict)[0]:.3f}" if numbers(verdict) else NA
        told.append(f"{verdict['cell']} {text(verdict.get('word'))} {ratio}")
    return f"{metric} by cell, {one} / {other}: {'; '.join(told)}"


def numbers(verdict: Mapping[str, Any]) -> list[float]:
    """Ratio and both ends of its interval, as far as they are numbers."""
    found = [verdict.get(key) for key in ("ratio", "ci_low", "ci_high")]
    return [value for value in found if isinstance(value, float | int) and not isinstance(value, bool)]


def verdict_line(verdict: Mapping[str, Any]) -> str:
    """One recorded verdict in few words: the word, and the ratio as recorded."""
    metric, one, other = family(verdict)
    found = numbers(verdict)
    shown = f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]" if len(found) == 3 else NA
    return f"{metric}: {text(verdict.get('word'))}, {one} / {other} = {shown}"
