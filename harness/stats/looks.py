"""Planned looks: after how many blocks a run may end because its verdicts are sure, and what each look may spend.

Who looks several times finds a difference by chance more often. So alpha is divided up before the run: the share that
may be spent by a number of blocks grows with it (Lan & DeMets 1983), and each look judges at what it adds. However the
looks hang together, their chances to err cannot add up to more than alpha (Bonferroni), for any number of comparisons
under Holm and however few blocks a t interval has. Exact boundaries for correlated looks would win little and hold for
many blocks alone. Little is spent early: a difference that three blocks show clearly is clear at any level.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from harness.stats.interval import ALPHA

# Blocks, and the share of alpha that may be spent by then; the last look spends what is left.
SPENT = {3: 0.03, 5: 0.06, 8: 0.10}
PLANNED = (3, 5, 8, 12)


@dataclass(frozen=True)
class Looks:
    """The looks of one part of a run; none where it is judged once, at its end.

    Attributes:
        blocks: how many each has, ascending; the last is the most that are measured.
        alpha: what all of them together may spend.
    """

    blocks: tuple[int, ...] = ()
    alpha: float = ALPHA

    @classmethod
    def read(cls, declared: object) -> Looks:
        """As a journal declares them; one look at the end where it tells of no others."""
        if not isinstance(declared, list) or not all(isinstance(one, int) for one in declared):
            return cls()
        return cls(tuple(declared)) if all(a < b for a, b in pairwise([1, *declared])) else cls()

    def number(self, blocks: int) -> int | None:
        """Which look, from 1, so many blocks are, or are on the way to; None where there is one alone."""
        if not self.blocks:
            return None
        return min(sum(one < blocks for one in self.blocks) + 1, len(self.blocks))

    def reached(self, blocks: int) -> bool:
        """Whether a look is planned at so many blocks, or they are more than the last one's."""
        return blocks in self.blocks or blocks > max(self.blocks, default=0)

    def early(self, blocks: int) -> float | None:
        """What a look at so many blocks spends if it may be the last one; None where no such look is planned."""
        return (self._by(blocks) - self._before(blocks) or None) if blocks in self.blocks[:-1] else None

    def left(self, blocks: int) -> float:
        """What a run that ends with so many blocks has not spent before."""
        return self.alpha - self._before(blocks)

    def levels(self) -> list[float]:
        """What each look spends."""
        return [*(self.early(one) or 0.0 for one in self.blocks[:-1]), *(self.left(one) for one in self.blocks[-1:])]

    def _before(self, blocks: int) -> float:
        earlier = [one for one in self.blocks[:-1] if one < blocks]
        return self._by(earlier[-1]) if earlier else 0.0

    def _by(self, blocks: int) -> float:
        return self.alpha * max((share for least, share in SPENT.items() if least <= blocks), default=0.0)
