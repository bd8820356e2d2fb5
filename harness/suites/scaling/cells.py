"""The cells of suite scaling: how many ranks, and whether the batch grows with them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record.events import ArmSlot, Mode

# Batches of the weak kind grow with the ranks; one rank is the same in both.
MODES: tuple[Mode, ...] = ("strong", "weak")


@dataclass(frozen=True)
class Cell:
    """One of them.

    Attributes:
        mode: strong or weak.
        size: ranks.
    """

    mode: Mode
    size: int

    @property
    def name(self) -> str:
        """As in the journal, e.g. "strong-2"."""
        return f"{self.mode}-{self.size}"

    def images(self, batch_size: int) -> int:
        """Of a step, of all ranks together."""
        return batch_size if self.mode == "strong" else batch_size * self.size


@dataclass(frozen=True)
class Team:
    """So many ranks of one arm, which take turns with others."""

    slot: ArmSlot
    size: int

    def __str__(self) -> str:
        """As in the names of cases, e.g. "A-2"."""
        return f"{self.slot}-{self.size}"


def sizes(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the most."""
    return (*(2**power for power in range(most.bit_length()) if 2**power < most), most)


def nodes_of(size: int, most: int, nodes: int) -> int | None:
    """The fewest hosts that so many ranks divide among, none with more of them than of `most`; None where none fit."""
    fewest = -(-size * nodes // most)
    return next((count for count in range(fewest, nodes + 1) if size % count == 0), None)


def cells(most: int) -> tuple[Cell, ...]:
    """Of several ranks: every size in either mode."""
    return tuple(Cell(mode, size) for mode in MODES for size in sizes(most) if size > 1)
