"""Ranks that are threads of this process, with a group that notices when they speak of different things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from impls.ranks import Ranks

LIMIT_S = 20


class Meeting:
    """Where the threads exchange numbers."""

    def __init__(self, size: int) -> None:
        self.size, self.rows, self.barrier = size, {}, threading.Barrier(size)


class ThreadGroup:
    """See `impls.backend.Group`."""

    def __init__(self, ranks: Ranks, meeting: Meeting) -> None:
        self.ranks, self.meeting, self.closed = ranks, meeting, False

    def total(self, numbers: np.ndarray) -> np.ndarray:
        meeting = self.meeting
        meeting.rows[self.ranks.rank] = np.array(numbers, np.float64)
        meeting.barrier.wait(LIMIT_S)
        rows = list(meeting.rows.values())
        assert len({row.shape for row in rows}) == 1, "ranks speak of different things"
        summed = np.sum(rows, axis=0)
        meeting.barrier.wait(LIMIT_S)
        return summed

    def close(self) -> None:
        self.closed = True


def every_rank(size: int, work: Callable[[ThreadGroup], Any]) -> list[Any]:
    """What `work` returned or raised on every rank; a rank that raises leaves the others to themselves."""
    meeting, results = Meeting(size), [None] * size

    def one(rank: int) -> None:
        try:
            results[rank] = work(ThreadGroup(Ranks(rank, size, rank, size, "torchrun", "test"), meeting))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    return results
