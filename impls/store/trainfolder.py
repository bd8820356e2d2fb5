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
    """A folder with config.json, log.jsonl, loss.png, checkpoints/ and samples/; locked while the object is open."""

    def __init__(self, path: Path) -> None:
        """Take over an existing folder.

        Raises:
            UsageError: another process trains in it, or it cannot be opened.
        """
        self.path = path
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

    @property
    def settings(self) -> Path:
        """The resolved settings, in the form that `--config` reads."""
        return self.path / SETTINGS

    @property
    def log(self) -> Path:
        """The trace of losses."""
        return self.path / "log.jsonl"

    @property
    def curve(self) -> Path:
        """The picture of the losses."""
        return self.path / "loss.png"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINTS

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
