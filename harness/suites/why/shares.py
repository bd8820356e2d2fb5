"""From recorded phases to shares of the gap: pure, as verdicts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from harness.plan import Comparison
from harness.record.events import ArmSlot, BlockState, Case, PartName, Phases, Share, Whole, Window
from harness.record.run import RecordedRun
from harness.stats.interval import Interval
from harness.stats.share import SHARE_MARGIN, gap_of, midmean, share_of, word_of
from messages import marked, recorded

# The sum of all phases; how far it may be from the whole gap.
ALL = "all"
MOST_LEFT_OVER = 0.03
# What to do next, in several methods.
ALIKE = marked("make both arms alike in this first")
TWO_BLOCKS = marked("run at least two blocks")
SEE_FAILED = marked("see the failed cases and their logs")
NARROWER = marked("more blocks, or a quieter machine, would narrow it")
ROUGH = marked("read the shares as rough")


class Cut(NamedTuple):
    """What one block says of an arm's step, in nanoseconds.

    Attributes:
        whole_ns: a whole step.
        phase_ns: each of its phases.
    """

    whole_ns: float
    phase_ns: Mapping[str, float]


class Steps(NamedTuple):
    """Whole steps of two arms, in every block that both finished.

    Attributes:
        blocks: their numbers.
        a_ns: nanoseconds of a step of arm A, in each.
        b_ns: the same of arm B.
    """

    blocks: list[int]
    a_ns: list[float]
    b_ns: list[float]

    @property
    def gaps_ns(self) -> list[float]:
        """Time A - time B."""
        return [a - b for a, b in zip(self.a_ns, self.b_ns, strict=True)]


def shares(run: RecordedRun, pair: Comparison, part: PartName, refused: str | None = None,
           of: Whole = "step") -> list[Share]:
    """A share for every phase, then that of all together; one line with the reason where there is nothing to share.

    Args:
        run: what the part recorded.
        pair: whose gap it is.
        part: the part's name.
        refused: why the two must not be compared; None where they may.
        of: whether steps were cut, or network calls.
    """
    of_a, of_b = cuts(run, pair.a, of), cuts(run, pair.b, of)
    blocks = sorted(of_a.keys() & of_b.keys())
    names = tuple(run.arms.get(slot, slot) for slot in (pair.a, pair.b))
    gap = _Gap(part, pair, names, of, [of_a[block] for block in blocks], [of_b[block] for block in blocks])
    fault = gap.fault(refused)
    if fault is not None:
        return [fault]
    return [*(gap.share(cause) for cause in gap.causes), gap.together()]


def whole_steps(run: RecordedRun, pair: Comparison) -> Steps:
    """What every share of a step's gap is a share of, by whatever method."""
    of_a, of_b = cuts(run, pair.a), cuts(run, pair.b)
    blocks = sorted(of_a.keys() & of_b.keys())
    return Steps(blocks, [of_a[block].whole_ns for block in blocks], [of_b[block].whole_ns for block in blocks])


def even(run: RecordedRun, pair: Comparison) -> bool:
    """Whether blocks say that neither arm is slower, or do not say which."""
    steps = whole_steps(run, pair)
    return len(steps.blocks) >= 2 and not gap_of(steps.a_ns, steps.b_ns).clear


def steady(run: RecordedRun, pair: Comparison) -> bool:
    """Whether blocks know a gap well enough to divide it up, or know that there is none."""
    steps = whole_steps(run, pair)
    if len(steps.blocks) < 2:
        return True
    gap = gap_of(steps.a_ns, steps.b_ns)
    return gap.fault is None or not gap.clear


def cuts(run: RecordedRun, slot: ArmSlot, of: Whole = "step") -> dict[int, Cut]:
    """What every finished block says of an arm's steps, or every round of its network calls."""
    told = [line for line in run.of(Phases) if line.arm == slot and line.of == of]
    # Whole steps of the measured windows are as good as those beside the cut ones, and more know the gap better.
    whole: dict[int, list[int]] = {}
    for window in run.of(Window):
        if of == "step" and window.arm == slot and window.kind == "stepwise":
            whole.setdefault(window.block, []).extend(window.step_ns)
    measured = {case.block for case in run.of(Case) if case.status == "measured" and case.arm == slot}
    blocks = [state.block for state in run.of(BlockState) if state.block in measured]
    units = blocks if of == "step" else [line.pair for line in told if line.block in blocks]
    found: dict[int, Cut] = {}
    for unit in units:
        lines = [line for line in told if unit == (line.block if of == "step" else line.pair)]
        if lines:
            phases = dict.fromkeys(name for line in lines for name in line.phase_ns)
            found[unit] = Cut(midmean([*(ns for line in lines for ns in line.whole_ns), *whole.get(unit, ())]),
                              {name: midmean([ns for line in lines for ns in line.phase_ns.get(name, ())])
                               for name in phases})
    return found


