"""The shares of a gap: the sentence that a reader takes away, the picture, and the table behind both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from harness.record.events import Share, Verdict, Whole
from messages import marked, shown, tell, words
from reports.page.blocks import Block, Part, Prose, Section, Table, VerdictCard, head
from reports.page.blocks import section as section_of
from reports.page.figures import FigureMaker, numbered
from reports.page.told import FIRST, SECOND, headline
from reports.text import NA, Value, commas, duration, missing, number, percent, sentence
from reports.view.run import RunView

ALL = "all"
NAMES = {
    "data": marked("next batch"),
    "forward": marked("forward pass"),
    "backward": marked("backward pass"),
    "optimizer": marked("optimiser (clipping, Adam, averaged weights)"),
    "network": marked("network call"),
    "update": marked("DDIM's update"),
    "attention": marked("attention"),
    "norm": marked("norm"),
    "convolution": marked("convolution"),
    "linear": marked("linear"),
    "other": marked("other"),
    "clipping": marked("clipping"),
    "averaged weights": marked("averaged weights"),  # English
}
SHORT = {"optimizer": marked("optimiser")}
WORDS = {
    "explains": marked("explains"),
    "does-not-explain": marked("does not explain"),
    "works-against": marked("works against"),
    "inconclusive": marked("inconclusive"),
    "adds-up": marked("adds up"),
    "does-not-add-up": marked("does not add up"),
    "no-gap": marked("no gap"),
    "not-measured": marked("not measured"),
    "contested": marked("contested"),
    "holds": marked("holds"),
    "does-not-hold": marked("does not hold"),
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
    """A phase, or a class of operators, for people."""
    return tell(NAMES.get(cause, cause))


def short_name(cause: str) -> str:
    """The same beside an axis."""
    return tell(SHORT.get(cause, NAMES.get(cause, cause).split(" (")[0]))


def said_word(word: str) -> str:
    """A recorded word for people."""
    return tell(WORDS.get(word, word.replace("-", " ")))


def with_limits(share: Share) -> str:
    """A share with its interval, in per cent."""
    if share.share is None or share.ci_low is None or share.ci_high is None:
        return NA
    low, middle, high = (number(100 * value, 2) if abs(value) >= 0.1 else number(100 * value, 1)
                         for value in (share.ci_low, share.share, share.ci_high))
    return f"{middle} % [{low}, {high}]"


def limits_of(share: Share) -> Value:
    """The same as a cell, or why there is none."""
    if share.share is None:
        return missing(shown(share.reason) if share.reason else tell("none recorded"))
    return Value(with_limits(share))


def with_doubt(share: Share) -> str:
    """The same; a share that another method does not bear out says so."""
    limits = with_limits(share)
    return tell("{share} (contested)", share=limits) if share.word == "contested" else limits


def cards(seen: RunView) -> tuple[VerdictCard, ...]:
    """What explains each gap most; none where nothing does."""
    return tuple(card(seen, one) for one in told(seen))


def card(seen: RunView, one: Told) -> VerdictCard:
    """The largest cause of a gap, or that there is none to name."""
    names = Part(seen.label(one.slow), one.slow), Part(seen.label(one.fast), one.fast)
    facts = [sentence(shown(text)) for text in (one.together.reason,) if text]
    action = one.together.next_action and shown(one.together.next_action)
    if one.ranked:
        top, *rest = one.ranked
        if rest:
            further = commas(f"{name_of(share.cause)} {with_doubt(share)}" for share in rest)
            facts.insert(0, tell("Then {shares}.", shares=further))
        verdicts = [found.word for found in seen.run.of(Verdict) if {found.arm_a, found.arm_b} == {one.slow, one.fast}]
        # Beside a training, which judges the step time, this part has no verdict of its own.
        decided = verdicts[:1] in ([], ["A-faster"], ["B-faster"])
        if not decided:
            facts.append(tell("The verdict on the gap itself is open: read this as a description."))
        text = tell("{cause}: {share} of what {slow} takes longer than {fast}", cause=name_of(top.cause).capitalize(),
                    share=with_doubt(top), slow=FIRST, fast=SECOND)
        return VerdictCard(percent(top.share), headline(text, *names), tuple(facts), action, top.word,
                           "decided" if decided else "open", cause=True)
    tone = "even" if one.together.word == "no-gap" else "open"
    return VerdictCard("=" if tone == "even" else "?", headline(unexplained(one), *names), tuple(facts), action,
                       one.together.word, tone, cause=True)


def unexplained(one: Told) -> str:
    """That a gap has no cause to name."""
    if one.together.word == "no-gap":
        return tell("There is no clear gap to explain between {slow} and {fast}", slow=FIRST, fast=SECOND)
    if one.together.word == "not-measured":
        return tell("The gap was not cut between {slow} and {fast}", slow=FIRST, fast=SECOND)
    if one.shares:
        return tell("No phase explains the gap between {slow} and {fast}", slow=FIRST, fast=SECOND)
    return tell("Not known well enough to say why: the gap between {slow} and {fast}", slow=FIRST, fast=SECOND)


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
    return section_of("causes", tell("Where the gap comes from"), *blocks)


def said(seen: RunView, one: Told) -> str:
    """A gap and its causes in one sentence."""
    slow_ns, fast_ns = one.times_ns(one.together)
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    if slow_ns is None or fast_ns is None or not one.shares:
        word, reason = said_word(one.together.word), shown(str(one.together.reason))
        if one.together.of == "step":
            return sentence(tell("{slow} and {fast}: {word}, {reason}", slow=slow, fast=fast, word=word, reason=reason))
        return sentence(tell("network calls of {slow} and {fast}: {word}, {reason}", slow=slow, fast=fast, word=word,
                             reason=reason))
    parts = [f"{name_of(share.cause)} {with_doubt(share)}" for share in one.ranked]
    against = [f"{name_of(share.cause)} {with_doubt(share)}" for share in one.shares if share.says == "works-against"]
    places = {"slow": slow, "fast": fast, "time": duration(slow_ns - fast_ns)}
    text = (tell("A step of {slow} takes {time} longer than one of {fast}. ", **places)
            if one.together.of == "step" else
            tell("A network call of {slow} takes {time} longer than one of {fast}. ", **places))
    text += tell("Of that: {shares}", shares=commas(parts)) if parts else tell("No phase alone explains it")
    text += tell("; against it works {shares}", shares=commas(against)) if against else ""
    left = one.together.share
    more = tell(" All phases together hold {share} of the gap.", share=percent(left)) if left is not None else ""
    return sentence(text) + more


def table(seen: RunView, one: Told) -> Table:
    """Phase by phase."""
    slow, fast = seen.label(one.slow), seen.label(one.fast)
    rows = tuple(row(one, share) for share in (*one.shares, one.together))
    caption = (tell("A step of {slow} and one of {fast}, phase by phase", slow=slow, fast=fast)
               if one.together.of == "step" else
               tell("A network call of {slow} and one of {fast}, phase by phase", slow=slow, fast=fast))
    times = Value(slow, slot=one.slow), Value(fast, slot=one.fast)
    names = words("ratio", "share of time", "share of the gap", "word")
    return Table(caption, (*head(tell("phase")), *times, *head(*names)), rows)


def row(one: Told, share: Share) -> tuple[Value, ...]:
    """One phase."""
    slow_ns, fast_ns = one.times_ns(share)
    whole_ns = one.times_ns(one.together)[0]
    ratio = Value(number(slow_ns / fast_ns)) if slow_ns and fast_ns else missing(tell("a time of 0"))
    of_time = Value(percent(slow_ns / whole_ns)) if slow_ns is not None and whole_ns else missing(
        tell("no whole step"))
    name = (name_of(share.cause) if share.cause != ALL else tell("whole step; the sum of the phases")
            if share.of == "step" else tell("whole network call; the sum of the phases"))
    return (Value(name), Value(duration(slow_ns)), Value(duration(fast_ns)), ratio, of_time,
            limits_of(share),
            Value(said_word(share.word), share.reason and shown(share.reason)))
