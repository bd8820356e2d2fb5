"""The shares of a gap: the sentence that a reader takes away, the picture, and the table behind both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from harness.record.events import Share, Verdict, Whole
from reports.page.blocks import Block, Part, Prose, Section, Table, VerdictCard, head
from reports.page.blocks import section as section_of
from reports.page.figures import FigureMaker, numbered
from reports.text import NA, Value, duration, missing, number, percent, sentence
from reports.view.run import RunView

ALL = "all"
PHASES = {
    "data": "next batch",
    "forward": "forward pass",
    "backward": "backward pass",
    "optimizer": "optimiser (clipping, Adam, averaged weights)",
    "network": "network call",
    "update": "DDIM's update",
}


@dataclass(frozen=True)
class Told:
    """The shares of one pair of arms.

    Attributes:
        slow: slot of the arm whose step takes longer.
        fast: slot of the other.
        shares: a line for each phase, or class of operators, in order.
        together: the line for all of them.
    """

    slow: str
    fast: str
    shares: tuple[Share, ...]
    together: Share

    @property
    def turned(self) -> bool:
        """Whether the slow arm is the recorded B."""
        return self.slow == self.together.arm_b

    def times_ns(self, share: Share) -> tuple[float | None, float | None]:
        """Of the slow and of the fast arm."""
        return (share.b_ns, share.a_ns) if self.turned else (share.a_ns, share.b_ns)

    @property
    def ranked(self) -> list[Share]:
        """Those that explain the gap, contested or not, the largest first."""
        found = [share for share in self.shares if share.says == "explains" and share.share is not None]
        return sorted(found, key=lambda share: -(share.share or 0))


def told(seen: RunView, of: Whole = "step", method: str = "cuts") -> list[Told]:
    """Every pair whose steps, or network calls, the run tells of by a method."""
    pairs: dict[tuple[str, str], list[Share]] = {}
    for share in (one for one in seen.run.of(Share) if one.method == method and one.of == of):
        pairs.setdefault((share.arm_a, share.arm_b), []).append(share)
    found = []
    for (a, b), shares in pairs.items():
        together = next((share for share in shares if share.cause == ALL), None)
        if together is not None:
            slow = b if (together.b_ns or 0) > (together.a_ns or 0) else a
            parts = tuple(one for one in shares if one is not together)
            found.append(Told(slow, a if slow == b else b, parts, together))
    return found


def name_of(cause: str) -> str:
    """A phase for people."""
    return PHASES.get(cause, cause)


def with_limits(share: Share) -> str:
    """A share with its interval, in per cent."""
    if share.share is None or share.ci_low is None or share.ci_high is None:
        return NA
    low, middle, high = (number(100 * value, 2) if abs(value) >= 0.1 else number(100 * value, 1)
                         for value in (share.ci_low, share.share, share.ci_high))
    return f"{middle} % [{low}, {high}]"


def with_doubt(share: Share) -> str:
    """The same; a share that another method does not bear out says so."""
    return with_limits(share) + (" (contested)" if share.word == "contested" else "")


def cards(seen: RunView) -> tuple[VerdictCard, ...]:
    """What explains each gap most; none where nothing does."""
    return tuple(card(seen, one) for one in told(seen))


def card(seen: RunView, one: Told) -> VerdictCard:
    """The largest cause of a gap, or that there is none to name."""
    names = Part(seen.label(one.slow), one.slow), Part(seen.label(one.fast), one.fast)
    facts = [sentence(text) for text in (one.together.reason,) if text]
    if one.ranked:
        top, *rest = one.ranked
        if rest:
            facts.insert(0, f"Then {', '.join(f'{name_of(share.cause)} {with_doubt(share)}' for share in rest)}.")
        words = [found.word for found in seen.run.of(Verdict) if {found.arm_a, found.arm_b} == {one.slow, one.fast}]
        # Beside a training, which judges the step time, this part has no verdict of its own.
        decided = words[:1] in ([], ["A-faster"], ["B-faster"])
        if not decided:
            facts.append("The verdict on the gap itself is open: read this as a description.")
        headline = (Part(f"{name_of(top.cause).capitalize()}: {with_doubt(top)} of what "), names[0],
                    Part(" takes longer than "), names[1])
        return VerdictCard(percent(top.share), headline, tuple(facts), one.together.next_action, top.word,
                           "decided" if decided else "open", cause=True)
    starts = {"no-gap": "There is no clear gap to explain between ", "not-measured": "The gap was not cut between "}
    start = starts.get(one.together.word, "No phase explains the gap between " if one.shares else
                       "Not known well enough to say why: the gap between ")
    tone = "even" if one.together.word == "no-gap" else "open"
    return VerdictCard("=" if tone == "even" else "?", (Part(start), names[0], Part(" and "), names[1]), tuple(facts),
                       one.together.next_action, one.together.word, tone, cause=True)


def section(seen: RunView, figures: FigureMaker) -> Section | None:
    """Every pair: its sentence, its waterfall, its dots, its table."""
    blocks: list[Block] = []
    for count, one in enumerate(told(seen)):
        blocks.append(Prose(said(seen, one)))
        if one.shares:
            from reports.suites.why.dots import dots
            from reports.suites.why.figures import waterfall

            blocks += [figures.make(numbered("waterfall", count), partial(waterfall, seen, one)),
                       figures.make(numbered("dots", count), partial(dots, seen, one)), table(seen, one)]
    return section_of("causes", "Where the gap comes from", *blocks)


def said(seen: RunView, one: Told) -> str:
    """A gap and its causes in one sentence."""
    slow_ns, fast_ns = one.times_ns(one.together)
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    if slow_ns is None or fast_ns is None or not one.shares:
        what = "" if one.together.of == "step" else f"{one.together.of}s of "
        return sentence(f"{what}{slow} and {fast}: {one.together.word.replace('-', ' ')}, {one.together.reason}")
    parts = [f"{name_of(share.cause)} {with_doubt(share)}" for share in one.ranked]
    against = [f"{name_of(share.cause)} {with_doubt(share)}" for share in one.shares if share.says == "works-against"]
    text = f"A {one.together.of} of {slow} takes {duration(slow_ns - fast_ns)} longer than one of {fast}. "
    text += f"Of that: {', '.join(parts)}" if parts else "No phase alone explains it"
    text += f"; against it works {', '.join(against)}" if against else ""
    left = one.together.share
    more = f" All phases together hold {percent(left)} of the gap." if left is not None else ""
    return sentence(text) + more


def table(seen: RunView, one: Told) -> Table:
    """Phase by phase."""
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    rows = tuple(row(one, share) for share in (*one.shares, one.together))
    caption = f"A {one.together.of} of {slow} and one of {fast}, phase by phase"
    times = Value(slow, slot=one.slow), Value(fast, slot=one.fast)
    return Table(caption, (*head("phase"), *times, *head("ratio", "share of time", "share of the gap", "word")), rows)


def row(one: Told, share: Share) -> tuple[Value, ...]:
    """One phase."""
    slow_ns, fast_ns = one.times_ns(share)
    whole_ns = one.times_ns(one.together)[0]
    ratio = Value(number(slow_ns / fast_ns)) if slow_ns and fast_ns else missing("a time of 0")
    of_time = Value(percent(slow_ns / whole_ns)) if slow_ns is not None and whole_ns else missing("no whole step")
    name = f"whole {share.of}; the sum of the phases" if share.cause == ALL else name_of(share.cause)
    return (Value(name), Value(duration(slow_ns)), Value(duration(fast_ns)), ratio, of_time,
            Value(with_limits(share)) if share.share is not None else missing(share.reason or "none recorded"),
            Value(share.word.replace("-", " "), share.reason))
