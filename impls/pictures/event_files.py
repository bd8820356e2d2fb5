"""TensorBoard event files, by TensorBoard's own writer: PyTorch's must not enter a process of another framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from messages import tell


class Events:
    """Numbers over steps, in one event file; nowhere where nobody wants or can write them.

    A training that goes on adds another file, which TensorBoard shows as one curve.

    Args:
        writer: TensorBoard's, or None.
    """

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number."""
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Make what was written visible."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()


def open_events(folder: Path, say: Callable[[str], None]) -> Events:
    """An event file in `folder` where TensorBoard is installed, else a line that says so."""
    try:
        from tensorboard.summary import Writer

        return Events(Writer(str(folder)))
    except ImportError as error:
        say(tell("no TensorBoard event files ({error}): pip install tensorboard; log.jsonl and loss.png hold the same",
                 error=error))
        return Events(None)
