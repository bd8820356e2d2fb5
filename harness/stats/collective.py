"""What a sum over all ranks costs: two constants, a ring and a tree (Thakur, Rabenseifner & Gropp 2005, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """What joins the ranks.

    Attributes:
        latency_ns: what a message takes however short it is.
        bytes_per_ns: how fast a long one goes from one rank to the next; GB/s.
    """

    latency_ns: float
    bytes_per_ns: float

    def ring_ns(self, ranks: int, message_bytes: float) -> float:
        """2 (N - 1) (a + V / (N B)): N - 1 rounds that add up a piece of the message, and as many that hand it on."""
        return 2 * (ranks - 1) * (self.latency_ns + message_bytes / (ranks * self.bytes_per_ns))

    def tree_ns(self, ranks: int, message_bytes: float) -> float:
        """2 log2(N) a + 2 V / B: the whole message to the root and back, in pieces, so that it flows."""
        if ranks == 1:
            return 0.0
        return 2 * math.log2(ranks) * self.latency_ns + 2 * message_bytes / self.bytes_per_ns

    def sum_ns(self, ranks: int, message_bytes: float) -> float:
        """The cheaper of both, as libraries choose."""
        return min(self.ring_ns(ranks, message_bytes), self.tree_ns(ranks, message_bytes))


def fitted(ranks: int, short: tuple[float, float], long: tuple[float, float]) -> Network | None:
    """The network on which a ring of so many ranks takes what was measured.

    Args:
        ranks: at least two.
        short: bytes of a short message, and nanoseconds of its sum over all ranks.
        long: of a long one.

    Returns:
        None where the long one took no longer, so that nothing tells how fast bytes go.
    """
    rounds = 2 * (ranks - 1)
    per_byte_ns = (long[1] - short[1]) / rounds / (long[0] - short[0])
    if per_byte_ns <= 0:
        return None
    # Noise may leave less than nothing for the latency.
    return Network(max(0.0, short[1] / rounds - per_byte_ns * short[0]), 1 / (ranks * per_byte_ns))


def bus_bytes_per_ns(ranks: int, message_bytes: float, time_ns: float) -> float:
    """Bus bandwidth as nccl-tests defines it: V / t * 2 (N - 1) / N, which does not depend on the number of ranks."""
    return message_bytes / time_ns * 2 * (ranks - 1) / ranks
