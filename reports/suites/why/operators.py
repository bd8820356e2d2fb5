"""The network's operators alone: what each class takes, how fast it is, and how near to the machine's best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

from harness.record.events import IsolatedOperator
from impls.recipe.isolated import COPY
from messages import marked, shown, tell, words
from reports.page.blocks import Block, Prose, Section, Table, head
from reports.page.blocks import section as section_of
from reports.page.figures import FigureMaker, numbered
from reports.suites.why import causes
from reports.suites.why.causes import ALL, Told, limits_of, said_word, with_doubt, with_limits
from reports.text import Value, commas, duration, missing, number, percent, sentence
from reports.view.run import RunView

CLASSES = {
    "attention": marked("attention (products and softmax)"), "norm": marked("GroupNorm and SiLU"),
    "convolution": marked("convolution"), "linear": marked("linear layer"),
    "other": marked("sums, dropout, up-sampling, joining, padding")}
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
        numbers = table(seen, one) if one.shares else times(seen, one)
        if numbers is not None:
            from reports.suites.why.roofline import roofline

            blocks += [numbers, figures.make(numbered("roofline", place), partial(roofline, seen, one))]
    return section_of("operators", tell("Operators alone"), *blocks)


def said(seen: RunView, one: Told) -> str:
    """What explains the gap, and whether the operators add up to the step, in one sentence each."""
    if not one.shares:
        return sentence(tell("{slow} and {fast}: operators alone: {word}, {reason}", slow=seen.label(one.slow),
                             fast=seen.label(one.fast), word=said_word(one.together.word),
                             reason=shown(str(one.together.reason))))
    parts = [f"{class_of(share.cause)} {with_doubt(share)}" for share in one.ranked]
    against = [f"{class_of(share.cause)} {with_doubt(share)}" for share in one.shares if share.says == "works-against"]
    text = tell("Of what a step of {slow} takes longer than one of {fast}, the network's operators hold {share} when "
                "each runs alone: {shares}", slow=seen.label(one.slow), fast=seen.label(one.fast),
                share=with_limits(one.together),
                shares=commas(parts) or tell("no class of them alone explains it"))
    text += tell("; against it works {shares}", shares=commas(against)) if against else ""
    closing = tell("{word}: {reason}", word=said_word(one.together.word).capitalize(),
                   reason=shown(str(one.together.reason)))
    return f"{sentence(text)} {sentence(closing)}"


def class_of(cause: str) -> str:
    """A class of operators for people."""
    return tell(CLASSES.get(cause, cause))


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
            Value(tell("all operators") if share.cause == ALL else class_of(share.cause)),
            *(Value(duration(ns), rate(seen, of, share.cause)) if ns else missing(tell("it has none"))
              for ns, of in zip(times, both, strict=True)),
            Value(ratio) if ratio else missing(tell("a time of 0")),
            Value(percent(times[0] / whole_ns)) if times[0] and whole_ns else missing(tell("no time")),
            missing(tell("none")) if share.share is None and not share.reason else limits_of(share),
            # Why all together do not close is said above the table.
            Value(said_word(share.word), None if share is one.together else share.reason and shown(share.reason))))
    names = (Value(slow, slot=one.slow), Value(fast, slot=one.fast))
    more = words("ratio", "share of time", "share of the gap", "word")
    return Table(captioned(slow, fast), (*head(tell("class")), *names, *head(*more)), tuple(rows))


def captioned(slow: str, fast: str) -> str:
    """What the table of a pair is called."""
    return tell("Operators of a step of {slow} and of {fast}, each timed alone, forward and backward, by class",
                slow=slow, fast=fast)


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
            Value(class_of(kind)),
            *(Value(duration(ns), rate(seen, of, kind)) if ns else missing(tell("it has none"))
              for ns, of in zip((slow_ns, fast_ns), both, strict=True)),
            Value(number(slow_ns / fast_ns)) if slow_ns and fast_ns else missing(tell("a time of 0"))))
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    names = (Value(slow, slot=one.slow), Value(fast, slot=one.fast))
    return Table(captioned(slow, fast), (*head(tell("class")), *names, *head(tell("ratio"))), tuple(rows))


def rate(seen: RunView, found: dict[str, Rate], cause: str) -> str | None:
    """Operations or bytes per second, and what part of the machine's best that is; None of many classes."""
    one = found.get(cause)
    if one is None or not one.ns:
        return None
    peak, copy = ceilings(seen)
    by_bytes = cause in BY_BYTES
    value, unit, most = (one.bytes / one.ns, "GB/s", copy) if by_bytes else (one.flop / one.ns, "GFLOP/s", peak)
    text = f"{number(value)} {unit}"
    if not most:
        return text
    share = percent(value * 1e9 / most)
    return (tell("{rate}, {share} of the best sum of arrays", rate=text, share=share) if by_bytes else
            tell("{rate}, {share} of the best product", rate=text, share=share))
