"""What was measured apart from the blocks: the loader, waiting, sampling, and what starts cost."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from harness.record.events import Apart, Share, StartUp
from messages import marked, plural, shown, tell, words
from reports.page.blocks import Block, Prose, Section, Table, head
from reports.page.blocks import section as section_of
from reports.suites.why.causes import limits_of, said, said_word, table, told
from reports.text import Value, duration, missing, number
from reports.view.run import ArmView, RunView

CAUSES = {
    "loader": marked("the framework's own loader in place of resident data"),
    "waiting": marked("waiting for the device after each step"),
    "threads": marked("threads"),
}


def section(seen: RunView) -> Section | None:
    """As a share of the gap, then arm by arm, then a network call of sampling in its phases."""
    calls: list[Block] = []
    for one in told(seen, "network call"):  # English
        calls += [Prose(said(seen, one)), *([table(seen, one)] if one.shares else [])]
    return section_of("apart", tell("Loader, waiting, sampling, starting"), shares(seen), rounds(seen), *calls)


def shares(seen: RunView) -> Table | None:
    """What was measured beside the blocks, as a share of the gap."""
    rows = tuple(
        (Value(tell("{a} and {b}: {what}", a=seen.label(one.arm_a), b=seen.label(one.arm_b),
                    what=tell(CAUSES.get(one.cause, one.cause)))),
         *(Value(duration(ns)) if ns is not None else missing(tell("not timed")) for ns in (one.a_ns, one.b_ns)),
         missing(tell("not measured")) if one.share is None and not one.reason else limits_of(one),
         Value(said_word(one.word), one.next_action and shown(one.next_action)))
        for one in seen.run.of(Share) if one.method == "apart"
    )  # fmt: skip
    caption = tell("Measured apart, in rounds of one process: what it costs each arm per step, and its share of the "
                   "gap")
    names = words("cost", "first arm", "second arm", "share of the gap", "word")
    return Table(caption, head(*names), rows) if rows else None


def rounds(seen: RunView) -> Table | None:
    """Arm by arm: steps in both ways, the first batch, a sampled batch by two clocks, and the start."""
    rows = []
    for arm in seen.arms:
        lines = list(arm.of(Apart))
        if lines:
            rows.append((Value(arm.label, slot=arm.slot), of(lines, "waiting"), of(lines, "loader"), first(lines),
                         of(lines, "sampling"), start(seen, arm)))
    names = words("arm", "not waited for", "native loader", "first batch", "sampling asked for", "start")
    caption = tell("Ratios of times, medians over rounds: steps not waited for over steps waited for one by one, the "
               "native loader over resident data, a sampled batch when it is asked for over when it is there; the "
               "first batch of an epoch, and a start")
    return Table(caption, head(*names), tuple(rows)) if rows else None


def of(lines: Iterable[Apart], what: str) -> Value:
    """The second way's time over the first's."""
    found = [line.other_ns / line.plain_ns for line in lines if line.what == what and line.plain_ns]
    return Value(number(median(found)), plural(len(found), "round")) if found else missing(
        tell("not measured"))


def first(lines: Iterable[Apart]) -> Value:
    """From the end of an epoch to the next one's first batch."""
    found = [line.first_ns for line in lines if line.first_ns is not None]
    return Value(duration(median(found))) if found else missing(tell("not measured"))


def start(seen: RunView, arm: ArmView) -> Value:
    """From launch to the end of the first step, and how many steps of the gap cost as much as the difference."""
    for one in seen.run.of(StartUp):
        if arm.slot in (one.arm_a, one.arm_b):
            ns = one.a_ns if arm.slot == one.arm_a else one.b_ns
            note = tell("empty caches") if one.cold else tell("warm caches")
            if one.steps is not None:
                note = tell("{caches}; the difference is {steps} of the gap", caches=note,
                            steps=plural(one.steps, "step"))
            return Value(duration(ns), note)
    return missing(tell("no start of both arms was recorded"))
