"""`python -m messages.font [FONT]`: makes the font of the catalogue's Chinese letters, for readers without any."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

from messages import FOLDER, _catalogue

# Debian's fonts-noto-cjk; Noto Sans in simplified Chinese is one of the faces in it.
SOURCE, FACE = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"), "Noto Sans CJK SC"  # English
FAMILY = "ddpm-bench CJK"
MADE = FOLDER.parent / "reports" / "page" / "fonts" / "ddpm-bench-cjk.otf"
# How wide letters of ours and of theirs are: W and F are Chinese; these are full-width where they stand in Chinese.
PUNCTUATION = "“”‘’…—·"
# The name by which pages call the language.
OWN_NAME = "中文"


def chinese(text: str) -> set[str]:
    """The letters and signs of a text that a Latin font lacks."""
    return {letter for letter in text if unicodedata.east_asian_width(letter) in "WF" or letter in PUNCTUATION}


def letters() -> set[str]:
    """Those of the whole catalogue."""
    return chinese("".join([*_catalogue("zh").values(), OWN_NAME]))


def make(source: Path = SOURCE) -> Path:
    """Write the font; the same letters make the same bytes.

    Args:
        source: a collection of fonts, or one font.
    """
    from fontTools import subset
    from fontTools.ttLib import TTCollection, TTFont

    number = -1
    if source.suffix == ".ttc":
        with TTCollection(source, lazy=True) as faces:
            number = [one["name"].getDebugName(4) for one in faces].index(FACE)
    options = subset.Options(layout_features=[], hinting=False, desubroutinize=True, name_IDs=[0, 1, 2, 4, 6, 13, 14])
    options.drop_tables += ["BASE", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]
    part = subset.Subsetter(options)
    part.populate(unicodes=sorted(map(ord, letters())))
    with TTFont(source, fontNumber=number, lazy=True, recalcTimestamp=False) as font:
        part.subset(font)
        for record in font["name"].names:
            if record.nameID in (1, 4, 6):
                record.string = FAMILY.replace(" ", "-") if record.nameID == 6 else FAMILY
        MADE.parent.mkdir(exist_ok=True)
        font.save(MADE)
    return MADE


if __name__ == "__main__":
    made = make(*map(Path, sys.argv[1:2]))
    print(f"{made}: {len(letters())} letters, {made.stat().st_size} bytes")  # English
