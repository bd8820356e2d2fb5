"""TensorBoard event files, by TensorBoard's own writer: PyTorch's must not enter a process of another framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Events(Protocol):
    """Numbers over steps."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number."""
        ...

    def flush(self) -> None:
        """Make what was written visible."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


class NoEvents:
    """Events that nobody wants or can write."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class EventFile:
    """One event file in `folder`; a training that goes on adds another, which TensorBoard shows as one curve."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number."""
        self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Make what was written visible."""
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def open_events(folder: Path, say: Callable[[str], None]) -> Events:
    """An event file in `folder` where TensorBoard is installed, else a line that says so."""
    try:
        return EventFile(folder)
    except ImportError as error:
        say(f"no TensorBoard event files ({error}): pip install tensorboard; log.jsonl and loss.png hold the same")
        return NoEvents()
