"""Two traces side by side: how far each array is from the reference's, and how far rounding alone would take it; pure.

The reference says itself how far: by its twin in float64, and by the one with weights, inputs and gradients off by
1e-7. Another framework sums in another order, so that several times as much is allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.record.events import Difference
from harness.stats.arrays import error
from harness.suites.align.known import BIASED, momentum
from impls.recipe.precision import Precision
from impls.recipe.trace import SCALES, SIZE, Call, Twin
from impls.store.traces import TraceFolder
from messages import marked, recorded

# Of what the reference's twins are off by.
FACTOR = 16.0
# Of the rounding of an array's largest number, beside that.
FLOOR = 8.0
# Half the distance between 1 and the next number, in float32 and in the coarser formats.
ROUNDING: Mapping[Precision, float] = {"float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# Relative differences that a first step and some losses may have whatever the twin has.
STEP_FLOOR, LOSS_FLOOR = 1e-3, 2e-4
# The same of what an update makes of fed gradients: a clip is one factor for all, of a sum over all of them, which
# frameworks round differently. Weights move by it with SGD alone; the moments hold its square.
MOVED_FLOOR, MOMENT_FLOOR = 1e-4, 1e-3
# Of the share that a dropout drops: it is counted, not computed.
DROPPED = 0.05
RUNNING = "running_var afterwards"  # English
DROPPING = marked("share that is dropped")
NONE = marked("the other arm has none")
TWINS: tuple[Twin, ...] = ("double", "perturbed")


@dataclass(frozen=True)
class Layer:
    """One call of the reference with its differences.

    Attributes:
        call: of the reference.
        other: the same call of the other arm; None where it made none.
        differences: as it runs, then fed.
    """

    call: Call
    other: Call | None
    differences: tuple[Difference, ...]

    def failing(self, *starts: str, fed: bool) -> Difference | None:
        """The first of its differences that is too large, of places that begin so."""
        return next((one for one in self.differences
                     if one.fed == fed and not one.agrees and one.place.startswith(starts)), None)


class Traces:
    """A reference's trace and another arm's.

    Args:
        reference: its folder, with what its twins are off by.
        other: the other arm's.
        formats: the number formats of both.
    """

    def __init__(self, reference: TraceFolder, other: TraceFolder, formats: tuple[Precision, Precision]) -> None:
        self.reference, self.other = reference, other
        self.calls = reference.calls()
        self.others = {(call.name, call.nth): call for call in other.calls()}
        self.twins: dict[str, Any] = {}
        for name in TWINS:
            path = reference.path / f"{name}.json"
            if path.exists():
                self.twins[name] = json.loads(path.read_text(encoding="utf-8"))
        coarser = max(ROUNDING[name] for name in formats)
        self.rounding, self.coarseness = coarser, coarser / ROUNDING[formats[0]]

    def counterpart(self, call: Call) -> Call | None:
        """The other arm's call of the same module."""
        return self.others.get((call.name, call.nth))

    def unmatched(self) -> list[str]:
        """Calls that one arm alone made, in words."""
        known = {(call.name, call.nth) for call in self.calls}
        return ([recorded("{module}: the reference alone", module=title(call))
                 for call in self.calls if self.counterpart(call) is None]
                + [recorded("{module}: the other arm alone", module=title(call))
                   for key, call in self.others.items() if key not in known])

    def layers(self) -> list[Layer]:
        """Every call of the reference, in the order in which they begin."""
        return [Layer(call, other := self.counterpart(call), tuple(self._differences(call, other)))
                for call in self.calls]

    def allowed(self, group: str, name: str, scale: float) -> float:
        """How far an array may be from the reference's."""
        return self.coarseness * FACTOR * self.off(group, name) + FLOOR * self.rounding * scale

    def off(self, group: str, name: str, which: int = 0) -> float:
        """What the reference's twins are off by: the largest difference, or (1) the norm's share."""
        found = [float(told[group][name][which]) for told in self.twins.values() if name in told.get(group, {})]
        return max((one for one in found if math.isfinite(one)), default=0.0)

    def _differences(self, call: Call, other: Call | None) -> Iterator[Difference]:
        if other is None:
            return
        for group in ("run", "out", "back"):
            yield from self._group(f"{group} {call.number}", f"{group} {other.number}", fed=False)
        fed = self.other.read(f"fed {other.number}")  # English
        if fed:
            for one in self._group(f"fed {call.number}", f"fed {other.number}", fed=True):  # English
                yield self._known(one, call, fed) if one.place == RUNNING and not one.agrees else one
        dropped, others = self.reference.read("dropped"), self.other.read("dropped")
        if call.name in dropped and call.name in others:
            apart = abs(float(dropped[call.name][0] - others[call.name][0]))
            yield Difference(place=DROPPING, fed=True, max_abs=apart, max_rel=None, cosine=None,
                             tolerance=DROPPED, agrees=apart <= DROPPED)

    def _known(self, one: Difference, call: Call, theirs: Mapping[str, NDArray[Any]]) -> Difference:
        """A running variance, which Jittor's own BatchNorm divides by n: a difference of the frameworks, no fault."""
        run, mine = (self.reference.read(f"{group} {call.number}") for group in ("run", "fed"))
        before = RUNNING.replace(" afterwards", "")
        name = f"own {before}"  # English
        if name in run and RUNNING in theirs:
            kept = run[name]
            said = momentum(run["input 0"], kept, mine[RUNNING], theirs[RUNNING].reshape(kept.shape), before)
            if said is not None and said.startswith(BIASED):
                return one.model_copy(update={"agrees": True, "reason": said})
        return one

    def _group(self, group: str, other: str, fed: bool) -> Iterator[Difference]:
        mine, theirs = self.reference.read(group), self.other.read(other)
        for place in mine:
            if not place.startswith("own "):
                yield self.difference(group, place, mine[place], theirs.get(place), fed)

    def difference(self, group: str, place: str, mine: NDArray[Any], theirs: NDArray[Any] | None, fed: bool
                   ) -> Difference:
        """One array."""
        if theirs is None and "gradient" in place:
            # One framework has none where the other has zeros.
            theirs = np.zeros_like(mine)
        if theirs is None:
            return _nothing(place, fed, NONE)
        found = error(mine, theirs)
        if found is None:
            return _nothing(place, fed, recorded("shape {shape}, the reference's is {other}", shape=_shape(theirs),
                                                 other=_shape(mine)))
        allowed = 0.0 if mine.dtype.kind != "f" else self.allowed(group, place, found.scale)
        return Difference(place=place, fed=fed, max_abs=_finite(found.max_abs), max_rel=_finite(found.max_rel),
                          cosine=_finite(found.cosine), tolerance=allowed, agrees=found.max_abs <= allowed,
                          reason=None if math.isfinite(found.max_abs) else recorded("not a number, or infinite"))

    def training(self, behind: float = 0.0) -> list[Difference]:
        """The loss, the optimiser fed with the reference's gradients, and whole steps.

        Args:
            behind: by how much of its norm a gradient may differ behind a kink; 0 where there is none.
        """
        loss = self.reference.read("loss"), self.other.read("loss")
        found = [self.difference("loss", "loss", np.asarray(loss[0]["loss"]), loss[1].get("loss"), fed=False)]
        gradients, apart = self._gradients(behind)
        found += gradients
        for number, scale in enumerate(SCALES):
            found += self._updates(f"update {number}", scale)  # English
        found += self._updates("step", None, behind, apart)
        losses = self.reference.read("losses"), self.other.read("losses")
        if "losses" in losses[0] and len(losses[0]["losses"]):
            found.append(self._losses(losses[0]["losses"], losses[1].get("losses"), behind))
        return found

    def _gradients(self, behind: float) -> tuple[list[Difference], Collection[str]]:
        """The gradient, as the network ran, that is furthest beyond what it may differ by; weights behind a kink."""
        mine, theirs = self.reference.read("gradients"), self.other.read("gradients")
        each, apart = [], []
        for name in mine:
            other = theirs.get(name, np.zeros_like(mine[name]))
            one = self.difference("gradients", name, mine[name], other, fed=False)
            if behind and not one.agrees:
                one = by_norm(one, mine[name], other, behind)
                apart.append(name)
            each.append(one)
        worst = max(each, key=_beyond, default=None)
        return [] if worst is None else [worst.model_copy(update={
            "place": recorded("gradient of {array}", array=worst.place)})], apart

    def _updates(self, group: str, scale: float | None, behind: float = 0.0, left_out: Collection[str] = ()
                 ) -> list[Difference]:
        """Of each kind of array the one that is furthest beyond what it may differ by.

        Args:
            group: of arrays.
            scale: of the gradients that the optimiser was fed with; None for a whole step.
            behind: of a whole step, see `training`: a clip is one factor for all.
            left_out: weights whose gradients differ behind a kink: so does their step.
        """
        mine, theirs, fed = self.reference.read(group), self.other.read(group), scale is not None
        if mine and not theirs:
            return [_nothing(_after(recorded("weights"), scale), fed, recorded(
                "the other arm's optimiser could not be fed: some of its weights have another name or shape"))
                    ] if fed else []
        worst: dict[str, tuple[float, Difference]] = {}
        for name, value in mine.items():
            what, _, of = name.partition(" ")
            # Moments of one whole step are its gradients, which were compared.
            if name.startswith(f"{SIZE} ") or not (fed or what == "weight") or of in left_out:
                continue
            size = float(mine[f"{SIZE} {of}"]) if what == "weight" else 0.0
            one = self._update(group, name, value, theirs.get(name), size, fed, behind)
            if what not in worst or _beyond(one) > worst[what][0]:
                worst[what] = _beyond(one), one.model_copy(update={"place": _after(name, scale)})
        return [one for _, one in worst.values()]

    def _update(self, group: str, name: str, mine: NDArray[Any], theirs: NDArray[Any] | None, size: float, fed: bool,
                behind: float) -> Difference:
        if theirs is None:
            return _nothing(name, fed, NONE)
        found = error(mine, theirs)
        if found is None:
            return _nothing(name, fed, recorded("another shape"))
        if fed:
            floor = MOVED_FLOOR if name.startswith("weight ") else MOMENT_FLOOR
            allowed = self.allowed(group, name, found.scale) + floor * found.scale + 4 * ROUNDING["float32"] * size
            return Difference(place=name, fed=fed, max_abs=_finite(found.max_abs), max_rel=_finite(found.max_rel),
                              cosine=_finite(found.cosine), tolerance=allowed, agrees=found.max_abs <= allowed)
        # Where a gradient is rounding noise, Adam's first step is as large as any: norms tell more than the largest.
        share = self.coarseness * FACTOR * self.off(group, name, 1) + STEP_FLOOR + behind
        norm = float(np.linalg.norm(mine.astype(np.float64)))
        apart = float(np.linalg.norm(mine.astype(np.float64) - theirs.reshape(mine.shape)))
        allowed = share * norm + 4 * ROUNDING["float32"] * size * math.sqrt(mine.size)
        return Difference(place=name, fed=fed, max_abs=_finite(apart), max_rel=_finite(apart / norm if norm else 0.0),
                          cosine=_finite(found.cosine), tolerance=allowed, agrees=apart <= allowed,
                          reason=recorded("norms, not largest numbers"))

    def _losses(self, mine: NDArray[Any], theirs: NDArray[Any] | None, behind: float) -> Difference:
        place = recorded("losses of {steps} whole steps", steps=len(mine))
        if theirs is None or theirs.shape != mine.shape:
            return _nothing(place, False, recorded("the other arm took other steps"))
        found = error(mine, theirs)
        assert found is not None
        allowed = self.coarseness * (FACTOR * self.off("losses", "losses") + LOSS_FLOOR * found.scale)
        # Steps of other weights than those in front of a kink are not held to the same.
        allowed *= FACTOR if behind else 1
        return Difference(place=place, fed=False, max_abs=_finite(found.max_abs), max_rel=_finite(found.max_rel),
                          cosine=_finite(found.cosine), tolerance=allowed, agrees=found.max_abs <= allowed)


