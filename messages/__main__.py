"""`python -m messages [PATH ...]`: sentences that are not marked, and messages that lack a translation.

`python -m messages --tidy` writes the catalogue anew: a file for each package, in the order of the source, without what
is said nowhere any more.

For who changes this program; what it says itself is English.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
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


def skeleton(found: list[Message], known: Mapping[str, str]) -> Catalog:
    """A catalogue of messages, with the file in which each stands first, and what is known of translations."""
    catalogue = Catalog(fuzzy=False)
    for one in found:
        said = known.get(one.text, "")
        file = one.places[0].partition(":")[0]
        # Without lines: they would change with every change of the source.
        catalogue.add((one.text, one.many) if one.many else one.text, (said,) if one.many else said,
                      locations=[(file, None)])  # type: ignore[list-item]
    return catalogue


def tidy(chosen: Language) -> list[Path]:
    """Write the catalogue anew; returns its files."""
    known, folder = _catalogue(chosen), FOLDER / chosen
    by_package: dict[str, list[Message]] = {}
    for one in sorted(messages(), key=lambda one: one.places[0].partition(":")[0]):
        by_package.setdefault(one.places[0].partition("/")[0], []).append(one)
    texts = {}
    for package, found in by_package.items():
        buffer = io.BytesIO()
        write_po(buffer, skeleton(found, known), width=118, omit_header=True)
        texts[folder / f"{package}.po"] = buffer.getvalue()
    for path in folder.glob("*.po"):
        path.unlink()
    for path, text in texts.items():
        path.write_bytes(text)
    return list(texts)


def main(words: list[str]) -> int:
    """Tell what is missing; 1 where anything is."""
    if words == ["--tidy"]:
        print(*tidy("zh"), sep="\n")
        return 0
    paths = [Path(word) for word in words]
    unmarked, untold = loose(*paths), missing("zh", *paths)
    for one in unmarked:
        print(f"{one.place}: not marked: {one.text[:100]!r}")  # English
    if untold:
        write_po(sys.stdout.buffer, skeleton(untold, {}), width=118, omit_header=True)
    for fault in crooked("zh"):
        print(f"{FOLDER.name}: places differ: {fault}")  # English
    counted = f"{len(unmarked)} sentences not marked, {len(untold)} messages without a translation"  # English
    print(counted, file=sys.stderr)
    return int(bool(unmarked or untold))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
