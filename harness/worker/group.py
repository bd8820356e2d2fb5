"""What only one of several ranks does: gradients averaged or not, sums over all ranks, and hashes of what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from harness.collector import without_collector
from harness.protocol.group import Average, Digests, Reduce, ReduceTimes
from harness.protocol.life import Done
from harness.worker.loops import Clock
from impls.backend import Arrays, Group, Trainer

# Untimed: they compile, connect, and bring the ranks together.
FIRST_ROUNDS = 3


def average(group: Group, command: Average) -> Done:
    """Average gradients, or not."""
    group.average(command.on)
    return Done()


def reduce(group: Group, command: Reduce, clock: Clock) -> ReduceTimes:
    """Sums over all ranks, one after another."""
    work = group.all_reducer(command.floats)
    for _ in range(FIRST_ROUNDS):
        work()
    times = []
    with without_collector():
        for _ in range(command.rounds):
            start = clock()
            work()
            times.append(clock() - start)
    return ReduceTimes(round_ns=times)


def digests(trainer: Trainer) -> Digests:
    """Hashes of everything that ranks must have alike."""
    state = trainer.state()
    held: Mapping[str, Arrays | None] = {"params": state.params, "ema": state.ema, "exp_avg": state.exp_avg,
                                         "exp_avg_sq": state.exp_avg_sq}
    return Digests(sha256={what: _digest(arrays) for what, arrays in held.items() if arrays is not None})


def _digest(arrays: Arrays) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()
