"""A loss curve from whatever a program left: JSON lines, CSV, TensorBoard's event files, or a log to be matched."""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.stats.curves import Curve
from impls.errors import UsageError
from reports.curves import event_file, text_log
from reports.curves.text_log import Point, require_one_count

# By preference; letters and digits alone count, in small letters.
STEPS = ("step", "globalstep", "iteration", "iter", "it", "steps", "iterations", "batch", "epoch")
EPOCHS = ("epoch", "epochs", "currentepoch")
LOSSES = ("loss", "trainloss", "trainingloss", "losstrain", "trainlossstep", "lossstep")
NOT_TRAINING = re.compile("val|test|eval|dev")
# In a folder, the first that is there.
IN_A_FOLDER = ("log.jsonl", "*.jsonl", "metrics.csv", "*.csv", "*tfevents*", "*.log", "*.txt")
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Log:
    """One run's curve, and how it was found.

    Attributes:
        name: of the file as it was given.
        kind: of the file.
        column: what was taken for the loss.
        curve: its steps and losses.
    """

    name: str
    kind: str
    column: str
    curve: Curve


def read(path: Path, column: str | None = None, pattern: str | None = None) -> Log:
    """The loss curve of one run.

    Args:
        path: a file, or a folder that holds one.
        column: name of the loss, where it is not found by itself.
        pattern: for a text log, see `text_log.points`.

    Raises:
        UsageError: unreadable, or without steps and losses.
    """
    file = _within(path)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{file}: larger than {MOST_BYTES >> 30} GiB: give the file of one run")
        kind, name, found = _points(file, column, pattern)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from error
    # Of a step that was done twice, as after a restart, the later one counts.
    losses = {step: loss for step, loss in found if abs(step) < 1 << 62}
    if not losses:
        more = "" if kind != "text" else ": give --pattern 'step (?P<step>\\d+).*loss (?P<loss>\\S+)' as its lines are"
        raise UsageError(f"{file}: no step with a loss in this {kind} file"
                         f"{f' under the name {column!r}' if column else ''}{more}")
    steps = sorted(losses)
    return Log(str(path), kind, name, Curve(np.array(steps, np.int64), np.array([losses[n] for n in steps])))


def _within(path: Path) -> Path:
    if not path.is_dir():
        return path
    for pattern in IN_A_FOLDER:
        files = sorted(path.glob(pattern))
        if files:
            return files[-1]
    raise UsageError(f"{path}: no log in this folder ({', '.join(IN_A_FOLDER)}): name the file")


def _points(file: Path, column: str | None, pattern: str | None) -> tuple[str, str, Iterable[Point]]:
    """Kind of a file, name of the loss, and its points."""
    if pattern is not None:
        return "text", "the pattern", text_log.points(_lines(file), pattern, str(file))
    if "tfevents" in file.name:
        return _of_events(file, column)
    lines = _lines(file)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        name, points = _of_records("JSON lines", file, column, _objects(lines))
        return "JSON lines", name, points
    delimiter = "\t" if "\t" in first else ","
    head = [_plain(word) for word in first.split(delimiter)]
    if len(head) > 1 and any(word in head for word in STEPS) and any("loss" in word for word in head):
        name, points = _of_records("CSV", file, column, csv.DictReader(lines, delimiter=delimiter))
        return "CSV", name, points
    return "text", column or "loss", text_log.points(lines, None, str(file))


def _lines(file: Path) -> list[str]:
    """Lines of a text; a bar that rewrites its line leaves one of each."""
    raw = file.read_bytes()
    # What Windows writes: its shell's logs, and files with a mark at their beginning.
    encoding = "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return re.split(r"[\r\n]+", raw.decode(encoding, errors="replace"))


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            # A kill leaves half a line.
            continue
        if isinstance(data, dict):
            yield data


def _of_records(kind: str, file: Path, column: str | None, records: Iterable[Any]) -> tuple[str, list[Point]]:
    """Points of named values; a line without a step is counted."""
    try:
        rows = list(records)
    except csv.Error as error:
        raise UsageError(f"{file}: cannot be read as {kind} ({error}): leave out columns of text") from error
    names = list(dict.fromkeys(str(name) for row in rows for name in row if name is not None))
    step_name = _best(names, STEPS, lambda word: False)
    chosen = column if column in names else None if column else _best(names, LOSSES, _is_training_loss)
    if chosen is None:
        raise UsageError(f"{file}: no column {column or 'with a loss'} in this {kind} file: give --column, one of "
                         f"{', '.join(names[:20]) or 'none'}")
    epoch_name = _best(names, EPOCHS, lambda word: False)
    found, epochs = [], []
    for number, row in enumerate(rows, start=1):
        loss = _number(row.get(chosen))
        step = number if step_name is None else _number(row.get(step_name))
        # CSV files of several metrics leave cells empty.
        if loss is not None and step is not None and math.isfinite(step):
            found.append((int(step), loss))
            epochs.append(None if epoch_name is None else _number(row.get(epoch_name)))
    require_one_count(zip(epochs, (step for step, _ in found), strict=True), str(file))
    return chosen, found


def _of_events(file: Path, column: str | None) -> tuple[str, str, Iterable[Point]]:
    try:
        everything = list(event_file.scalars(file))
    except ValueError as error:
        raise UsageError(f"{file}: not an event file of TensorBoard ({error})") from error
    tags = list(dict.fromkeys(tag for tag, _, _ in everything))
    chosen = column if column in tags else None if column else _best(tags, LOSSES, _is_training_loss)
    if chosen is None:
        raise UsageError(f"{file}: no scalar {column or 'with a loss'}: give --column, one of "
                         f"{', '.join(tags[:20]) or 'none'}")
    return "TensorBoard", chosen, [(step, value) for tag, step, value in everything if tag == chosen]


def _best(names: Iterable[str], wanted: tuple[str, ...], otherwise: Callable[[str], bool]) -> str | None:
    """The name that comes first in what is wanted, else the first that will do."""
    plain = {name: _plain(name) for name in names}
    for want in wanted:
        for name, word in plain.items():
            if word == want:
                return name
    return next((name for name, word in plain.items() if otherwise(word)), None)


def _is_training_loss(word: str) -> bool:
    return "loss" in word and not NOT_TRAINING.search(word)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
