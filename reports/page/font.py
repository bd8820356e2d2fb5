"""Chinese letters for readers without any: a part of Noto Sans SC (fonts/OFL.txt), inside pages and figures."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from messages import language

FAMILY = "ddpm-bench CJK"
FILE = Path(__file__).parent / "fonts" / "ddpm-bench-cjk.otf"
LATIN = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"  # English
# Ours first: where no font of the system has a letter, Chromium draws boxes for some text that asked others before.
# Behind them what systems have, for letters that ours lack.
OTHERS = "'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Noto Sans SC'"  # English
CHINESE = f"'{FAMILY}', {LATIN.replace('sans-serif', OTHERS)}, sans-serif"  # English
MONO = f"'{FAMILY}', ui-monospace, 'SF Mono', Menlo, 'DejaVu Sans Mono', {OTHERS}, monospace"  # English
# So that Latin text never waits for ours.
RANGE = "U+B7,U+2014-2026,U+3000-30FF,U+4E00-9FFF,U+FF00-FFEF"
# A page's own fonts, over its style sheet's.
PAGE = f"body{{font-family:{CHINESE}}}pre,code{{font-family:{MONO}}}"


def stack() -> str:
    """The fonts of a page or a figure, as CSS names them."""
    return LATIN if language() == "en" else CHINESE


# The fonts of a text, as releases of matplotlib write them.
NAMED = re.compile(r"(style=\"[^\"]*?(?:font-family:|font: (?:[\w.]+ )*?[\d.]+px)) [^;\"]*")


def dressed(markup: str) -> str:
    """A figure in fonts that its readers have, with its letters."""
    return NAMED.sub(rf"\1 {stack()}", markup)


def face(text: str) -> str:
    """The rule that brings along the Chinese letters of a text; "" for English readers, and where it has none."""
    found = frozenset(map(ord, text)) & known() if language() != "en" else frozenset[int]()
    if not found:
        return ""
    data = b64encode(_part(found)).decode("ascii")
    return (f"@font-face{{font-family:'{FAMILY}';src:url(data:font/otf;base64,{data}) format('opentype');"
            f"unicode-range:{RANGE}}}")


def style(text: str) -> str:
    """The same as an element of a figure that stands alone."""
    rule = face(text)
    return f"<style>{rule}</style>\n" if rule else ""


@cache
def known() -> frozenset[int]:
    """The letters that there are."""
    return frozenset(_opened().getBestCmap())


def families() -> list[str]:
    """The fonts that matplotlib draws with, in the order in which it looks for a letter."""
    if language() == "en":
        return ["DejaVu Sans"]
    _register()
    return ["DejaVu Sans", FAMILY]


@cache
def _register() -> None:
    from matplotlib import font_manager

    font_manager.fontManager.addfont(FILE)


def _opened() -> Any:
    # Slow to load, and English pages need none of it.
    from fontTools.ttLib import TTFont

    return TTFont(FILE, recalcTimestamp=False)


@cache
def _part(letters: frozenset[int]) -> bytes:
    """The font with these letters alone: all of them would be as large as ten figures."""
    from fontTools import subset

    font, file = _opened(), io.BytesIO()
    part = subset.Subsetter(subset.Options(layout_features=[], hinting=False, notdef_outline=True))
    part.populate(unicodes=sorted(letters))
    part.subset(font)
    font.save(file)
    return file.getvalue()
