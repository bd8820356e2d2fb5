"""What switching one kind of operator closes of a gap: the lines for who chooses, and the table behind them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.record.events import Share
from messages import shown, tell, words
from reports.page.blocks import Section, Table, head
from reports.page.blocks import section as section_of
from reports.suites.why.causes import ALL, limits_of, name_of, said_word, told, with_limits
from reports.text import Value, duration, missing, sentence
from reports.view.run import RunView


def section(seen: RunView) -> Section | None:
    """Every swap of every pair, and what was left out of both arms."""
    return section_of("swaps", tell("What switching an operator closes"), table(seen), without(seen))


def lines(seen: RunView) -> Iterable[str]:
    """For each pair, the switches that close a part of its gap, the largest first."""
    for one in told(seen):
        own = [share for share in of(seen) if {share.arm_a, share.arm_b} == {one.slow, one.fast}
               and share.swap and share.cause != ALL and share.ci_low is not None and share.ci_low > 0]
        for share in sorted(own, key=lambda share: -(share.share or 0)):
            yield sentence(closes(share, seen.label(one.slow), seen.label(one.fast)))


def closes(share: Share, slow: str, fast: str) -> str:
    """What a switch closes; that more than all of a gap turns it round, as far as that is sure."""
    text = tell("Switching {slow} to {swap} closes {share} of the gap to {fast}", slow=slow, swap=share.swap,
                share=with_limits(share), fast=fast)
    if share.share is None or share.ci_low is None or share.share <= 1:
        return text
    if share.ci_low > 1:
        return tell("{switch}: more than all of it, {fast} is then the slower one", switch=text, fast=fast)
    return tell("{switch}: about all of it, or more", switch=text)


def of(seen: RunView) -> list[Share]:
    """Their shares, as recorded."""
    return [share for share in seen.run.of(Share) if share.method == "swapped"]


def table(seen: RunView) -> Table | None:
    """What each saves of a step, in the process of the slower arm, and what of the gap that is."""
    rows = tuple(
        (Value(tell("all at once") if share.cause == ALL and share.swap else tell("any") if share.cause == ALL
               else name_of(share.cause), share.swap or both(seen, share)),
         saved(share), limits_of(share), word(share))
        for share in of(seen)
    )  # fmt: skip
    caption = tell("The slower arm with one kind of operator swapped, in its own process, in turn with it as it is; "
                   "above 100 % it becomes the faster one")
    names = words("operators, switched to", "saves of a step", "share of the gap", "word")
    return Table(caption, head(*names), rows) if rows else None


def without(seen: RunView) -> Table | None:
    """What a step of each arm saves without something, and what of the gap that is."""
    rows = tuple(
        (Value(name_of(share.cause), both(seen, share)),
         *(Value(duration(ns)) if ns is not None else missing(tell("not timed")) for ns in (share.a_ns, share.b_ns)),
         limits_of(share), word(share))
        for share in seen.run.of(Share) if share.method == "left-out"
    )  # fmt: skip
    caption = tell("Both arms without something, each in turn with itself as it is: a second opinion")
    names = words("without", "saves the first arm", "the second", "share of the gap", "word")
    return Table(caption, head(*names), rows) if rows else None


def both(seen: RunView, share: Share) -> str:
    """The arms of a pair."""
    return tell("{a} and {b}", a=seen.label(share.arm_a), b=seen.label(share.arm_b))


def word(share: Share) -> Value:
    """What a share says; why one is missing stands in its own cell."""
    why = share.reason if share.share is not None else None
    return Value(said_word(share.word), why and shown(why))


def saved(share: Share) -> Value:
    """Of a step of the slower arm."""
    ns = share.a_ns if share.a_ns is not None else share.b_ns
    if ns is None:
        return missing(tell("not timed"))
    return Value(duration(ns))
