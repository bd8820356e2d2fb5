"""What the steps of a part are called and where its numbers stand; a cell, and what a verdict says, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.record.events import SELF_CHECK, Verdict
from harness.record.summary import Decided
from impls.recipe.precision import WORDS, Precision
from messages import count, marked, plural, shown, tell
from reports.page.told import FIRST, SECOND, Name, parted
from reports.text import NA, TIMES, commas, number, percent, semicolons

# The words of verdicts that say something of both arms.
DECIDED = ("A-faster", "B-faster", "equivalent")


@dataclass(frozen=True)
class Unit:
    """One step of what is measured: its words, and which of the recorded windows and settings are about it.

    Its words are messages, to be told where they are shown.

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

    step: str = marked("step")
    steps: str = marked("steps")
    time: str = marked("step time")
    short: str = marked("step")
    metric: str = marked("step time")
    windows: str = "stepwise"
    per: Mapping[str, str] = field(default_factory=dict)
    cell: str = ""
    settings: str = "train"
    no_data: str = marked("not recorded")

    @property
    def first(self) -> str:
        """The first of them."""
        return f"first {self.step}"  # English

    @property
    def steady(self) -> str:
        """Where a process became steady, with a place for it."""
        return f"steady from {self.short} {{at}}"  # English

    def counted(self, n: int) -> str:
        """So many of them."""
        return plural(n, self.step, self.steps)


STEPS = Unit()
# Where a figure covers parts with different steps.
EITHER = Unit(time=marked("time per step"))
# What the words of our own units make, for the catalogue.
MADE = (
    marked("first step"), marked("first network call"), marked("first forward pass"),
    marked("steady from step {at}"), marked("steady from call {at}"), marked("steady from pass {at}"),
    marked("{n} step"), marked("{n} steps"), marked("{n} network call"), marked("{n} network calls"),
    marked("{n} forward pass"), marked("{n} forward passes"), marked("calls"), marked("passes"),
    marked("Steps"), marked("Network calls"), marked("Forward passes"),
    marked("Step time"), marked("Time per call"), marked("Time of a forward pass"), marked("Time per step"),
)  # fmt: skip
# What verdicts are about, as journals name it.
METRICS = (
    marked("step time"), marked("free-running step time"), marked("sampling time"), marked("network call time"),
    marked("sampling time, geometric mean over cells"), marked("time of a forward pass"),
)  # fmt: skip


REASONS = {
    "noise": marked("the interval is wider than the margin"),
    "at-the-margin": marked("the interval is narrow but lies across the edge of the margin"),
    "machine": marked("the verdict depends on the blocks during which the machine was disturbed"),
    "environment": marked("the environments in which the run was measured decide differently"),
    "too-few-blocks": marked("one block has no spread to judge by"),
}
# These reasons as journals and terminals name them, in one word.
CODES = (marked("noise"), marked("at-the-margin"), marked("machine"), marked("environment"), marked("too-few-blocks"))
# What verdicts without a faster arm say; of one arm twice, where it is not decided.
OUTCOMES = {
    "equivalent": marked("{a} and {b} take the same time{end}, within the declared margin"),
    "not-comparable": marked("{a} and {b} cannot be compared{end}"),
    "inconclusive": marked("It is not decided whether {a} or {b} is faster{end}"),
}
TWICE = marked("{a} and {b}, the same arm twice, cannot be told apart{end}")


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
    return parted(_said(word, ratio, low, high, tell(" {what}", what=what) if what else "", twice), a, b)


def _said(word: str, ratio: float | None, low: float | None, high: float | None, end: str, twice: bool) -> str:
    a, b = FIRST, SECOND
    slower, size, below, above = turned(word, ratio, low, high)
    if word in ("A-faster", "B-faster") and size is not None:
        fast, slow = (b, a) if slower == "A" else (a, b)
        text = gain(size, below, above)
        if text.startswith("+"):
            return tell("{fast} is {share} faster than {slow}{end}", fast=fast, share=text[1:], slow=slow, end=end)
        return tell("{fast} is {times} times as fast as {slow}{end}", fast=fast, times=text.rstrip(TIMES), slow=slow,
                    end=end)
    known = TWICE if word == "inconclusive" and twice else OUTCOMES.get(word)
    if known:
        return tell(known, a=a, b=b, end=end)
    return tell("{a} against {b}{end}: {word}, no ratio recorded", a=a, b=b, end=end, word=word)


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
    "float32": marked("strict float32: neither arm rounds what goes into products and convolutions, so that both do "
                      "equal arithmetic"),
    "tf32": marked("TF32: both arms round what goes into products and convolutions to 10 bits; on a GPU that has TF32 "
                   "both frameworks do so in convolutions unless they are told not to"),
    "float16": marked("float16: both arms round what goes into products and convolutions to 10 bits and a small range"),
    "bfloat16": marked("bfloat16: both arms round what goes into products and convolutions to 7 bits"),
}


