"""What a step on a share of the batch costs: a part that stays, and one that is divided (Amdahl 1967)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A step of one rank.

    Attributes:
        fixed_ns: what it takes however small the rank's share of the batch is.
        divided_ns: what the whole batch takes beside that.
    """

    fixed_ns: float
    divided_ns: float

    def step_ns(self, ranks: int = 1) -> float:
        """On the share that each of so many ranks has."""
        return self.fixed_ns + self.divided_ns / ranks


def split(whole_ns: float, share_ns: float, ranks: int) -> Work:
    """The parts of a step that takes so long on the whole batch, and so long on the share of each of `ranks`."""
    divided_ns = (whole_ns - share_ns) / (1 - 1 / ranks)
    # Noise may leave less than nothing for either.
    divided_ns = min(max(0.0, divided_ns), whole_ns)
    return Work(whole_ns - divided_ns, divided_ns)
