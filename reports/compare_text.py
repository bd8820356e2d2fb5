"""A comparison of runs for a terminal: one line per arm and cell, and what must not be missed."""

from __future__ import annotations

from reports.compare import Comparison
from reports.compare_page import notes
from reports.figures_across import letter
from reports.text import printable, with_interval


def lines(comparison: Comparison) -> list[str]:
    """The verdicts as a table for a terminal."""
    table = [("run", "arm", "metric", "blocks", "time after / before", "verdict")]
    for number, pair in enumerate(comparison.pairs):
        for row in pair.rows:
            change = row.verdict or row.direct
            metric = f"{row.subject.metric}{f', {row.subject.cell}' if row.subject.cell else ''}"
            over = f", relative to {row.control}" if row.judged == "relative" else ""
            word = f"{change.word}{over}{f' ({change.reason})' if change.reason else ''}" if row.verdict else "control"
            table.append((letter(number), row.subject.arm, metric, f"{change.blocks_before} + {change.blocks_after}",
                          with_interval(change.ratio, change.ci_low, change.ci_high), word))  # fmt: skip
    plain = [tuple(" ".join(printable(cell).split()) for cell in row) for row in table]
    widths = [max(len(row[i]) for row in plain) for i in range(len(plain[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in plain]


def remarks(comparison: Comparison) -> list[str]:
    """What a reader of the terminal must not miss: warnings, and what only one run has."""
    told = [f"{note.severity}: {f'{note.where}: ' if note.where else ''}{note.message}" for note in notes(comparison)
            if note.severity != "info"]  # fmt: skip
    for number, pair in enumerate(comparison.pairs):
        told += [f"not compared: {subject} is only in {'A' if where == 'before' else letter(number)}"
                 for subject, where in pair.alone.items()]  # fmt: skip
    return [" ".join(printable(line).split()) for line in told]
