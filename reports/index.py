"""`index.html` and `feed.xml` of a results folder: all runs, damaged ones too, and what became of them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from harness.record.events import SELF_CHECK
from harness.record.run import JOURNAL, read_run
from harness.record.summary import SUMMARY, Decided, Summary, read_summary
from harness.record.writer import write_atomically
from impls.errors import UsageError
from messages import tell
from reports.chapters.chapter import Chapter, Timed
from reports.history.feed import FEED, feed
from reports.history.picture import picture
from reports.history.series import Series, machine_of, series
from reports.page.render import page
from reports.suites.registry import chapter_of, chapters_of, whole
from reports.terminal import level_of, said, told
from reports.text import NA, commas, semicolons, utc
from reports.view.run import batch_sizes, nested
from reports.view.words import batch_words, look_words, metric_words

# What verdicts are about, arm A, arm B.
Family = tuple[str, str, str]


@dataclass(frozen=True)
class Entry:
    """One line of the index.

    Attributes:
        name: the run folder's name.
        link: relative address of its report; None when there is none.
        machine: what it ran on.
        summary: what it recorded in short; None where that cannot be read.
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
    machine: str = NA
    summary: Summary | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Row:
    """One comparison over time, and its picture; None where no run of it has a ratio."""

    series: Series
    picture: Markup | None


def build(results: Path) -> Path:
    """Write the index of a results folder, and its feed of verdicts that changed.

    Raises:
        UsageError: no such folder, or it cannot be written.
    """
    if not os.path.isdir(results):
        raise UsageError(tell("{folder}: no such results folder: give the folder that holds the runs", folder=results))
    target = results / "index.html"
    try:
        # One after another: of two runs that end together, the index written last must know both.
        folder = os.open(results, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            found = entries(results)
            rows = series((one.name, one.link, one.setting, one.summary) for one in found if one.summary)
            # The index last: what is older than it has been told of.
            write_atomically(results / FEED, feed(rows, [one.name for one in reversed(found) if one.date != NA]))
            write_atomically(target, page("index.html", entries=found, machines=by_machine(rows), feed=FEED))
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(tell("{path}: cannot write: {reason}", path=target,
                              reason=error.strerror or error)) from error
    return target


def by_machine(rows: Sequence[Series]) -> list[tuple[str, list[Row]]]:
    """Every machine with its comparisons over time."""
    return [(machine, [Row(one, picture(one) if one.drawn else None) for one in own])
            for machine, own in groupby(rows, key=lambda one: one.machine)]


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
    link = f"{quote(os.fsencode(path.name))}/report.html" if (path / "report.html").is_file() else None
    try:
        summary = read_summary(path)
    except UsageError as error:
        return Entry(path.name, link, NA, NA, NA, NA, "damaged", (), fault=str(error))
    declared = nested(summary.declared, ("parts",))
    parts = [chapter_of(part) for part in declared if isinstance(part, str)] if isinstance(declared, list) else []
    return Entry(
        path.name,
        link,
        utc(summary.started_utc or NA),
        summary.suite or NA,
        ", ".join(arm.name or NA for arm in summary.arms) or NA,
        setting(summary, parts),
        summary.status or NA,
        (*verdict_lines(summary.verdicts), *statements(path, parts)),
        machine_of(summary),
        summary,
    )


def statements(path: Path, parts: Sequence[Chapter]) -> tuple[str, ...]:
    """What a run states beside its verdicts, as its report does; the summary doesn't hold it, so from the journal."""
    if all(isinstance(chapter, Timed) for chapter in parts):
        return ()
    try:
        own = chapters_of(whole(read_run(path)))
    except UsageError:
        return ()
    return tuple(
        card.sentence
        for chapter, seen in own
        if not isinstance(chapter, Timed)
        for card in chapter.cards(seen)
    )


def setting(summary: Summary, parts: Sequence[Chapter]) -> str:
    """Preset, data set, device, and the batch size of what was measured first."""
    experiment = nested(summary.config, ("experiment",))
    sizes = batch_sizes(summary.declared, experiment, parts[0].part, parts[0].unit) if parts else {}
    pair = nested(summary.config, ("bench", "pair"))
    facts = (
        Path(pair).name if isinstance(pair, str) else nested(summary.config, ("experiment", "preset")),
        nested(summary.dataset, ("name",)),
        nested(summary.declared, ("device",)) or nested(summary.config, ("bench", "device")),
        batch_words(sizes),
    )
    return ", ".join(fact for fact in facts if isinstance(fact, str)) or NA


def verdict_lines(verdicts: Sequence[Decided]) -> tuple[str, ...]:
    """What a run decided, in few lines: the cells of a pair of arms share one, below what covers them all."""
    cells: dict[Family, list[Decided]] = {}
    others: list[Decided] = []
    for verdict in verdicts:
        (others if verdict.cell is None else cells.setdefault(family(verdict), [])).append(verdict)
    # The machine's noise comes last.
    others.sort(key=lambda one: SELF_CHECK in (one.metric or ""))
    return (
        *(with_level(told(one, *names(one)), [one]) for one in others),
        *(cells_line(*of, found) for of, found in cells.items()),
    )


def family(verdict: Decided) -> Family:
    """What verdicts of several cells have in common: what they are about, and the names of both arms."""
    return (metric_words(verdict.metric, None, verdict.precision), *names(verdict))


def names(verdict: Decided) -> tuple[str, str]:
    """The names of both arms, told apart."""
    a, b = verdict.arm_a or NA, verdict.arm_b or NA
    return (a, b) if a != b else (f"{a} (A)", f"{b} (B)")


def cells_line(metric: str, a: str, b: str, verdicts: Sequence[Decided]) -> str:
    """Several cells of one metric and pair of arms: what is said of each, and its ratio."""
    each = (tell("{name}: {value}", name=one.cell, value=commas(
        [said(one, a, b), NA if one.ratio is None else f"{one.ratio:.3f}"])) for one in verdicts)
    return with_level(tell("{metric} by cell, time {a} / time {b}: {each}", metric=metric, a=a, b=b,
                           each=semicolons(each)), verdicts)


def with_level(line: str, verdicts: Sequence[Decided]) -> str:
    """A line with the level of the look at which the run ended, or of several levels that look alone."""
    levels = {level_of(one) for one in verdicts if one.ratio is not None}
    level = levels.pop() if len(levels) == 1 else look_words(verdicts[0])
    return f"{line} ({level})" if level else line
