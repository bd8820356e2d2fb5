"""What the steps of a part are called and where its numbers stand; a cell, and what a verdict says, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from harness.record.events import Verdict
from harness.record.summary import Decided
from impls.recipe.precision import WORDS, Precision
from messages import count, plural
from reports.text import NA, TIMES, number, percent

# A name as text, or as a piece of a page.
Name = TypeVar("Name")

# The words of verdicts that say something of both arms.
DECIDED = ("A-faster", "B-faster", "equivalent")


@dataclass(frozen=True)
class Unit:
    """One step of what is measured: its words, and which of the recorded windows and settings are about it.

    Attributes:
        step: one of them, in full.
        steps: several.
        time: how long one takes, as an axis or a row calls it.
        short: one of them where the context is clear.
        metric: the main metric, as verdicts name it.
        windows: kind of the windows on which the main verdicts rest.
        per: what a verdict on windows of a kind compares, in words.
        cell: what a cell of these windows is; empty where they come in none.
        settings: the group of the experiment's settings that holds the batch size.
        no_data: why no data set is recorded.
    """

    step: str = "step"
    steps: str = "steps"
    time: str = "step time"
    short: str = "step"
    metric: str = "step time"
    windows: str = "stepwise"
    per: Mapping[str, str] = field(default_factory=dict)
    cell: str = ""
    settings: str = "train"
    no_data: str = "not recorded"


STEPS = Unit()
# Where a figure covers parts with different steps.
EITHER = Unit(time="time per step")


REASONS = {
    "noise": "the interval is wider than the margin",
    "at-the-margin": "the interval is narrow but lies across the edge of the margin",
    "machine": "the verdict depends on the blocks during which the machine was disturbed",
    "environment": "the environments in which the run was measured decide differently",
    "too-few-blocks": "one block has no spread to judge by",
}


def outcome(word: str, a: Name, b: Name, ratio: float | None, low: float | None, high: float | None,
            what: str = "", twice: bool = False) -> tuple[Name | str, ...]:
    """What a verdict on arms of these names says, in pieces: the one sentence of terminal, index and page.

    Args:
        word: the verdict's.
        a: name of arm A.
        b: name of arm B.
        ratio: time A / time B; None where there is none.
        low: lower end of its interval.
        high: upper end.
        what: is compared, e.g. "in step time".
        twice: whether both are the same arm.
    """
    end = f" {what}" if what else ""
    slower, size, below, above = turned(word, ratio, low, high)
    if word in ("A-faster", "B-faster") and size is not None:
        fast, slow = (b, a) if slower == "A" else (a, b)
        text = gain(size, below, above)
        more = f"{text[1:]} faster than" if text.startswith("+") else f"{text.rstrip(TIMES)} times as fast as"
        return fast, f" is {more} ", slow, end
    if word == "equivalent":
        return a, " and ", b, f" take the same time{end}, within the declared margin"
    if word == "inconclusive" and twice:
        return a, " and ", b, f", the same arm twice, cannot be told apart{end}"
    if word == "not-comparable":
        return a, " and ", b, f" cannot be compared{end}"
    if word == "inconclusive":
        return "It is not decided whether ", a, " or ", b, f" is faster{end}"
    return a, " against ", b, f"{end}: {word}, no ratio recorded"


def turned(word: str, ratio: float | None, low: float | None,
           high: float | None) -> tuple[str, float | None, float | None, float | None]:
    """The letter of the arm whose time is above the line, and the ratio with its interval: above 1 once decided."""
    ratio, low, high = (
        value if value is not None and math.isfinite(value) and value > 0 else None for value in (ratio, low, high)
    )
    if word == "A-faster" and ratio is not None:
        return "B", 1 / ratio, 1 / high if high else None, 1 / low if low else None
    return "A", ratio, low, high


def gain(ratio: float, low: float | None, high: float | None) -> str:
    """How much faster, in short: a factor without decimals that the interval makes worthless; below 1.1 per cent."""
    if ratio < 1.1:
        return f"+{percent(ratio - 1)}"
    if low is None or high is None or high <= low:
        return f"{number(ratio)}{TIMES}"
    return f"{ratio:.{max(0, min(2, 1 - math.floor(math.log10((high - low) / 2))))}f}{TIMES}"


# What a pair of arms of one number format compares.
PAIRS: dict[Precision, str] = {
    "float32": "strict float32: neither arm rounds what goes into products and convolutions, so that both do equal "
               "arithmetic",
    "tf32": "TF32: both arms round what goes into products and convolutions to 10 bits; on a GPU that has TF32 both "
            "frameworks do so in convolutions unless they are told not to",
    "float16": "float16: both arms round what goes into products and convolutions to 10 bits and a small range",
    "bfloat16": "bfloat16: both arms round what goes into products and convolutions to 7 bits",
}


def metric_words(metric: str | None, cell: str | None, precision: Precision | None) -> str:
    """What a verdict is about, so that it can be told from those on other cells and on arms of other formats."""
    return ", ".join(part for part in (metric or NA, cell, WORDS[precision] if precision else None) if part)


def pair_words(precision: Precision | None) -> str | None:
    """What a pair of arms compares, as a sentence; None where that is what every run compares."""
    return f"What is compared is {PAIRS[precision]}" if precision else None


def reason_words(reason: str | None) -> str | None:
    """Why a verdict is not decisive, as a sentence; None where it is."""
    known = REASONS.get(reason or "")
    return f"Reason: {reason}{f' ({known})' if known else ''}" if reason else None


def level_words(alpha: float | None, declared: float | None, look: str | None = None) -> str:
    """How sure an interval is: its level, and why that is not the usual one: several comparisons, one of several looks.

    Args:
        alpha: 1 - level.
        declared: what all comparisons share at this look.
        look: which one that is; None where only one was planned.
    """
    if alpha is None:
        return "interval"
    shared = ["Holm, several comparisons"] if declared is not None and alpha < declared else []
    why = "; ".join([*shared, *([look] if look else [])])
    return f"{level(alpha)} % interval{f' ({why})' if why else ''}"


def level(alpha: float) -> str:
    """The level of an interval in per cent, with the digits that tell it from certainty."""
    decimals = max(2, 1 - math.floor(math.log10(100 * alpha))) if 0 < alpha < 1 else 2
    return f"{100 * (1 - alpha):.{decimals}f}".rstrip("0").rstrip(".")


def look_words(verdict: Verdict | Decided) -> str | None:
    """Which of several planned looks gave a verdict, or was not reached."""
    if not verdict.look or not verdict.looks:
        return None
    return f"{'' if verdict.look_reached else 'ended before '}look {verdict.look} of {verdict.looks}"


def margin_words(margin: float) -> str:
    """How far a ratio may be from 1 and still count as equal."""
    return f"\N{PLUS-MINUS SIGN}{percent(margin, 1)}"


def cell_words(name: str) -> str:
    """A cell in words: method and network calls; the name itself where it is none of ours."""
    known = _method_and_calls(name)
    return f"{known[0]} with {plural(known[1], 'network call')}" if known else f"cell {name}"


def short_cell(name: str) -> str:
    """A cell in two words, e.g. "DDIM 50"; the name itself where it is none of ours."""
    known = _method_and_calls(name)
    return f"{known[0]} {count(known[1])}" if known else f"cell {name}"


def is_ddim(name: str) -> bool:
    """Whether a cell was sampled by DDIM: cells of the same work per call, which make up one line or curve."""
    return name.startswith("ddim")


def batch_words(sizes: Mapping[str, int]) -> str | None:
    """How many images a part took at once, in few words; None where it is not known."""
    if len(set(sizes.values())) < 2:
        return next((f"batch {size}" for size in sizes.values()), None)
    return "batch " + ", ".join(f"{size} to {section}" for section, size in sizes.items())


def _method_and_calls(name: str) -> tuple[str, int] | None:
    known = re.fullmatch(r"(ddim|ddpm)-(\d{1,7})", name)
    return (known[1].upper(), int(known[2])) if known else None
