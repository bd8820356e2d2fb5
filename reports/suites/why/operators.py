"""The network's operators alone: what each class takes, how fast it is, and how near to the machine's best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

from harness.record.events import IsolatedOperator
from impls.recipe.isolated import COPY
from reports.page.blocks import Block, Prose, Section, Table, head
from reports.page.blocks import section as section_of
from reports.page.figures import FigureMaker, numbered
from reports.suites.why import causes
from reports.suites.why.causes import ALL, Told, with_doubt, with_limits
from reports.text import Value, duration, missing, number, percent, sentence
from reports.view.run import RunView

CLASSES = {
    "attention": "attention (products and softmax)", "norm": "GroupNorm and SiLU", "convolution": "convolution",
    "linear": "linear layer", "other": "sums, dropout, up-sampling, joining, padding"}
# Classes that memory bounds: their rate is told in bytes.
BY_BYTES = frozenset({"norm", "other"})


@dataclass(frozen=True)
class Rate:
    """What one class of one arm took and did in a step.

    Attributes:
        ns: time.
        flop: floating-point operations.
        bytes: read and written at least.
    """

    ns: float
    flop: float
    bytes: float


def told(seen: RunView) -> list[Told]:
    """Every pair that the run tells of; slow is the arm whose step is, also where its operators are not."""
    steps = {frozenset((one.slow, one.fast)): one for one in causes.told(seen)}
    alone = causes.told(seen, method="isolated")
    return [replace(one, slow=step.slow, fast=step.fast)
            if (step := steps.get(frozenset((one.slow, one.fast)))) else one for one in alone]


def rates(seen: RunView, slot: str) -> dict[str, Rate]:
    """By class, of one arm; the sum of large arrays under `COPY`."""
    found: dict[str, Rate] = {}
    for line in seen.run.of(IsolatedOperator):
        if line.arm == slot and line.round_ns:
            before, times = found.get(line.operator_class, Rate(0, 0, 0)), line.count or 1
            found[line.operator_class] = Rate(before.ns + times * mean(line.round_ns), before.flop + times * line.flop,
                                              before.bytes + times * line.bytes)
    return found


def ceilings(seen: RunView) -> tuple[float | None, float | None]:
    """Operations and bytes per second that the best of the arms reached here: in a product, in a sum of arrays."""
    peaks = [peak.flops for arm in seen.arms if (peak := seen.peak(arm)) is not None]
    copies = [rate[COPY].bytes / rate[COPY].ns * 1e9 for arm in seen.arms
              if COPY in (rate := rates(seen, arm.slot)) and rate[COPY].ns]
    return max(peaks, default=None), max(copies, default=None)


def section(seen: RunView, figures: FigureMaker) -> Section | None:
    """Every pair: its sentence, its roofline, its table."""
    blocks: list[Block] = []
    for place, one in enumerate(told(seen)):
        blocks.append(Prose(said(seen, one)))
        # Without a gap to share out the times are there all the same.
        shown = table(seen, one) if one.shares else times(seen, one)
        if shown is not None:
            from reports.suites.why.roofline import roofline

            blocks += [shown, figures.make(numbered("roofline", place), partial(roofline, seen, one))]
    return section_of("operators", "Operators alone", *blocks)


def said(seen: RunView, one: Told) -> str:
    """What explains the gap, and whether the operators add up to the step, in one sentence each."""
    if not one.shares:
        text = f"{seen.label(one.slow)} and {seen.label(one.fast)}: operators alone: "
        return sentence(f"{text}{one.together.word.replace('-', ' ')}, {one.together.reason}")
    parts = [f"{CLASSES.get(share.cause, share.cause)} {with_doubt(share)}" for share in one.ranked]
    against = [f"{CLASSES.get(share.cause, share.cause)} {with_doubt(share)}" for share in one.shares
               if share.says == "works-against"]
    text = (f"Of what a step of {seen.label(one.slow)} takes longer than one of {seen.label(one.fast)}, the network's "
            f"operators hold {with_limits(one.together)} when each runs alone: ")
    text += ", ".join(parts) or "no class of them alone explains it"
    text += f"; against it works {', '.join(against)}" if against else ""
    closing = one.together.word.replace("-", " ").capitalize()
    return f"{sentence(text)} {sentence(f'{closing}: {one.together.reason}')}"


def table(seen: RunView, one: Told) -> Table:
    """Class by class."""
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    both = rates(seen, one.slow), rates(seen, one.fast)
    whole_ns = one.times_ns(one.together)[0]
    rows = []
    for share in (*one.shares, one.together):
        times = one.times_ns(share)
        ratio = number(times[0] / times[1]) if times[0] and times[1] else None
        rows.append((
            Value("all operators" if share.cause == ALL else CLASSES.get(share.cause, share.cause)),
            *(Value(duration(ns), rate(seen, of, share.cause)) if ns else missing("it has none")
              for ns, of in zip(times, both, strict=True)),
            Value(ratio) if ratio else missing("a time of 0"),
            Value(percent(times[0] / whole_ns)) if times[0] and whole_ns else missing("no time"),
            Value(with_limits(share)) if share.share is not None else missing(share.reason or "none"),
            # Why all together do not close is said above the table.
            Value(share.word.replace("-", " "), None if share is one.together else share.reason)))
    names = (Value(slow, slot=one.slow), Value(fast, slot=one.fast))
    return Table(f"Operators of a step of {slow} and of {fast}, each timed alone, forward and backward, by class",
                 (*head("class"), *names, *head("ratio", "share of time", "share of the gap", "word")), tuple(rows))


def times(seen: RunView, one: Told) -> Table | None:
    """Class by class where there are no shares; None where an arm ran no operator alone."""
    both = rates(seen, one.slow), rates(seen, one.fast)
    kinds = [kind for kind in CLASSES if any(kind in of for of in both)]
    if not all(any(kind in of for kind in kinds) for of in both):
        return None
    rows = []
    for kind in kinds:
        slow_ns, fast_ns = (of[kind].ns if kind in of else None for of in both)
        rows.append((
            Value(CLASSES[kind]),
            *(Value(duration(ns), rate(seen, of, kind)) if ns else missing("it has none")
              for ns, of in zip((slow_ns, fast_ns), both, strict=True)),
            Value(number(slow_ns / fast_ns)) if slow_ns and fast_ns else missing("a time of 0")))
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    names = (Value(slow, slot=one.slow), Value(fast, slot=one.fast))
    return Table(f"Operators of a step of {slow} and of {fast}, each timed alone, forward and backward, by class",
                 (*head("class"), *names, *head("ratio")), tuple(rows))


def rate(seen: RunView, found: dict[str, Rate], cause: str) -> str | None:
    """Operations or bytes per second, and what part of the machine's best that is; None of many classes."""
    one = found.get(cause)
    if one is None or not one.ns:
        return None
    peak, copy = ceilings(seen)
    value, unit, most, what = ((one.bytes / one.ns, "GB/s", copy, "sum of arrays") if cause in BY_BYTES else
                               (one.flop / one.ns, "GFLOP/s", peak, "product"))
    best = f", {percent(value * 1e9 / most)} of the best {what}" if most else ""
    return f"{number(value)} {unit}{best}"
