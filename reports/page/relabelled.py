"""Figures in a second language: drawn once, in English, and their texts replaced by what was noted meanwhile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape, unescape

from harness.record.writer import write_atomically
from messages import shown
from reports.page import font
from reports.page.blocks import Picture, Prose, Table
from reports.page.figures import Draw, FigureMaker, absent
from reports.text import Value

# What is read in a figure: what stands in it, and what whoever points at it is told.
TEXT = re.compile(r"(?P<before><text\b[^>]*>|<title>)(?P<text>[^<]*)|(?P<label> aria-label=\")(?P<name>[^\"]*)")


class Dictionary:
    """From what is told in English to what is told in the language that is spoken now."""

    def __init__(self, pairs: Mapping[str, str]) -> None:
        """Take what `messages.paired` noted.

        Args:
            pairs: English -> the other language.
        """
        self.pairs = dict(pairs)
        for english, foreign in pairs.items():
            # Every line of a text is drawn by itself.
            lines, others = english.split("\n"), foreign.split("\n")
            if len(lines) == len(others) > 1:
                self.pairs.update(zip(lines, others, strict=True))

    @cached_property
    def pieces(self) -> list[str]:
        """What may stand inside other text, the longest first."""
        found = [one for one, foreign in self.pairs.items() if foreign != one and re.search(r"[A-Za-z]{3}", one)]
        return sorted(found, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """A text in the other language: as it was noted, else by its form, else by the longest pieces known."""
        if text not in self.pairs:
            self.pairs[text] = self._put_together(text)
        return self.pairs[text]

    def _put_together(self, text: str) -> str:
        if not re.search(r"[A-Za-z]{2}", text):
            return text
        said = shown(text)
        if said != text:
            return said
        inside = [re.escape(one) for one in self.pieces if one in text]
        if not inside:
            return text
        return re.sub(rf"(?<!\w)(?:{'|'.join(inside)})(?!\w)", lambda found: self.pairs[found[0]], text)

    def lines(self, text: str) -> str:
        """Lines of what a column is called and what stands in it, or any text."""
        return text if text == "" else "\n".join(map(self._line, text.split("\n")))

    def _line(self, line: str) -> str:
        name, colon, cell = line.partition(": ")
        if line in self.pairs or not colon or name not in self.pairs:
            return self(line)
        return f"{self(name)}{colon}{self(cell)}"

    def svg(self, markup: str) -> str:
        """A figure with its texts in that language, and in fonts that have its letters."""
        return font.dressed(TEXT.sub(self._found, markup))

    def _found(self, found: re.Match[str]) -> str:
        before, text = (found["label"], found["name"]) if found["label"] else (found["before"], found["text"])
        return before + escape(self.lines(unescape(text)))

    def table(self, told: Table) -> Table:
        """A table of numbers."""
        return Table(self(told.caption), tuple(map(self._value, told.head)),
                     tuple(tuple(map(self._value, row)) for row in told.rows))

    def _value(self, value: Value) -> Value:
        return replace(value, text=self(value.text), note=self(value.note) if value.note else value.note)


@dataclass(frozen=True)
class Relabelled(FigureMaker):
    """Draws nothing: gives the figures that another maker has drawn in the language that is spoken now.

    Attributes:
        told: the texts of all figures.
        suffix: of the names of files, before their ending.
    """

    told: Dictionary = field(default_factory=lambda: Dictionary({}))
    suffix: str = ""

    def make(self, name: str, draw: Draw) -> Picture | Prose:
        """A figure that was drawn before; `draw` is not asked again."""
        name = f"{self.prefix}{name}"
        drawn = self.drawn[name]
        if isinstance(drawn, str):
            return absent(name, self.told(drawn))
        picture = self._said(drawn.picture)
        if self.folder is not None:
            from reports.page.plotting import alone

            write_atomically(self.folder / f"{picture.name}.svg", alone(picture.svg["wide"]))
        return picture

    def _said(self, one: Picture) -> Picture:
        return Picture(
            f"{one.name}{self.suffix}", self.told(one.alt), self.told(one.caption),
            {variant: self.told.svg(markup) for variant, markup in one.svg.items()},
            self.told.table(one.data) if one.data else None)
