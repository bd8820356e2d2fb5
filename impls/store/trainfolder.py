"""The folder of one training: what lies where, and that only one process at a time writes into it."""

from __future__ import annotations

import fcntl
import os
import secrets
from datetime import datetime, timezone
from pathlib import Path

from impls.errors import UsageError
from impls.store.retention import checkpoint_name, remove_partial

CHECKPOINTS = "checkpoints"
SETTINGS = "config.json"


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
            raise UsageError(f"{path}: cannot be opened: {error.strerror or error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise UsageError(f"{path}: another process trains in this folder: wait for its end, or end it") from error
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
            raise UsageError(f"--log-root {root}: cannot make a folder there: {error.strerror or error}") from error
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
