"""What a sum over ranks costs, held against its formula and against a ring that is simulated message by message."""

from __future__ import annotations

import heapq
import math

import pytest

from harness.stats.collective import Network, bus_bytes_per_ns, fitted

NETWORK = Network(latency_ns=5_000.0, bytes_per_ns=2.5)


def simulated_ring_ns(ranks: int, message_bytes: float, network: Network) -> float:
    """Every rank hands on a piece as soon as it has it and its last one has left: events in the order of their time.

    A message of the ring algorithm (Patarasuk & Yuan 2009): N - 1 rounds that add up, N - 1 that hand on; a round of a
    rank begins when it has the piece of the round before, from its left neighbour, and has sent its own.
    """
    piece_ns = network.latency_ns + message_bytes / ranks / network.bytes_per_ns
    rounds = 2 * (ranks - 1)
    free = [0.0] * ranks
    has = [[0.0 if not number else math.inf for number in range(rounds + 1)] for _ in range(ranks)]
    events = [(0.0, rank, 0) for rank in range(ranks)]
    heapq.heapify(events)
    while events:
        now, rank, number = heapq.heappop(events)
        if number == rounds:
            continue
        begins = max(now, free[rank])
        free[rank] = begins + piece_ns
        right = (rank + 1) % ranks
        has[right][number + 1] = free[rank]
        heapq.heappush(events, (max(has[right][number + 1], free[right]), right, number + 1))
    return max(times[-1] for times in has)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64, 1000])
@pytest.mark.parametrize("message", [4.0, 1e4, 1.4e8])
def test_a_ring_takes_what_its_simulation_takes(ranks, message):
    assert NETWORK.ring_ns(ranks, message) == pytest.approx(simulated_ring_ns(ranks, message, NETWORK))
    assert NETWORK.ring_ns(ranks, message) == pytest.approx(2 * (ranks - 1) * (5_000 + message / (ranks * 2.5)))


def test_a_tree_is_cheaper_for_many_ranks_and_a_ring_for_long_messages():
    assert NETWORK.tree_ns(1024, 8) == pytest.approx(2 * 10 * 5_000 + 2 * 8 / 2.5)
    assert NETWORK.sum_ns(8192, 8) == NETWORK.tree_ns(8192, 8) < NETWORK.ring_ns(8192, 8)
    assert NETWORK.sum_ns(3, 1e9) == NETWORK.ring_ns(3, 1e9) < NETWORK.tree_ns(3, 1e9)
    assert NETWORK.sum_ns(1, 1e9) == 0.0


@pytest.mark.parametrize("ranks", [2, 8])
def test_two_messages_give_the_two_constants_back(ranks):
    short, long = ((size, NETWORK.ring_ns(ranks, size)) for size in (1024.0, 1.4e8))
    found = fitted(ranks, short, long)
    assert found is not None
    assert (found.latency_ns, found.bytes_per_ns) == (pytest.approx(5_000), pytest.approx(2.5))


def test_what_noise_leaves_is_no_negative_latency_and_no_endless_bandwidth():
    assert fitted(2, (1000.0, 10.0), (1e6, 100_000.0)).latency_ns == 0
    assert fitted(2, (1000.0, 100.0), (1e6, 100.0)) is None


def test_bus_bandwidth_does_not_depend_on_the_number_of_ranks():
    endless = Network(0.0, 2.5)
    for ranks in (2, 4, 64):
        assert bus_bytes_per_ns(ranks, 1e8, endless.ring_ns(ranks, 1e8)) == pytest.approx(2.5)
