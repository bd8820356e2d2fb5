"""Sentences that a page needs in pieces: those that name arms, and those with several things in a row."""

from __future__ import annotations

import re
from collections.abc import Iterable

from messages import tell
from reports.page.blocks import Part

# Stand in the places of a sentence where arms are named: each language puts them where it wants.
FIRST, SECOND = "\ue000", "\ue001"


def headline(text: str, *names: Part) -> tuple[Part, ...]:
    """A sentence told with `FIRST` and `SECOND` in the places of arms, in parts.

    Args:
        text: such as `tell("{a} and {b} agree", a=FIRST, b=SECOND)`.
        names: of the arms.
    """
    marks = dict(zip((FIRST, SECOND), names, strict=False))
    pieces = re.split(f"([{FIRST}{SECOND}])", text)
    return tuple(marks.get(piece, Part(piece)) for piece in pieces if piece)


def row(items: Iterable[str]) -> str:
    """Things in a row, "a, b, c", each with the same thing in the other language while both are noted."""
    text = ""
    for item in items:
        text = tell("{before}, {item}", before=text, item=item) if text else item
    return text


def rows(items: Iterable[str]) -> str:
    """The same of things that have commas themselves: "a; b; c"."""
    text = ""
    for item in items:
        text = tell("{before}; {item}", before=text, item=item) if text else item
    return text
