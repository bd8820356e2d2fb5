"""The report as data: sections made of few kinds of blocks, which the HTML and the Markdown template both render."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from messages import choice, marked, plural, tell
from reports.page.forest import Forest
from reports.text import Value

FOOTER = marked(
    "Built by ddpm-bench from the run's journal. Every figure comes from this run, except those that are "
    "marked as published elsewhere."
)


@dataclass(frozen=True)
class Prose:
    """A paragraph; `small` for side remarks."""

    text: str
    small: bool = False
    kind: Literal["prose"] = "prose"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row. Head cells with a slot name an arm."""

    caption: str
    head: tuple[Value, ...]
    rows: tuple[tuple[Value, ...], ...]
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Picture:
    """A figure. `svg` holds markup made by this program: {"wide": ..., "narrow": ...}.

    Attributes:
        name: file name in figures/ without its suffix.
        alt: the figure's message in one sentence, with its numbers.
        caption: what is drawn.
        svg: variant -> SVG element, for inlining.
        data: what is drawn, in numbers; None where it was not told.
    """

    name: str
    alt: str
    caption: str
    svg: dict[str, str] = field(default_factory=dict)
    data: Table | None = None
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Code:
    """Text to copy as it stands, such as a command or the end of a log."""

    text: str
    label: str
    kind: Literal["code"] = "code"


@dataclass(frozen=True)
class Branch:
    """One line of a tree.

    Attributes:
        depth: how many lines it stands inside.
        text: what it says.
        mark: "good", "bad", "warn" or "", as a table's cell.
    """

    depth: int
    text: str
    mark: str = ""


@dataclass(frozen=True)
class Tree:
    """Lines that stand inside one another, in order; text that need not keep its columns, unlike code."""

    lines: tuple[Branch, ...]
    label: str
    kind: Literal["tree"] = "tree"

    @property
    def text(self) -> str:
        """As plain text."""
        return "\n".join(f"{'   ' * line.depth}{line.text}" for line in self.lines)


@dataclass(frozen=True)
class Raster:
    """One raster image of the run folder.

    Attributes:
        slot: letter of the arm that made it.
        label: the arm's name.
        alt: what it shows.
        caption: how it was made.
        data: `data:` address of the file, type from its content; None where it cannot be shown.
        link: address relative to the run folder, quoted; None where it cannot be shown.
        width: in pixels of the image.
        height: in pixels of the image.
        reason: why it cannot be shown.
    """

    slot: str
    label: str
    alt: str
    caption: str
    data: str | None = None
    link: str | None = None
    width: int = 0
    height: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Images:
    """Raster images side by side; `moving` where they are animations."""

    caption: str
    items: tuple[Raster, ...]
    moving: bool = False
    kind: Literal["images"] = "images"


Block = Prose | Table | Picture | Images | Code | Tree


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; `anchor` is its id in the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


def head(*names: str) -> tuple[Value, ...]:
    """A head row of plain words."""
    return tuple(Value(name) for name in names)


def table_of(caption: str, names: Iterable[str], rows: Iterable[tuple[Value, ...]]) -> Table | None:
    """A table with a head row of plain words; None without rows."""
    found = tuple(rows)
    return Table(caption, head(*names), found) if found else None


def present(*blocks: Block | None) -> tuple[Block, ...]:
    """The blocks that there are."""
    return tuple(block for block in blocks if block is not None)


def section(anchor: str, title: str, *blocks: Block | None, folded: bool = False) -> Section | None:
    """A section of the blocks that there are; None without any."""
    found = present(*blocks)
    return Section(anchor, title, found, folded) if found else None


@dataclass(frozen=True)
class Part:
    """A piece of a sentence; with a slot it names an arm."""

    text: str
    slot: str | None = None


