"""`python -m messages [PATH ...]`: sentences that are not marked, and messages that lack a translation.

For who changes this program; what it says itself is English.
"""

from __future__ import annotations

import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import write_po

from messages import FOLDER, PLACE, Language, _catalogue
from messages.source import Message, loose, messages


def missing(chosen: Language, *paths: Path) -> list[Message]:
    """Messages of these files without a translation."""
    known = _catalogue(chosen)
    return [one for one in messages(*paths) if one.text not in known]


def crooked(chosen: Language) -> list[str]:
    """Translations whose places are not those of their message."""
    return [f"{message!r}: {foreign!r}" for message, foreign in _catalogue(chosen).items()
            if set(PLACE.findall(message)) != set(PLACE.findall(foreign))]  # fmt: skip


def stale(chosen: Language) -> list[str]:
    """Translations of messages that are nowhere any more."""
    said = {form for one in messages() for form in (one.text, one.many)}
    return [message for message in _catalogue(chosen) if message not in said]


def skeleton(found: list[Message]) -> Catalog:
    """A catalogue of messages to translate."""
    catalogue = Catalog(fuzzy=False)
    for one in found:
        catalogue.add((one.text, one.many) if one.many else one.text, locations=[
            (place.partition(":")[0], int(place.partition(":")[2])) for place in one.places[:1]])
    return catalogue


def main(words: list[str]) -> int:
    """Tell what is missing; 1 where anything is."""
    paths = [Path(word) for word in words]
    unmarked, untold = loose(*paths), missing("zh", *paths)
    for one in unmarked:
        print(f"{one.place}: not marked: {one.text[:100]!r}")  # English
    if untold:
        write_po(sys.stdout.buffer, skeleton(untold), width=118, omit_header=True)
    for fault in crooked("zh"):
        print(f"{FOLDER.name}: places differ: {fault}")  # English
    counted = f"{len(unmarked)} sentences not marked, {len(untold)} messages without a translation"  # English
    print(counted, file=sys.stderr)
    return int(bool(unmarked or untold))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
