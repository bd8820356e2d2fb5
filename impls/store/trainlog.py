"""The trace of a training: one JSON object per line, read back when the training goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from impls.errors import UsageError
from impls.store.files import whole_file, written
from messages import tell


@dataclass(frozen=True)
class StepLine:
    """One optimisation step.

    Attributes:
        step: number of the step, from 1: that many are done after it.
        epoch: number of its epoch, from 1.
        loss: mean squared error on its batch.
        lr: Adam's rate.
    """

    step: int
    epoch: int
    loss: float
    lr: float


@dataclass(frozen=True)
class EpochLine:
    """The end of an epoch, or of the training.

    Attributes:
        step: steps done.
        epoch: number of the epoch that ends, from 1.
        validation_loss_ema: loss on the held-out images with the averaged weights; None where there are none.
        validation_loss: the same with the weights as they are; None where no images are held out.
        images_per_s: images trained on per second since the line before or the start of the process.
        loss_scale: what the loss is multiplied by; None where it is not scaled.
        skipped: steps left out so far because a gradient overflowed; None where the loss is not scaled.
    """

    step: int
    epoch: int
    validation_loss_ema: float | None
    validation_loss: float | None
    images_per_s: float
    loss_scale: float | None = None
    skipped: int | None = None


# Absent from a line where they are None, as from all lines before there was any.
_OPTIONAL = ("loss_scale", "skipped")
Line = StepLine | EpochLine


class TrainLog:
    """Appends lines to a file."""

    def __init__(self, path: Path) -> None:
        """Open the file, which may hold earlier lines.

        Raises:
            UsageError: it cannot be written.
        """
        self.path = path
        with written(path):
            self._file: TextIO = path.open("a", encoding="utf-8")

    def add(self, lines: Sequence[Line]) -> None:
        """Append lines; they survive the end of this process, but not that of the machine until `sync`.

        Raises:
            UsageError: the disk is full.
        """
        with written(self.path):
            self._file.write("".join(map(_text, lines)))
            self._file.flush()

    def sync(self) -> None:
        """Wait until the disk has every line, so that no checkpoint is newer than the trace."""
        with written(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what a full disk refused stays unwritten."""
        with written(self.path):
            self._file.close()


def read(path: Path, last_step: int) -> Iterator[Line]:
    """The lines up to `last_step` in a log; nothing where there is no log, and no line that is torn."""
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    for text in texts:
        line = _parse(text)
        if line is not None and line.step <= last_step:
            yield line


def copy(source: Path, target: Path, last_step: int) -> list[Line]:
    """Make `target` hold the lines of `source` up to `last_step`; the two may be the same file.

    At any moment `target` is what it was or what it will be.

    Raises:
        UsageError: it cannot be read or written.
    """
    lines = list(read(source, last_step))
    with whole_file(target, durable=True) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(map(_text, lines))
    return lines


def _text(line: Line) -> str:
    data = {name: value for name, value in asdict(line).items() if value is not None or name not in _OPTIONAL}
    return json.dumps(data) + "\n"


def _parse(text: str) -> Line | None:
    try:
        data = json.loads(text)
        return StepLine(**data) if "loss" in data else EpochLine(**data)
    except (ValueError, TypeError, RecursionError):
        # A killed process or a full disk leaves a torn last line.
        return None
