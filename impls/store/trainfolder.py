"""The folder of one training: what lies where, which checkpoints stay, and that only one process writes into it."""

from __future__ import annotations

import fcntl
import math
import os
import re
import secrets
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from impls.errors import CheckpointError, UsageError
from impls.store.checkpoint import read_note
from messages import tell

CHECKPOINTS = "checkpoints"
SETTINGS = "config.json"
_PATTERN, _STEP = "step-*.safetensors", re.compile(r"step-([0-9]+)\.safetensors")


class TrainFolder:
    """A folder of one training, locked while the object is open.

    Attributes:
        path: the folder.
        settings: the resolved settings, in the form that `--config` reads.
        log: the trace of losses.
        curve: the picture of the losses.
        checkpoints: the folder of the checkpoints; that of the samples is beside it.
    """

    def __init__(self, path: Path) -> None:
        """Take over an existing folder.

        Raises:
            UsageError: another process trains in it, or it cannot be opened.
        """
        self.path, self.settings, self.checkpoints = path, path / SETTINGS, path / CHECKPOINTS
        self.log, self.curve = path / "log.jsonl", path / "loss.png"
        try:
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UsageError(tell("{path}: cannot be opened: {reason}", path=path,
                                  reason=error.strerror or error)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise UsageError(tell("{path}: another process trains in this folder: wait for its end, or end it",
                                  path=path)) from error
        except OSError:
            # Some network file systems have no locks.
            pass
        remove_partial(self.checkpoints)

    @classmethod
    def create(cls, root: Path, name: str) -> TrainFolder:
        """A new folder `<name>-<UTC stamp>-<short id>` under `root`.

        Raises:
            UsageError: it cannot be made.
        """
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = root / f"{name}-{stamp}-{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise UsageError(tell("--log-root {root}: cannot make a folder there: {reason}", root=root,
                                  reason=error.strerror or error)) from error
        return cls(path)

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after `step` steps."""
        return self.checkpoints / checkpoint_name(step)

    def samples(self, step: int) -> Path:
        """The grid of samples drawn after `step` steps."""
        return self.path / "samples" / f"step-{step:08d}.png"

    def close(self) -> None:
        """Let others train here."""
        os.close(self._lock)


def folder_of(checkpoint: Path) -> Path | None:
    """The training's folder that a checkpoint's file, or a folder, belongs to; None where there is none."""
    path = checkpoint.absolute()
    candidates = (path, path.parent, path.parent.parent)
    return next((folder for folder in candidates
                 if os.path.isfile(folder / SETTINGS) and os.path.isdir(folder / CHECKPOINTS)), None)


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint after `step` steps; names sort like steps."""
    return f"step-{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by their step."""
    steps = {int(match[1]): path for path in folder.glob(_PATTERN) if (match := _STEP.fullmatch(path.name))}
    return [steps[step] for step in sorted(steps)]


def best(paths: list[Path]) -> Path | None:
    """The checkpoint with the least validation loss, the later one of two equals; None where no one has any."""
    losses: dict[Path, float] = {}
    for path in paths:
        # A damaged file is not the best one, and must not end the training that writes a better one.
        with suppress(CheckpointError):
            loss = read_note(path).validation_loss
            if loss is not None and math.isfinite(loss):
                losses[path] = loss
    return min(reversed(losses), key=lambda path: losses[path]) if losses else None


def prune(folder: Path, keep_last: int | None, keep_best: bool) -> list[Path]:
    """Remove all but the newest checkpoints and, if wanted, the best one; what was removed.

    Args:
        folder: holds the checkpoints.
        keep_last: how many of the newest stay, at least 1; None keeps all.
        keep_best: the one with the least validation loss stays too.
    """
    if keep_last is None:
        return []
    paths = checkpoints(folder)
    kept = {*paths[-keep_last:], *([best(paths)] if keep_best else [])}
    removed = [path for path in paths if path not in kept]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left half-written; only for who has the folder for itself."""
    # The second is safetensors' own temporary file.
    for pattern in (f".{_PATTERN}.*.partial", ".tmp??????"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
