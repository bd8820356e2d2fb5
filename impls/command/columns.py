"""Columns of a terminal, of which a Chinese character takes two, and lines that end in the midst of such text."""

from __future__ import annotations

import re
import textwrap
import unicodedata

# What is not torn apart, with the blanks before it: a word, or a wide character; and what must not begin or end a line.
PIECES = re.compile(r" *（*(?:[\u2e80-\u9fff\uff00-\uffef]|[^ \u2e80-\u9fff\uff00-\uffef]+)[，。：；、？！）]*")


def width(text: str) -> int:
    """How many columns a text takes."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def filled_up(text: str, columns: int) -> str:
    """A text with blanks behind it up to so many columns."""
    return text + " " * (columns - width(text))


def wrapped(text: str, columns: int) -> list[str]:
    """A paragraph as lines of at most so many columns; a longer word keeps a line to itself."""
    text = " ".join(text.split())
    if width(text) == len(text):
        return textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False).wrap(text)
    lines = [""]
    for piece in PIECES.findall(text):
        if lines[-1] and width(lines[-1] + piece) > columns:
            lines.append(piece.lstrip())
        else:
            lines[-1] += piece
    return lines
