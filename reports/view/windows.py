"""Measured windows as arrays: a long run has a million of them, and a report asks for them dozens of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from harness.record.events import Window
from reports.text import Floats

Integers = npt.NDArray[np.int64]


def spent_ns(window: Window) -> int:
    """Time that counts: of the steps where they were synchronised one by one, else between the window's ends."""
    return sum(window.step_ns) if window.kind == "stepwise" else window.end_ns - window.start_ns


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one arm, in journal order; every array has a value for each of them.

    Attributes:
        lines: the windows themselves.
    """

    lines: Sequence[Window]

    @cached_property
    def start_ns(self) -> Floats:
        """When they began."""
        return np.array([window.start_ns for window in self.lines], dtype=np.float64)

    @cached_property
    def end_ns(self) -> Floats:
        """When they were over."""
        return np.array([window.end_ns for window in self.lines], dtype=np.float64)

    @cached_property
    def spent_ns(self) -> Floats:
        """The time that counts: see `spent_ns`."""
        return np.array([spent_ns(window) for window in self.lines], dtype=np.float64)

    @cached_property
    def steps(self) -> Floats:
        """How many steps they have."""
        return np.array([window.steps for window in self.lines], dtype=np.float64)

    @cached_property
    def block(self) -> Integers:
        """Their blocks."""
        return np.array([window.block for window in self.lines], dtype=np.int64)

    @cached_property
    def pair(self) -> Integers:
        """Their pairs: each number stands once in a block, or in a cell of it."""
        return np.array([window.pair for window in self.lines], dtype=np.int64)

    @cached_property
    def step_ns(self) -> Floats:
        """Durations of the steps that were synchronised one by one, all in a row."""
        return np.fromiter(chain.from_iterable(map(_durations, self.lines)), dtype=np.float64)

    @cached_property
    def timed_steps(self) -> Integers:
        """How many of these each window has."""
        return np.array([len(_durations(window)) for window in self.lines], dtype=np.int64)

    @cached_property
    def cells(self) -> dict[str | None, npt.NDArray[np.bool_]]:
        """Cell -> which windows are of it; of None are those that have no cell."""
        cells = [window.cell for window in self.lines]
        if len(known := dict.fromkeys(cells)) == 1:
            return {cell: np.ones(len(cells), dtype=bool) for cell in known}
        return {cell: np.array([one == cell for one in cells]) for cell in known}

    @property
    def per_step_ns(self) -> Floats:
        """The time that counts, per step; NaN of a window without steps."""
        return np.divide(self.spent_ns, self.steps, out=np.full(len(self.lines), np.nan), where=self.steps > 0)

    @property
    def step_start_ns(self) -> Floats:
        """When each of these began, the next one coming right after it."""
        counts = self.timed_steps
        ends = np.cumsum(self.step_ns)
        # What all windows before a step's own took.
        before = np.repeat(np.concatenate([[0.0], ends])[np.cumsum(counts) - counts], counts)
        starts: Floats = np.repeat(self.start_ns, counts) + (ends - self.step_ns - before)
        return starts


def _durations(window: Window) -> list[int]:
    return window.step_ns if window.kind == "stepwise" else []


def grouped(numbers: Integers, values: Floats) -> dict[int, Floats]:
    """Number -> the values that stand beside it, in their order; numbers ascending."""
    order = np.argsort(numbers, kind="stable")
    found, firsts = np.unique(numbers[order], return_index=True)
    return dict(zip(found.tolist(), np.split(values[order], firsts[1:]), strict=True)) if found.size else {}


def pair_codes(tables: Sequence[Windows]) -> tuple[list[Integers], int]:
    """A number for each window, the same for all of one pair, and what to divide it by for a number of its block."""
    if not tables:
        return [], 1
    # Places in their order, not the numbers themselves: a damaged one may be of any size.
    block, pair = (np.unique(np.concatenate(numbers), return_inverse=True)[1]
                   for numbers in zip(*((table.block, table.pair) for table in tables), strict=True))
    span = int(pair.max(initial=0)) + 1
    return np.split(block * span + pair, np.cumsum([len(table.lines) for table in tables])[:-1]), span


def pairs_in_blocks(tables: Sequence[Windows], cell: str | None) -> set[int]:
    """How many pairs the blocks have, of one cell or, with None, of each; a pair that one arm began counts."""
    some = [table for table in tables if table.lines]
    codes, span = pair_codes(some)
    found: set[int] = set()
    for one in {own for table in some for own in table.cells if cell in (None, own)}:
        ours = [code[table.cells[one]] for code, table in zip(codes, some, strict=True) if one in table.cells]
        found |= set(np.unique(np.unique(np.concatenate(ours)) // span, return_counts=True)[1].tolist())
    return found