def metric_words(metric: str | None, cell: str | None, precision: Precision | None) -> str:
    """What a verdict is about, so that it can be told from those on other cells and on arms of other formats."""
    return commas(part for part in (metric_name(metric), cell, precision_words(precision)) if part)


def metric_name(metric: str | None) -> str:
    """The name of a metric as people read it."""
    if not metric:
        return NA
    if metric.endswith(SELF_CHECK):
        return tell("{metric} (self-check)", metric=metric_name(metric.removesuffix(SELF_CHECK)))
    return tell(metric)


def precision_words(precision: Precision | None) -> str | None:
    """The number format of a pair of arms; None where they share none."""
    return tell(WORDS[precision]) if precision else None


def pair_words(precision: Precision | None) -> str | None:
    """What a pair of arms compares, as a sentence; None where that is what every run compares."""
    return tell("What is compared is {pair}", pair=tell(PAIRS[precision])) if precision else None


def reason_words(reason: str | None) -> str | None:
    """Why a verdict is not decisive, as a sentence; None where it is."""
    if not reason:
        return None
    known = REASONS.get(reason)
    if known:
        return tell("Reason: {reason} ({meaning})", reason=tell(reason), meaning=tell(known))
    return tell("Reason: {reason}", reason=shown(reason))


def level_words(alpha: float | None, declared: float | None, look: str | None = None) -> str:
    """How sure an interval is: its level, and why that is not the usual one: several comparisons, one of several looks.

    Args:
        alpha: 1 - level.
        declared: what all comparisons share at this look.
        look: which one that is; None where only one was planned.
    """
    if alpha is None:
        return tell("interval")
    shared = [tell("Holm, several comparisons")] if declared is not None and alpha < declared else []
    why = semicolons([*shared, *([look] if look else [])])
    if why:
        return tell("{level} % interval ({why})", level=level(alpha), why=why)
    return tell("{level} % interval", level=level(alpha))


def level(alpha: float) -> str:
    """The level of an interval in per cent, with the digits that tell it from certainty."""
    decimals = max(2, 1 - math.floor(math.log10(100 * alpha))) if 0 < alpha < 1 else 2
    return f"{100 * (1 - alpha):.{decimals}f}".rstrip("0").rstrip(".")


def look_words(verdict: Verdict | Decided) -> str | None:
    """Which of several planned looks gave a verdict, or was not reached."""
    if not verdict.look or not verdict.looks:
        return None
    if verdict.look_reached:
        return tell("look {look} of {looks}", look=verdict.look, looks=verdict.looks)
    return tell("ended before look {look} of {looks}", look=verdict.look, looks=verdict.looks)


def margin_words(margin: float) -> str:
    """How far a ratio may be from 1 and still count as equal."""
    return f"\N{PLUS-MINUS SIGN}{percent(margin, 1)}"


def cell_words(name: str) -> str:
    """A cell in words: method and network calls; the name itself where it is none of ours."""
    known = _method_and_calls(name)
    if known is None:
        return tell("cell {name}", name=name)
    return tell("{method} with {calls}", method=known[0], calls=plural(known[1], "network call"))


def short_cell(name: str) -> str:
    """A cell in two words, e.g. "DDIM 50"; the name itself where it is none of ours."""
    known = _method_and_calls(name)
    return f"{known[0]} {count(known[1])}" if known else tell("cell {name}", name=name)


def is_ddim(name: str) -> bool:
    """Whether a cell was sampled by DDIM: cells of the same work per call, which make up one line or curve."""
    return name.startswith("ddim")


# What a batch of images is taken for.
USES = {"train": marked("{size} to train"), "sample": marked("{size} to sample")}
OTHER_USE = marked("{size} to {section}")


def batch_words(sizes: Mapping[str, int]) -> str | None:
    """How many images a part took at once, in few words; None where it is not known."""
    if len(set(sizes.values())) < 2:
        return next((tell("batch {size}", size=size) for size in sizes.values()), None)
    each = commas(tell(USES.get(section, OTHER_USE), size=size, section=section) for section, size in sizes.items())
    return tell("batch {sizes}", sizes=each)


def _method_and_calls(name: str) -> tuple[str, int] | None:
    known = re.fullmatch(r"(ddim|ddpm)-(\d{1,7})", name)
    return (known[1].upper(), int(known[2])) if known else None
