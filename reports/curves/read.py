"""A loss curve from whatever a program left: JSON lines, CSV, TensorBoard's event files, or a log to be matched."""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness.stats.curves import Curve
from impls.errors import UsageError
from messages import choice, marked, tell
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
TEXT = marked("text")


@dataclass(frozen=True)
class Log:
    """One run's curve, and how it was found.

    Attributes:
        name: of the file as it was given.
        kind: of the file.
        column: what was taken for the loss.
        curve: its steps and losses.
        remarks: what of the file is not in the curve, in words.
    """

    name: str
    kind: str
    column: str
    curve: Curve
    remarks: tuple[str, ...] = ()


@dataclass
class _Found:
    """What a file holds, in its order.

    Attributes:
        kind: of the file.
        column: what was taken for the loss.
        points: steps and losses.
        left_out: lines without a number where a step or a loss should be, in words.
    """

    kind: str
    column: str
    points: list[Point]
    left_out: list[str] = field(default_factory=list)

    def remarks(self) -> tuple[str, ...]:
        """What to tell of it."""
        told = []
        if self.left_out:
            told.append(choice(len(self.left_out), "{n} row left out, the first: {row}",
                               "{n} rows left out, the first: {row}", row=self.left_out[0]))
        steps = [step for step, _ in self.points]
        back = [after for before, after in pairwise(steps) if after < before]
        if back:
            told.append(choice(
                len(back),
                "its steps fall back {n} time, first to {step}, as after a restart: of a step that is there twice the "
                "later loss counts",
                "its steps fall back {n} times, first to {step}, as after a restart: of a step that is there twice the "
                "later loss counts",
                step=back[0]))
        return tuple(told)


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
            raise UsageError(tell("{file}: larger than {size} GiB: give the file of one run", file=file,
                                  size=MOST_BYTES >> 30))
        found = _points(file, column, pattern)
    except OSError as error:
        raise UsageError(tell("{file}: cannot be read: {error}", file=file, error=error.strerror or error)) from error
    # Of a step that was done twice, as after a restart, the later one counts.
    losses = {step: loss for step, loss in found.points if abs(step) < 1 << 62}
    if not losses:
        kind = tell(found.kind)
        said = (tell("{file}: no step with a loss in this {kind} file under the name {column}", file=file, kind=kind,
                     column=repr(column)) if column else
                tell("{file}: no step with a loss in this {kind} file", file=file, kind=kind))
        more = list(found.remarks())
        if found.kind == TEXT:
            more = [tell("give --pattern 'step (?P<step>\\d+).*loss (?P<loss>\\S+)' as its lines are")]
        raise UsageError(tell(": ").join([said, *more]))
    steps = sorted(losses)
    curve = Curve(np.array(steps, np.int64), np.array([losses[n] for n in steps]))
    return Log(str(path), found.kind, found.column, curve, found.remarks())


def _within(path: Path) -> Path:
    if not path.is_dir():
        return path
    for pattern in IN_A_FOLDER:
        files = sorted(path.glob(pattern))
        if files:
            return files[-1]
    raise UsageError(tell("{path}: no log in this folder ({patterns}): name the file", path=path,
                          patterns=", ".join(IN_A_FOLDER)))


def _points(file: Path, column: str | None, pattern: str | None) -> _Found:
    if pattern is not None:
        return _Found(TEXT, tell("the pattern"), text_log.points(_lines(file), pattern, str(file)))
    if "tfevents" in file.name:
        return _of_events(file, column)
    lines = _lines(file)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        return _of_records(marked("JSON lines"), file, column, _objects(lines))
    delimiter = "\t" if "\t" in first else ","
    head = [_plain(word) for word in first.split(delimiter)]
    if len(head) > 1 and any(word in head for word in STEPS) and any("loss" in word for word in head):
        return _of_records("CSV", file, column, _rows(lines, delimiter))
    return _Found(TEXT, column or "loss", text_log.points(lines, None, str(file)))


def _lines(file: Path) -> list[str]:
    """Lines of a text; a bar that rewrites its line leaves one of each."""
    raw = file.read_bytes()
    # What Windows writes: its shell's logs, and files with a mark at their beginning.
    encoding = "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return re.split(r"\r\n|\r|\n", raw.decode(encoding, errors="replace"))


def _rows(lines: list[str], delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head = next(number for number, line in enumerate(lines) if line.strip())
    reader = csv.DictReader(lines[head:], delimiter=delimiter)
    for row in reader:
        yield head + reader.line_num, row


def _objects(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            # A kill leaves half a line.
            continue
        if isinstance(data, dict):
            yield number, data


def _of_records(kind: str, file: Path, column: str | None, records: Iterable[tuple[int, Any]]) -> _Found:
    """Points of named values; a line without a step is counted."""
    try:
        numbered = list(records)
    except csv.Error as error:
        raise UsageError(tell("{file}: cannot be read as {kind} ({error}): leave out columns of text", file=file,
                              kind=tell(kind), error=error)) from error
    names = list(dict.fromkeys(str(name) for _, row in numbered for name in row if name is not None))
    step_name = _best(names, STEPS, lambda word: False)
    chosen = column if column in names else None if column else _best(names, LOSSES, _is_training_loss)
    if chosen is None:
        known = {"file": file, "kind": tell(kind), "names": ", ".join(names[:20]) or tell("none")}
        raise UsageError(
            tell("{file}: no column {column} in this {kind} file: give --column, one of {names}", **known,
                 column=column)
            if column else
            tell("{file}: no column with a loss in this {kind} file: give --column, one of {names}", **known))
    epoch_name = _best(names, EPOCHS, lambda word: False)
    found, epochs = _Found(kind, chosen, []), []
    for count, (number, row) in enumerate(numbered, start=1):
        told = {name: row.get(name) for name in (chosen, step_name) if name is not None}
        if _empty(told[chosen]):
            # CSV files of several metrics leave cells empty, and lines of JSON have other purposes.
            continue
        loss, step = _number(told[chosen]), count if step_name is None else _number(told[step_name])
        if loss is None or step is None or not math.isfinite(step):
            name = chosen if loss is None or step_name is None else step_name
            value = tell("nothing") if told[name] is None else repr(str(told[name])[:40])
            found.left_out.append(tell("line {number} has {value} for {name}", number=number, value=value, name=name))
            continue
        found.points.append((int(step), loss))
        epochs.append(None if epoch_name is None else _number(row.get(epoch_name)))
    require_one_count(zip(epochs, (step for step, _ in found.points), strict=True), str(file))
    return found


def _of_events(file: Path, column: str | None) -> _Found:
    try:
        everything = list(event_file.scalars(file))
    except ValueError as error:
        raise UsageError(tell("{file}: not an event file of TensorBoard ({error})", file=file, error=error)) from error
    tags = list(dict.fromkeys(tag for tag, _, _ in everything))
    chosen = column if column in tags else None if column else _best(tags, LOSSES, _is_training_loss)
    if chosen is None:
        names = ", ".join(tags[:20]) or tell("none")
        raise UsageError(
            tell("{file}: no scalar {column}: give --column, one of {names}", file=file, column=column, names=names)
            if column else
            tell("{file}: no scalar with a loss: give --column, one of {names}", file=file, names=names))
    return _Found("TensorBoard", chosen, [(step, value) for tag, step, value in everything if tag == chosen])


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


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