def by_norm(one: Difference, mine: NDArray[Any], theirs: NDArray[Any], share: float) -> Difference:
    """The same held to a share of the reference's norm: a kink in front of it changes it as a whole."""
    if one.max_abs is None:
        return one
    norm = float(np.linalg.norm(mine.astype(np.float64)))
    apart = float(np.linalg.norm(mine.reshape(-1).astype(np.float64) - theirs.reshape(-1)))
    return one.model_copy(update={
        "max_abs": _finite(apart), "max_rel": _finite(apart / norm) if norm else None, "tolerance": share * norm,
        "agrees": apart <= share * norm, "reason": recorded("behind a kink: norms, not largest numbers")})


def title(call: Call) -> str:
    """A call for people: the module's name and class, and which call of several."""
    name = call.name or recorded("the network")
    if call.nth:
        return recorded("{module} ({kind}, call {number})", module=name, kind=call.kind, number=call.nth + 1)
    return recorded("{module} ({kind})", module=name, kind=call.kind)


def _after(array: str, scale: float | None) -> str:
    if scale is None:
        return recorded("{array} after one whole step", array=array)
    if scale == 1:
        return recorded("{array} after one update by the same gradients", array=array)
    return recorded("{array} after one update by the same gradients times {scale}", array=array, scale=f"{scale:g}")


def _nothing(place: str, fed: bool, reason: str) -> Difference:
    return Difference(place=place, fed=fed, max_abs=None, max_rel=None, cosine=None, tolerance=None, agrees=False,
                      reason=reason)


def _beyond(one: Difference) -> float:
    """How many times as far apart as allowed."""
    if one.max_abs is None:
        return math.inf
    return one.max_abs / max(one.tolerance or 0.0, 1e-300)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape)) or recorded("of a number")
