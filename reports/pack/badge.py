"""`badge.svg`: the main figure of a run in one line; grey where there is none, or where it must not be quoted."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from markupsafe import escape

from harness.record.events import Alignment, ParityResult, Quality
from messages import marked, tell
from reports.pack.cells import Cell
from reports.pack.quotes import quality_quote
from reports.page import font
from reports.text import number, one_line, tag, with_interval
from reports.view.run import RunView

# What stands in it, a whole string each.
RATIO = marked("time {a} / {b}")
DECIDED = "{ratio}"
EQUAL = marked("{ratio}, equal")
UNDECIDED = marked("{ratio}, undecided")
NOT_COMPARABLE = marked("not comparable")
NOT_TO_QUOTE = marked("not to be quoted")
PARITY = marked("parity {a}, {b}")
LAYERS = marked("layers {a}, {b}")
PASSED, FAILED = marked("passed"), marked("failed")
AGREE, DIFFER, NOT_TRACED = marked("agree"), marked("differ"), marked("not compared")
DISTANCE = "{label} {arm}"
IMAGES = marked("{value} over {images} images")
NONE_LABEL, NONE = "ddpm-bench", marked("no verdict")

# Each with white letters above 4.5 : 1.
BLUE, GREEN, RED, AMBER, GREY, DARK = "#0b5cad", "#116b3a", "#a3201d", "#7a4b00", "#5c6670", "#30363d"
COLOURS = {"A-faster": BLUE, "B-faster": BLUE, "equivalent": GREEN, "inconclusive": AMBER}
WORDS = {"A-faster": DECIDED, "B-faster": DECIDED, "equivalent": EQUAL, "inconclusive": UNDECIDED}
# Of a letter at this size; textLength makes it true in any font.
LETTER, SIZE, HEIGHT, PAD = 6.6, 11, 20, 8
MOST = 60


@dataclass(frozen=True)
class Badge:
    """What a badge says, and its colour."""

    label: str
    message: str
    colour: str


def badge_of(seen: RunView, found: list[Cell]) -> Badge:
    """The main verdict; without any the check of parity, the layers, or the distance."""
    if found:
        return of_verdict(found[0])
    for result in seen.run.of(ParityResult)[:1]:
        label = tell(PARITY, a=seen.label(result.arm_a), b=seen.label(result.arm_b))
        return Badge(label, tell(PASSED if result.passed else FAILED), GREEN if result.passed else RED)
    for one in seen.run.of(Alignment)[:1]:
        label = tell(LAYERS, a=seen.label(one.arm_a), b=seen.label(one.arm_b))
        known = {"agree": (AGREE, GREEN), "differ": (DIFFER, RED)}
        message, colour = known.get(one.word, (NOT_TRACED, GREY))
        return Badge(label, tell(message), colour)
    return of_quality(seen)


def of_verdict(one: Cell) -> Badge:
    """One comparison: what may be said of it."""
    label = tell(RATIO, a=one.a, b=one.b)
    if one.word == "not-comparable" or one.verdict.ratio is None:
        return Badge(label, tell(NOT_COMPARABLE), GREY)
    if one.why_not and one.word != "inconclusive":
        return Badge(label, tell(NOT_TO_QUOTE), GREY)
    return Badge(label, tell(WORDS.get(one.word, UNDECIDED), ratio=one.ratio), COLOURS.get(one.word, GREY))


def of_quality(seen: RunView) -> Badge:
    """The first distance that was computed."""
    for one in seen.run.of(Quality):
        distance = next((figure for figure in one.figures if figure.metric == "fd" and figure.value is not None), None)
        if distance is not None:
            value = with_interval(distance.value, distance.ci_low, distance.ci_high)
            grey = quality_quote(seen, one).why_not is not None
            return Badge(DISTANCE.format(label=one.label, arm=seen.label(one.arm)),
                         tell(IMAGES, value=value, images=number(one.images, 9)), GREY if grey else BLUE)
    return Badge(NONE_LABEL, tell(NONE), GREY)


def svg(badge: Badge) -> str:
    """The badge as a file."""
    label, message = (tag(one_line(text), MOST) for text in (badge.label, badge.message))
    left, right = (length(text) + 2 * PAD for text in (label, message))
    texts = "".join(
        f'<text x="{x + PAD:.1f}" y="14" textLength="{width - 2 * PAD:.1f}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(text)}</text>" for text, x, width in ((label, 0, left), (message, left, right)))
    whole = escape(tell("{name}: {value}", name=label, value=message))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:.0f}" height="{HEIGHT}" role="img" '
        f'aria-label="{whole}">\n<title>{whole}</title>\n{font.style(whole)}'
        f'<path fill="{DARK}" d="M0 0h{left:.1f}v{HEIGHT}H0z"/>'
        f'<path fill="{badge.colour}" d="M{left:.1f} 0h{right:.1f}v{HEIGHT}H{left:.1f}z"/>\n'
        f'<g fill="#fff" font-family="{escape(font.stack())}" font-size="{SIZE}">{texts}</g>\n</svg>\n')  # English


def length(text: str) -> float:
    """How long a text is; a Chinese letter is as wide as it is high."""
    return sum(SIZE if unicodedata.east_asian_width(letter) in "WF" else LETTER for letter in text)
