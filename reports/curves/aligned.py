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
from messages import plural
from reports.curves.read import Log, read
from reports.text import Floats, number, percent


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
        return f"{plural(len(self.a), 'run')} of A and {len(self.b)} of B"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        outcome = self.outcome
        if outcome.word == "same":
            return f"A and B train the same within {percent(outcome.margin)} at every stage"
        if outcome.word == "differs":
            return f"A and B differ from step {outcome.from_step}"
        return "It cannot be told whether A and B train the same"

    @property
    def advice(self) -> str | None:
        """What to do where nothing can be told."""
        if self.outcome.word != "cannot be told":
            return None
        if self.outcome.seeds is None:
            return ("over 1000 seeds of each would be needed, or the curves are not finite: run both from the same "
                    "weights on the same batches")
        return f"{plural(self.outcome.seeds, 'seed')} of each recipe would tell, if all else stays as it is"


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
                raise UsageError(f"{other.name}: the same curve as {one.name}: no chance is seen in a run that counts "
                                 "twice: leave one of them out, or run another seed")
    left, right = [log.curve for log in first], [log.curve for log in second]
    shift = curves.offset(left, right)
    steps, x, y = curves.together(left, right, shift)
    if steps.size < FEWEST_POINTS:
        spans = "; ".join(f"{log.name} has {plural(log.curve.steps.size, 'step')}, {log.curve.steps[0]} to "
                          f"{log.curve.steps[-1]}" for log in (*first, *second))
        raise UsageError(f"only {plural(int(steps.size), 'step')} in common, at least {FEWEST_POINTS} are needed: "
                         f"{spans}: log both at the same steps")
    if not np.isfinite(x).any() or not np.isfinite(y).any():
        raise UsageError("one of them has no finite loss at all: there is nothing to compare")
    return Aligned(tuple(first), tuple(second), shift, steps, x, y, curves.align(steps, x, y, margin))


def lines(found: Aligned) -> list[str]:
    """The verdict for a terminal."""
    outcome = found.outcome
    told = [f"{outcome.word}{f' from step {outcome.from_step}' if outcome.word == 'differs' else ''}: {found.sentence} "
            f"({found.seeds}, {plural(int(found.steps.size), 'step')} in common)"]
    if found.shift:
        told.append(f"steps of B are counted {found.shift:+d}")
    if outcome.paired:
        told.append(f"judged pair by pair: the runs share their batches (correlation {number(outcome.shared)})")
    told += [f"{log.name}: {one}" for log in (*found.a, *found.b) for one in log.remarks]
    return [*told, *([found.advice] if found.advice else [])]
