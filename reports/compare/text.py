"""A comparison of runs for a terminal: one line per arm and cell, and what must not be missed."""

from __future__ import annotations

from reports.compare.figure import letter
from reports.compare.page import notes, unjudged
from reports.compare.runs import Comparison, Row
from reports.text import printable, with_interval


def lines(comparison: Comparison) -> list[str]:
    """The verdicts as a table for a terminal."""
    table = [("run", "arm", "metric", "blocks", "time after / before", "verdict")]
    for number, pair in enumerate(comparison.pairs):
        for row in pair.rows:
            change = row.verdict or row.direct
            metric = f"{row.subject.metric}{f', {row.subject.cell}' if row.subject.cell else ''}"
            blocks = f"{change.blocks_before} + {change.blocks_after}"
            ratio = with_interval(change.ratio, change.ci_low, change.ci_high)
            table.append((letter(number), row.subject.arm, metric, blocks, ratio, word(row, comparison.control)))
    plain = [tuple(" ".join(printable(cell).split()) for cell in row) for row in table]
    widths = [max(len(row[i]) for row in plain) for i in range(len(plain[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in plain]


def word(row: Row, control: str | None) -> str:
    """The verdict with what it rests on and why it is open; or why there is none."""
    if row.verdict is None:
        return f"not judged ({unjudged(row, control)})"
    over = f", relative to {row.control}" if row.judged == "relative" else ""
    return f"{row.verdict.word}{over}{f' ({row.verdict.reason})' if row.verdict.reason else ''}"


def remarks(comparison: Comparison) -> list[str]:
    """What a reader of the terminal must not miss: warnings, and what only one run has."""
    told = [f"{note.severity}: {f'{note.where}: ' if note.where else ''}{note.message}" for note in notes(comparison)
            if note.severity != "info"]  # fmt: skip
    for number, pair in enumerate(comparison.pairs):
        told += [f"not compared: {subject} is only in {'A' if where == 'before' else letter(number)}"
                 for subject, where in pair.alone.items()]  # fmt: skip
    return [" ".join(printable(line).split()) for line in told]
