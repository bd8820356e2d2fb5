"""One arm inside a block: its worker, its warm-up, and how long its steps take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from harness.bench import COMMAND_LIMIT_S
from harness.processes.session import Session
from harness.protocol import life
from harness.record.events import ArmSlot


@dataclass
class Started:
    """One arm inside the block.

    Attributes:
        session: its worker.
        built: parameters and proof of what runs.
        created: import time and compile cache.
        start_ns: start of every warm-up step, the first step included.
        step_ns: their durations.
        typical_ns: median of the steady warm-up steps.
        compiled_files: files in its compile cache after the warm-up.
    """

    session: Session
    created: life.Created
    built: life.Built
    start_ns: list[int] = field(default_factory=list)
    step_ns: list[int] = field(default_factory=list)
    typical_ns: float = 0.0
    compiled_files: int | None = None

    def steps_for(self, seconds: float) -> int:
        """Steps that fill `seconds`, at least one."""
        return max(1, math.ceil(seconds * 1e9 / self.typical_ns))

    def limit_s(self, steps: int) -> float:
        """How long so many steps may take before the worker counts as hung."""
        return COMMAND_LIMIT_S + 50 * steps * self.typical_ns / 1e9


def cache_word(before: int | None, after: int | None) -> Literal["cold", "warm", "partial"] | None:
    """What the compile cache was to this start: its number of files before the import and after the warm-up."""
    if before is None or after is None:
        return None
    if before == 0:
        return "cold"
    return "warm" if after == before else "partial"


def differences(before: dict[ArmSlot, int | None], after: dict[ArmSlot, int | None]) -> dict[ArmSlot, int]:
    """CPU time used between two readings, for the processes that could be read both times."""
    pairs: Iterable[tuple[ArmSlot, int | None, int | None]] = ((slot, before[slot], after[slot]) for slot in before)
    return {slot: max(0, end - start) for slot, start, end in pairs if start is not None and end is not None}
