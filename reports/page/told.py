"""Sentences that a page needs in pieces, because they name arms."""

from __future__ import annotations

import re
from typing import TypeVar

from reports.page.blocks import Part

# Stand in the places of a sentence where arms are named: each language puts them where it wants.
FIRST, SECOND = "\ue000", "\ue001"
# A name as text, or as a piece of a page.
Name = TypeVar("Name")


def parted(text: str, *names: Name) -> tuple[Name | str, ...]:
    """A sentence told with `FIRST` and `SECOND` in the places of names, in pieces, with the names in these places."""
    marks = dict(zip((FIRST, SECOND), names, strict=False))
    return tuple(marks.get(piece, piece) for piece in re.split(f"([{FIRST}{SECOND}])", text) if piece)


def headline(text: str, *names: Part) -> tuple[Part, ...]:
    """A sentence told with `FIRST` and `SECOND` in the places of arms, in parts.

    Args:
        text: such as `tell("{a} and {b} agree", a=FIRST, b=SECOND)`.
        names: of the arms.
    """
    return tuple(piece if isinstance(piece, Part) else Part(piece) for piece in parted(text, *names))
