"""What a waiting person sees: lines, bars, and a heartbeat for whatever takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

HEARTBEAT_LINE_S = 8.0


class Progress:
    """Shows progress on a stream; silent when `quiet`."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = stream if stream is not None else sys.stderr
        self._bar: tqdm[Any] | None = None
        self._last_line: dict[str, float] = {}

    def say(self, text: str) -> None:
        """One line, above any bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def bar(self, total: int, text: str) -> Iterator[None]:
        """A bar for `total` units of work, advanced by `advance`."""
        from tqdm import tqdm

        live = self._stream.isatty()
        with tqdm(total=total, desc=text, file=self._stream, disable=self._quiet, mininterval=0.1 if live else 5,
                  dynamic_ncols=live, leave=True) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def advance(self, count: int = 1) -> None:
        """So much of the bar's work is done."""
        if self._bar is not None:
            self._bar.update(count)

    def status(self, text: str) -> None:
        """What the open bar is busy with."""
        if self._bar is not None and not self._quiet:
            self._bar.set_postfix_str(text, refresh=self._stream.isatty())

    def tick(self, text: str, seconds: float, detail: str | None = None) -> None:
        """A sign of life of something that has taken `seconds` so far; a new line only now and then.

        Args:
            text: what it is; the same each time.
            seconds: since it began.
            detail: how far it is, where that is known.
        """
        if self._quiet:
            return
        more = f", {detail}" if detail else ""
        if self._bar is not None and self._stream.isatty():
            self._bar.set_postfix_str(f"{text}, {seconds:.0f} s{more}")
            return
        last = self._last_line.get(text)
        if seconds < HEARTBEAT_LINE_S or (last is not None and last <= seconds < last + HEARTBEAT_LINE_S):
            return
        self._last_line[text] = seconds
        self.say(f"  {text} ({seconds:.0f} s{more})")
