"""How a run measured, how to repeat it, and what it says nothing about."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from messages import listed, marked, tell
from reports.chapters.evidence import findings as notes
from reports.page.blocks import Block, Code, Prose, Section
from reports.text import commas, sentences
from reports.view.run import RunView, nested

RESIDENT = marked(
    "Every block starts a fresh process of each arm. They stay resident while measured windows alternate "
    "between them, in "
    "an order drawn from a recorded seed, so that what disturbs the machine disturbs all of them."
)
SEQUENTIAL = marked(
    "Every block starts a fresh process of each arm, one after another, in an order that changes from "
    "block to block. They "
    "were not resident together, so noise of the machine cancels less than with alternating windows."
)
METHOD = marked(
    "A window ends when all enqueued work is done. A block gives one number, the median of its paired log-ratios; the "
    "verdict is a t interval over blocks, held against the margin declared before the run. Warm-up lasts until a "
    "change-point search calls the {time} steady. All {steps} are kept, outliers too. GFLOP/s are the "
    "analytic cost of "
    "the network, the same count for every arm, over measured time."
)
LOOKS = marked(
    "The run was to look {when} and to end at the first look that decides every comparison. Each look has a level of "
    "its own, which stands beside the interval: all together err no more often than one look at 95 %. A run that ends "
    "before a look, because its time is over, is judged there and then, at what earlier looks have left."
)
ORIGIN = marked(
    "The report is built from the run's journal alone and adds no measurement: verdicts stand as recorded."
)


def section(seen: RunView, stated: Iterable[str], timed: Iterable[str] | None, limits: Iterable[str]) -> Section:
    """The command, the method in brief, and the limits.

    Args:
        seen: the run.
        stated: how the parts without times came to their statements.
        timed: how its timed parts measured, beside what they share; None where it was to time nothing.
        limits: what it says nothing about.
    """
    started = seen.run.started
    blocks: list[Block] = []
    if started:
        again = shlex.join(["python", "-m", "reports", "build", f"{notes.out(seen)}/{seen.run.path.name}"])
        blocks += [
            Code(shlex.join(started.command), tell("The command of this run")),
            Code(again, tell("This report again, from its journal")),
        ]
    else:
        blocks.append(Prose(tell("Command: n/a, the journal's first line cannot be read.")))
    blocks += map(Prose, stated)
    if timed is not None:
        order = SEQUENTIAL if seen.bench("schedule") == "sequential" else RESIDENT
        shared = tell(METHOD, time=tell(seen.unit.time), steps=tell(seen.unit.steps))
        blocks += map(Prose, [sentences(tell(order), shared), *looks(seen), *timed])
    blocks.append(Prose(tell(ORIGIN)))
    if told := sentences(*limits):
        blocks.append(Prose(sentences(tell("Limits."), told)))
    return Section("reproduce", tell("How to reproduce, method, limits"), tuple(blocks))


def looks(seen: RunView) -> Iterable[str]:
    """What planned looks are, where the run or a part of it declared several."""
    by_part = seen.declared("by_part")
    declared = by_part if isinstance(by_part, dict) else {"": {"looks": seen.declared("looks")}}
    told = []
    for part, one in declared.items():
        match nested(one, ("looks",)):
            case [*earlier, int(last)] if earlier and all(isinstance(look, int) for look in earlier):
                blocks = tell("{counts} blocks", counts=listed([str(look) for look in (*earlier, last)]))
                told.append(tell("after {blocks} ({part})", blocks=blocks, part=tell(part)) if part
                            else tell("after {blocks}", blocks=blocks))
    if told:
        yield tell(LOOKS, when=commas(told))
