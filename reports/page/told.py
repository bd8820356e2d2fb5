"""Sentences that a page needs in pieces, because they name arms."""

from __future__ import annotations

import re

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