def crossing() -> str:
    """Why a share is not decided."""
    return recorded("its interval crosses {margin} of the gap", margin=f"{SHARE_MARGIN:.0%}")


@dataclass(frozen=True)
class _Gap:
    """The gap of one pair, with the blocks that tell of it."""

    part: PartName
    pair: Comparison
    names: tuple[str, ...]
    of: Whole
    a: Sequence[Cut]
    b: Sequence[Cut]

    @property
    def causes(self) -> tuple[str, ...]:
        """Phases that both arms have, in order."""
        return tuple(self.a[0].phase_ns) if all(tuple(cut.phase_ns) == tuple(self.a[0].phase_ns)
                                                for cut in (*self.a, *self.b)) else ()

    @property
    def whole_ns(self) -> list[float]:
        """The gap in each block."""
        return [one.whole_ns - other.whole_ns for one, other in zip(self.a, self.b, strict=True)]

    def fault(self, refused: str | None) -> Share | None:
        """Why there is nothing to share out; None where there is."""
        if refused is not None:
            return self._line(ALL, "not-measured", None, refused, ALIKE)
        if len(self.a) < 2:
            why = (recorded("fewer than two blocks in which both arms were cut") if self.of == "step" else
                   recorded("fewer than two rounds in which both arms were cut"))
            return self._line(ALL, "not-measured", None, why, TWO_BLOCKS if self.of == "step" else SEE_FAILED)
        if not self.causes:
            without = [name for name, cuts_ in zip(self.names, (self.a, self.b), strict=True)
                       if not all(cut.phase_ns for cut in cuts_)]
            why = (recorded("{a} and {b} cannot be cut", a=without[0], b=without[1]) if len(without) > 1 else
                   recorded("{arm} cannot be cut", arm=without[0]) if without else
                   recorded("the two arms have other phases"))
            return self._line(ALL, "not-measured", None, why,
                              recorded("a backend that offers step_in_phases is explained, too"))
        gap = gap_of([cut.whole_ns for cut in self.a], [cut.whole_ns for cut in self.b])
        return None if gap.fault is None else self._line(ALL, gap.word, None, gap.fault, NARROWER)

    def share(self, cause: str) -> Share:
        """What one phase holds."""
        found = share_of(self._differences(cause), self.whole_ns)
        word = word_of(found)
        open_ = word == "inconclusive"
        return self._line(cause, word, found, crossing() if open_ else None, NARROWER if open_ else None)

    def together(self) -> Share:
        """What all phases hold: the whole gap, unless cutting changes a step."""
        sums = [sum(column) for column in zip(*map(self._differences, self.causes), strict=True)]
        found, bound = share_of(sums, self.whole_ns), MOST_LEFT_OVER
        if abs(found.low - 1) <= bound and abs(found.high - 1) <= bound:
            return self._line(ALL, "adds-up", found)
        outside = found.low > 1 + bound or found.high < 1 - bound
        return self._line(
            ALL, "does-not-add-up" if outside else "inconclusive", found,
            self._cutting(found.mean) if outside else
            recorded("the interval of all phases together is wider than {low} to {high} of the gap",
                     low=f"{1 - bound:.0%}", high=f"{1 + bound:.0%}"),
            ROUGH if outside else NARROWER)

    def _cutting(self, share: float) -> str:
        """What the phases hold, and what cutting costs each arm, in words."""
        costs = [mean(sum(cut.phase_ns.values()) / cut.whole_ns - 1 for cut in cuts_) for cuts_ in (self.a, self.b)]
        return recorded("the phases hold {share} of the gap: cutting changes a step of {a} by {cost_a} and of {b} by "
                        "{cost_b}", share=f"{share:.0%}", a=self.names[0], cost_a=f"{costs[0]:+.1%}", b=self.names[1],
                        cost_b=f"{costs[1]:+.1%}")

    def _differences(self, cause: str) -> list[float]:
        return [one.phase_ns[cause] - other.phase_ns[cause] for one, other in zip(self.a, self.b, strict=True)]

    def _line(self, cause: str, word: str, found: Interval | None, reason: str | None = None,
              next_action: str | None = None) -> Share:
        def spent(cuts_: Sequence[Cut]) -> float | None:
            return mean(cut.whole_ns if cause == ALL else cut.phase_ns[cause] for cut in cuts_) if cuts_ else None

        return Share.model_validate({
            "part": self.part, "arm_a": self.pair.a, "arm_b": self.pair.b, "method": "cuts", "of": self.of,
            "cause": cause,
            "a_ns": spent(self.a), "b_ns": spent(self.b), "share": found and found.mean,
            "ci_low": found and found.low, "ci_high": found and found.high, "blocks": len(self.a), "word": word,
            "reason": reason, "next_action": next_action})

