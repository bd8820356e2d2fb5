"""Which checkpoints of a training stay: the newest ones, and the best."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from impls.errors import CheckpointError
from impls.store.checkpoint import read_note

_PATTERN = "step-*.safetensors"


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint after `step` steps; names sort like steps."""
    return f"step-{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by their step."""
    steps = {path: path.stem.removeprefix("step-") for path in folder.glob(_PATTERN)}
    return sorted((path for path, text in steps.items() if text.isdigit()), key=lambda path: int(steps[path]))


def best(paths: list[Path]) -> Path | None:
    """The checkpoint with the least validation loss, the later one of two equals; None where no one has any."""
    losses: dict[Path, float] = {}
    for path in paths:
        # A damaged file is not the best one, and must not end the training that writes a better one.
        with suppress(CheckpointError):
            loss = read_note(path).validation_loss
            if loss is not None:
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
