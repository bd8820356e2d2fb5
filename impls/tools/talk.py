"""What a command line tells people: on stdout and, where wanted, in a log file too."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from impls.errors import UsageError


class Talk:
    """What is said, on stdout and, from `open` on, with everything said before, in a log."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.file: TextIO | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)
        self._note(text)

    def open(self, path: Path) -> None:
        """Begin the log.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: cannot write the log: {error.strerror}: choose another --log_root "
                             "or --no-log") from error
        earlier, self.said = self.said, []
        for text in earlier:
            self._note(text)

    def close(self) -> None:
        """End the log."""
        if self.file is not None:
            self.file.close()

    def _note(self, text: str) -> None:
        if self.file is None:
            self.said.append(text)
            return
        try:
            print(text, file=self.file, flush=True)
        except OSError as error:
            raise UsageError(f"{self.file.name}: cannot write the log: {error.strerror}") from error
