"""What to mend first, what to switch, and four common guesses with a verdict each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.record.events import Guess, Share
from messages import marked, shown, tell, words
from reports.page.blocks import Block, Prose, Section, Table, head
from reports.page.blocks import section as section_of
from reports.suites.why import swaps
from reports.suites.why.causes import ALL, name_of, said_word, told, with_limits
from reports.text import Value, sentence
from reports.view.run import RunView

GUESSES = {
    "loader": marked("{slow} is slower because of its data loader"),
    "compilation": marked("{slow} is slower because it compiles while it runs"),
    "attention": marked("{slow} is slower in attention, for want of a fused operator"),
    "sampling": marked("{slow} samples faster, although it trains more slowly"),
}
MARKS = {"holds": "warn", "does-not-hold": "good"}
# Phases that consist of operators: where these were timed alone, they say more.
NETWORK = ("forward", "backward")


def section(seen: RunView) -> Section | None:
    """What follows from the causes: for who writes a framework, for who uses it, and for who has heard a guess."""
    blocks: list[Block] = [Prose(text) for text in advice(seen)]
    return section_of("advice", tell("What to mend, and four guesses"), *blocks, guesses(seen))


def advice(seen: RunView) -> Iterable[str]:
    """For each pair of arms, the cause to mend first; then what to switch to."""
    for one in told(seen):
        own = [share for share in seen.run.of(Share) if {share.arm_a, share.arm_b} == {one.slow, one.fast} and
               share.of == "step"]
        slow = seen.label(one.slow)
        first = best(own)
        if first is not None:
            kind = tell("operators") if first.method == "isolated" else tell("phase")
            yield sentence(tell("Fix first in {slow}: {cause}, {share} of the gap to {fast} ({kind})", slow=slow,
                                cause=name_of(first.cause), share=with_limits(first), fast=seen.label(one.fast),
                                kind=kind + doubt(first, own)))
    yield from swaps.lines(seen)


def best(shares: Sequence[Share]) -> Share | None:
    """The largest that explains a gap, contested or not, of operators and of phases without any; None where none does.

    Where no operator explains it, phases say at least where to look.
    """
    known = [share for share in shares if share.says == "explains" and share.share is not None]
    operators = [share for share in known if share.method == "isolated"]
    phases = [share for share in known if share.method == "cuts" and not (operators and share.cause in NETWORK)]
    return max([*operators, *phases], key=lambda share: share.share or 0.0, default=None)


def doubt(first: Share, shares: Sequence[Share]) -> str:
    """Why the size of the first cause is unsure, as far as the record says so."""
    rough = any(share.method == first.method and share.cause == ALL and share.word == "does-not-add-up"
                for share in shares)
    told_by = ((tell("contested"), first.word == "contested"),
               (tell("rough, since all together do not add up"), rough))
    return "".join(tell("; {doubt}", doubt=text) for text, there in told_by if there)


def guesses(seen: RunView) -> Table | None:
    """The guesses of the comparison that this project grew from, held against this run."""
    rows = tuple(
        (Value(tell(GUESSES[one.guess], slow=seen.label(one.slow))),
         Value(said_word(one.word), one.next_action and shown(one.next_action), MARKS.get(one.word, "")),
         Value(sentence(shown(one.reason))))
        for one in seen.run.of(Guess)
    )  # fmt: skip
    return Table(tell("Four guesses, each held against what this run measured"),
                 head(*words("guess", "verdict", "measured")), rows) if rows else None
