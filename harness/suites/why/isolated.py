"""From operators that were timed alone to shares of the gap by class, and to whether they add up to a step: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from harness.plan import Comparison
from harness.record.events import ArmSlot, IsolatedOperator, PartName, Share
from harness.record.run import RecordedRun
from harness.stats.interval import Interval
from harness.stats.share import SHARE_MARGIN, gap_of, ratio_apart, word_of
from harness.suites.why.shares import ALIKE, ALL, ROUGH, TWO_BLOCKS, Steps, cuts, whole_steps
from impls.recipe.isolated import COPY
from messages import marked, recorded

METHOD = "isolated"
CLASSES = ("attention", "norm", "convolution", "linear", "other")
# How far the operators of an arm may be from its forward and backward pass.
MOST_LEFT_OVER = 0.1
NETWORK = ("forward", "backward")
QUIETER = marked("a quieter machine would narrow it")
# Why an arm has no time of an operator that it runs as a piece of another, which takes it nothing beside.
LACKING = marked("it has no such operator of its own")
MEND = marked("mend what that arm cannot run alone, or read the other classes")


def shares(run: RecordedRun, pair: Comparison, part: PartName, refused: str | None = None) -> list[Share]:
    """A share for every class of operators, then that of all together; one line with the reason where there is none.

    Args:
        run: what the part recorded.
        pair: whose gap it is.
        part: the part's name.
        refused: why the two must not be compared; None where they may.
    """
    names = {slot: run.arms.get(slot, slot) for slot in (pair.a, pair.b)}
    alone = [line for line in run.of(IsolatedOperator) if line.part == part]
    found = _Found(part, pair, names, {slot: [line for line in alone if line.arm == slot] for slot in names},
                   whole_steps(run, pair),
                   {slot: [sum(cut.phase_ns.get(name, 0.0) for name in NETWORK) for cut in cuts(run, slot).values()]
                    for slot in names})
    fault = found.fault(refused)
    return [fault] if fault is not None else [*(found.share(cause) for cause in found.causes), found.together()]


def by_class(lines: list[IsolatedOperator]) -> dict[str, list[float]]:
    """Nanoseconds of each class in a step, round by round, in the order of `CLASSES`."""
    timed = [line for line in lines if line.round_ns and line.operator_class != COPY]
    return {kind: [sum(ns) for ns in zip(*([line.count * ns for ns in line.round_ns] for line in timed
                                           if line.operator_class == kind), strict=True)]
            for kind in CLASSES if any(line.operator_class == kind for line in timed)}


@dataclass(frozen=True)
class _Found:
    """The gap of one pair, and what its operators took alone."""

    part: PartName
    pair: Comparison
    names: Mapping[ArmSlot, str]
    lines: Mapping[ArmSlot, list[IsolatedOperator]]
    steps: Steps
    network_ns: Mapping[ArmSlot, list[float]]

    @property
    def times(self) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
        """By class, of A and of B."""
        return by_class(self.lines[self.pair.a]), by_class(self.lines[self.pair.b])

    @property
    def causes(self) -> list[str]:
        """Classes that either arm has."""
        a, b = self.times
        return [kind for kind in CLASSES if kind in a or kind in b]

    @property
    def rounds(self) -> int:
        """That both arms have."""
        a, b = self.times
        return min((len(ns) for of in (a, b) for ns in of.values()), default=0)

    def fault(self, refused: str | None) -> Share | None:
        """Why there is nothing to share out; None where there is."""
        without = [self.names[slot] for slot in (self.pair.a, self.pair.b)
                   if not any(line.round_ns for line in self.lines[slot] if line.operator_class != COPY)]
        if refused is not None:
            return self._line(ALL, "not-measured", None, refused, ALIKE)
        if without:
            why = (recorded("{arm} cannot run an operator alone", arm=without[0]) if len(without) == 1 else
                   recorded("{a} and {b} cannot run an operator alone", a=without[0], b=without[1]))
            return self._line(ALL, "not-measured", None, why,
                              recorded("a backend that offers operator is explained, too"))
        if len(self.steps.blocks) < 2 or self.rounds < 2:
            return self._line(ALL, "not-measured", None, recorded("fewer than two blocks, or rounds, of both arms"),
                              TWO_BLOCKS)
        gap = gap_of(self.steps.a_ns, self.steps.b_ns)
        return None if gap.fault is None else self._line(ALL, gap.word, None, gap.fault, recorded(
            "more blocks, or a quieter machine would narrow it"))

    def share(self, cause: str) -> Share:
        """What one class holds."""
        if self._failed(cause):
            return self._line(cause, "not-measured", None, self._lacking(cause), MEND)
        found = ratio_apart(self._differences([cause]), self.steps.gaps_ns)
        word = word_of(found)
        wide = recorded("its interval over {rounds} rounds crosses {margin} of the gap", rounds=self.rounds,
                        margin=f"{SHARE_MARGIN:.0%}") if word == "inconclusive" else ""
        reasons = [text for text in (wide, self._lacking(cause)) if text]
        return self._line(cause, word, found, "; ".join(reasons) or None,
                          QUIETER if word == "inconclusive" else None)

    def together(self) -> Share:
        """What all operators hold of the gap, and whether they add up to the forward and the backward pass."""
        failed = [self._lacking(cause) for cause in self.causes if self._failed(cause)]
        if failed:
            return self._line(ALL, "not-measured", None, "; ".join(failed), MEND)
        found = ratio_apart(self._differences(self.causes), self.steps.gaps_ns)
        sums = {slot: self._sum(slot) for slot in (self.pair.a, self.pair.b)}
        if not all(len(self.network_ns[slot]) > 1 and all(self.network_ns[slot]) for slot in sums):
            return self._line(ALL, "inconclusive", found,
                              recorded("a forward and a backward pass to add up to were not cut"),
                              recorded("a backend that offers step_in_phases tells them"))
        parts = {slot: ratio_apart(ns, self.network_ns[slot]) for slot, ns in sums.items()}
        limits = [f"{one.mean:.0%} [{one.low:.0%}, {one.high:.0%}]" for one in parts.values()]
        told = recorded("alone, the operators take {share_a} of forward and backward pass of {a} and {share_b} of "
                        "forward and backward pass of {b}", share_a=limits[0], a=self.names[self.pair.a],
                        share_b=limits[1], b=self.names[self.pair.b])
        if all(abs(end - 1) <= MOST_LEFT_OVER for one in parts.values() for end in (one.low, one.high)):
            return self._line(ALL, "adds-up", found, told)
        outside = any(one.low > 1 + MOST_LEFT_OVER or one.high < 1 - MOST_LEFT_OVER for one in parts.values())
        return self._line(ALL, "does-not-add-up" if outside else "inconclusive", found,
                          recorded("{told}; least sure is {operators}", told=told, operators=self._unsure()),
                          ROUGH if outside else QUIETER)

    def _unsure(self) -> str:
        """The class whose difference has the widest interval."""
        def width(cause: str) -> float:
            found = ratio_apart(self._differences([cause]), self.steps.gaps_ns)
            return found.high - found.low

        return max(self.causes, key=width)

    def _failed(self, cause: str, slots: Sequence[ArmSlot] | None = None) -> bool:
        """Whether an arm has an operator of a class that it could not run alone: no time is not a time of 0."""
        return any(line.operator_class == cause and not line.round_ns and line.reason != LACKING
                   for slot in slots or (self.pair.a, self.pair.b) for line in self.lines[slot])

    def _lacking(self, cause: str) -> str:
        """Operators of a class that one arm has not, in words."""
        told = []
        for slot in (self.pair.a, self.pair.b):
            kinds = {line.kind: line.reason for line in self.lines[slot]
                     if line.operator_class == cause and not line.round_ns and line.reason}
            told += [recorded("{arm} without {kind}: {reason}", arm=self.names[slot], kind=kind, reason=reason)
                     for kind, reason in kinds.items()]
        return "; ".join(told)

    def _sum(self, slot: ArmSlot) -> list[float]:
        """All classes of an arm, round by round."""
        return [sum(ns) for ns in zip(*by_class(self.lines[slot]).values(), strict=False)]

    def _differences(self, causes: list[str]) -> list[float]:
        """Time A - time B of these classes together, round by round; one that an arm has not takes it no time."""
        a, b = ([sum(of[cause][number] for cause in causes if cause in of) for number in range(self.rounds)]
                for of in self.times)
        return [one - other for one, other in zip(a, b, strict=True)]

    def _line(self, cause: str, word: str, found: Interval | None, reason: str | None = None,
              next_action: str | None = None) -> Share:
        def spent(slot: ArmSlot) -> float | None:
            classes = by_class(self.lines[slot])
            if cause == ALL:
                return mean(self._sum(slot)) if classes else None
            return mean(classes[cause]) if cause in classes and not self._failed(cause, [slot]) else None

        return Share.model_validate({
            "part": self.part, "arm_a": self.pair.a, "arm_b": self.pair.b, "method": METHOD, "cause": cause,
            "a_ns": spent(self.pair.a), "b_ns": spent(self.pair.b), "share": found and found.mean,
            "ci_low": found and found.low, "ci_high": found and found.high, "blocks": self.rounds, "word": word,
            "reason": reason, "next_action": next_action})
