"""What switching one kind of operator closes of a gap: the lines for who chooses, and the table behind them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.record.events import Share
from reports.page.blocks import Section, Table, head
from reports.page.blocks import section as section_of
from reports.suites.why.causes import ALL, name_of, told, with_limits
from reports.text import Value, duration, missing, sentence
from reports.view.run import RunView


def section(seen: RunView) -> Section | None:
    """Every swap of every pair, and what was left out of both arms."""
    return section_of("swaps", "What switching an operator closes", table(seen), without(seen))


def lines(seen: RunView) -> Iterable[str]:
    """For each pair, the switches that close a part of its gap, the largest first."""
    for one in told(seen):
        own = [share for share in of(seen) if {share.arm_a, share.arm_b} == {one.slow, one.fast}
               and share.swap and share.cause != ALL and share.ci_low is not None and share.ci_low > 0]
        for share in sorted(own, key=lambda share: -(share.share or 0)):
            yield sentence(f"Switching {seen.label(one.slow)} to {share.swap} closes {with_limits(share)} of the gap "
                           f"to {seen.label(one.fast)}{beyond(share, seen.label(one.fast))}")


def beyond(share: Share, fast: str) -> str:
    """That closing more than all of a gap turns it round, as far as that is sure."""
    if share.share is None or share.ci_low is None or share.share <= 1:
        return ""
    return f": more than all of it, {fast} is then the slower one" if share.ci_low > 1 else ": about all of it, or more"


def of(seen: RunView) -> list[Share]:
    """Their shares, as recorded."""
    return [share for share in seen.run.of(Share) if share.method == "swapped"]


def table(seen: RunView) -> Table | None:
    """What each saves of a step, in the process of the slower arm, and what of the gap that is."""
    rows = tuple(
        (Value("all at once" if share.cause == ALL and share.swap else "any" if share.cause == ALL
               else name_of(share.cause), share.swap or f"{seen.label(share.arm_a)} and {seen.label(share.arm_b)}"),
         saved(share),
         Value(with_limits(share)) if share.share is not None else missing(share.reason or "none recorded"),
         # Why a share is missing stands in its own cell.
         Value(share.word.replace("-", " "), share.reason if share.share is not None else None))
        for share in of(seen)
    )  # fmt: skip
    caption = ("The slower arm with one kind of operator swapped, in its own process, in turn with it as it is; above "
               "100 % it becomes the faster one")
    return Table(caption, head("operators, switched to", "saves of a step", "share of the gap", "word"), rows
                 ) if rows else None


def without(seen: RunView) -> Table | None:
    """What a step of each arm saves without something, and what of the gap that is."""
    rows = tuple(
        (Value(share.cause, f"{seen.label(share.arm_a)} and {seen.label(share.arm_b)}"),
         *(Value(duration(ns)) if ns is not None else missing("not timed") for ns in (share.a_ns, share.b_ns)),
         Value(with_limits(share)) if share.share is not None else missing(share.reason or "none recorded"),
         Value(share.word.replace("-", " "), share.reason if share.share is not None else None))
        for share in seen.run.of(Share) if share.method == "left-out"
    )  # fmt: skip
    caption = "Both arms without something, each in turn with itself as it is: a second opinion"
    return Table(caption, head("without", "saves the first arm", "the second", "share of the gap", "word"), rows
                 ) if rows else None


def saved(share: Share) -> Value:
    """Of a step of the slower arm."""
    ns = share.a_ns if share.a_ns is not None else share.b_ns
    if ns is None:
        return missing("not timed")
    return Value(duration(ns))
