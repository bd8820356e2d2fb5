"""Logs of two recipes brought onto the same steps, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from harness.stats import curves
from harness.stats.curves import FEWEST_POINTS, Alignment, Ints
from impls.errors import UsageError
from messages import choice, marked, plural, tell
from reports.curves.read import Log, read
from reports.text import Floats, number, percent, semicolons

# The words of windows and of all of them together, for people.
SAID = {
    "same": marked("same"), "differs": marked("differs"),
    "cannot be told": marked("cannot be told"),  # English
    "open": marked("open"),
}  # fmt: skip


@dataclass(frozen=True)
class Aligned:
    """Two recipes on the same steps.

    Attributes:
        a: logs of the first.
        b: logs of the second.
        shift: what was added to the steps of `b`.
        steps: (P,) those that all have, in A's numbers.
        x: (n, P) losses of A.
        y: (m, P) losses of B.
        outcome: the verdict.
    """

    a: tuple[Log, ...]
    b: tuple[Log, ...]
    shift: int
    steps: Ints
    x: Floats
    y: Floats
    outcome: Alignment

    @property
    def seeds(self) -> str:
        """How many runs there are."""
        return tell("{runs} of A and {others} of B", runs=plural(len(self.a), "run"), others=len(self.b))

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        outcome = self.outcome
        if outcome.word == "same":
            return tell("A and B train the same within {margin} at every stage", margin=percent(outcome.margin))
        if outcome.word == "differs":
            return tell("A and B differ from step {step}", step=outcome.from_step)
        return tell("It cannot be told whether A and B train the same")

    @property
    def advice(self) -> str | None:
        """What to do where nothing can be told."""
        if self.outcome.word != "cannot be told":  # English
            return None
        if self.outcome.seeds is None:
            return tell("over 1000 seeds of each would be needed, or the curves are not finite: run both from the same "
                        "weights on the same batches")
        return choice(self.outcome.seeds, "{n} seed of each recipe would tell, if all else stays as it is",
                      "{n} seeds of each recipe would tell, if all else stays as it is")


def aligned(a: Sequence[Path], b: Sequence[Path], margin: float, column: str | None = None,
            pattern: str | None = None) -> Aligned:
    """Read and judge.

    Args:
        a: logs of the first recipe, a run each.
        b: logs of the second.
        margin: relative difference that counts as the same.
        column: name of the loss.
        pattern: for text logs.

    Raises:
        UsageError: a log cannot be read, or they have too few steps in common.
    """
    first, second = ([read(path, column, pattern) for path in paths] for paths in (a, b))
    for logs in (first, second):
        for one, other in combinations(logs, 2):
            if np.array_equal(one.curve.steps, other.curve.steps) and np.array_equal(
                    one.curve.losses, other.curve.losses, equal_nan=True):
                raise UsageError(tell(
                    "{other}: the same curve as {one}: no chance is seen in a run that counts twice: leave one of them "
                    "out, or run another seed", other=other.name, one=one.name))
    left, right = [log.curve for log in first], [log.curve for log in second]
    shift = curves.offset(left, right)
    steps, x, y = curves.together(left, right, shift)
    if steps.size < FEWEST_POINTS:
        spans = semicolons(tell("{log} has {steps}, {first} to {last}", log=log.name,
                                steps=plural(log.curve.steps.size, "step"), first=log.curve.steps[0],
                                last=log.curve.steps[-1]) for log in (*first, *second))
        raise UsageError(tell("only {steps} in common, at least {least} are needed: {spans}: log both at the same "
                              "steps", steps=plural(int(steps.size), "step"), least=FEWEST_POINTS, spans=spans))
    if not np.isfinite(x).any() or not np.isfinite(y).any():
        raise UsageError(tell("one of them has no finite loss at all: there is nothing to compare"))
    return Aligned(tuple(first), tuple(second), shift, steps, x, y, curves.align(steps, x, y, margin))


def lines(found: Aligned) -> list[str]:
    """The verdict for a terminal."""
    outcome = found.outcome
    word = (tell("differs from step {step}", step=outcome.from_step) if outcome.word == "differs"
            else tell(SAID[outcome.word]))
    told = [tell("{word}: {sentence} ({seeds}, {steps} in common)", word=word, sentence=found.sentence,
                 seeds=found.seeds, steps=plural(int(found.steps.size), "step"))]
    if found.shift:
        told.append(tell("steps of B are counted {shift}", shift=f"{found.shift:+d}"))
    if outcome.paired:
        told.append(tell("judged pair by pair: the runs share their batches (correlation {correlation})",
                         correlation=number(outcome.shared)))
    told += [tell("{name}: {value}", name=log.name, value=one) for log in (*found.a, *found.b) for one in log.remarks]
    return [*told, *([found.advice] if found.advice else [])]