@dataclass(frozen=True)
class VerdictCard:
    """One verdict, or one statement about image quality, in plain words.

    Attributes:
        figure: the large figure, e.g. "2.93x"; "=" and "?" where there is none to boast of.
        headline: the sentence, in parts.
        facts: lines below it: ratio with interval, margin, means, reasons.
        next_action: what to do next, as recorded.
        word: the recorded word; "" for a statement that is no verdict.
        tone: "decided", "even", "open" or "refused".
        minor: whether it is a self-check or one of many, told behind the others.
        cause: whether it says why, and not what.
    """

    figure: str
    headline: tuple[Part, ...]
    facts: tuple[str, ...]
    next_action: str | None
    word: str
    tone: str
    minor: bool = False
    cause: bool = False

    @property
    def sentence(self) -> str:
        """The headline as plain text."""
        return "".join(part.text for part in self.headline)


@dataclass(frozen=True)
class Note:
    """A finding for the reader: severity "info", "warning" or "error"."""

    severity: str
    message: str
    advice: str | None = None
    where: str | None = None
    times: int = 1

    @property
    def heading(self) -> str:
        """How grave it is, and where it was found."""
        severity = tell(self.severity.capitalize())
        return tell("{text} ({reason})", text=severity, reason=self.where) if self.where else severity


def counted(notes: Sequence[Note]) -> list[tuple[str, str]]:
    """How many there are of each severity, the worst first: severity, and in words."""
    found = Counter(note.severity for note in notes)
    said = (("error", plural(found["error"], "error")), ("warning", plural(found["warning"], "warning")),
            ("info", plural(found["info"], "note")))  # fmt: skip
    return [(severity, words) for severity, words in said if found[severity]]


@dataclass(frozen=True)
class Elsewhere:
    """The same page in another language.

    Attributes:
        name: of its files, without their suffix.
        tag: its language, as pages are marked with it.
        label: that language's own name.
    """

    name: str
    tag: str
    label: str


@dataclass(frozen=True)
class Report:
    """Everything a report shows, in order.

    Attributes:
        word_label: what the word of a verdict is called.
        footer: the last line.
        forests: the ratios of every pair of arms, on one scale.
        quoted: the few figures that people quote, a table each part.
        elsewhere: the same page in another language; None where there is none.
    """

    title: str
    subtitle: str
    run_id: str
    status: str
    verdicts: tuple[VerdictCard, ...]
    notes: tuple[Note, ...]
    sections: tuple[Section, ...]
    word_label: str = field(default_factory=lambda: tell("recorded verdict"))
    footer: str = field(default_factory=lambda: tell(FOOTER))
    forests: tuple[Forest, ...] = ()
    quoted: tuple[Table, ...] = ()
    elsewhere: Elsewhere | None = None

    @property
    def main(self) -> list[VerdictCard]:
        """What is said first; all of it where everything is a detail."""
        found = [card for card in self.verdicts if not card.cause and not card.minor]
        return found or [card for card in self.verdicts if not card.cause][:1]

    @property
    def causes(self) -> list[VerdictCard]:
        """Why."""
        return [card for card in self.verdicts if card.cause]

    @property
    def further(self) -> list[VerdictCard]:
        """Details, in words."""
        said = [*map(id, self.main), *map(id, self.causes)]
        return [card for card in self.verdicts if id(card) not in said]

    @property
    def further_title(self) -> str:
        """What these are called."""
        return choice(len(self.further), "{n} further statement in words", "{n} further statements in words")

    @property
    def counted(self) -> list[tuple[str, str]]:
        """How many findings there are of each severity: severity, and in words."""
        return counted(self.notes)

    @property
    def grave(self) -> bool:
        """Whether a finding says that something did not work: that is not folded away."""
        return any(note.severity == "error" for note in self.notes)

    @property
    def cards_title(self) -> str:
        """What the cards are: statements about image quality are no verdicts."""
        judged = [bool(card.word) for card in self.verdicts]
        if all(judged):
            return tell("Verdicts")
        return tell("Verdicts and image quality") if any(judged) else tell("In brief")

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]
