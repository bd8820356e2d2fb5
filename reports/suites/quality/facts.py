"""Image quality sorted for the report: sets of images with their figures; nothing is measured or judged here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.record.events import (
    Case,
    ImagesSampled,
    Metric,
    Quality,
    QualityDifference,
    ReferenceFeatures,
    Trained,
)
from harness.record.run import RecordedRun
from messages import choice, marked, shown, tell
from reports.text import MINUS, NA, THIN, number
from reports.view.run import ArmView, RunView
from reports.view.words import is_ddim

# Only this name promises the published Inception weights and protocol.
FID = "FID"
NO_INTERVAL = marked("no interval was recorded")
NO_REASON = marked("no reason recorded")
# Beyond this a number is damage, and no axis can hold it.
MOST = 1e9
# A clock tick: no image is drawn faster.
LEAST_SECONDS = 1e-9
Key = tuple[str, str, "int | None"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: None where it is not known; `reason` then says why.
        low: lower end; None without an interval.
        high: upper end; None without an interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = field(default_factory=lambda: tell(NO_REASON))

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both ends of the interval; None unless both are known."""
        return (self.low, self.high) if self.low is not None and self.high is not None else None


@dataclass(frozen=True)
class ImageSet:
    """The images of one arm, cell and length of training, with what the journal says about them.

    Attributes:
        train_steps: how long the run trained the weights; None for weights that were given.
        quality: its figures under one distance; None where `reason` says why there are none.
        sampled: how it was drawn; None where that line is missing.
    """

    arm: ArmView
    cell: str
    train_steps: int | None
    quality: Quality | None
    sampled: ImagesSampled | None
    reason: str

    def figure(self, metric: Metric) -> Estimate:
        """One of its figures."""
        if self.quality is None:
            return Estimate(None, reason=self.reason)
        found = next((one for one in reversed(self.quality.figures) if one.metric == metric), None)
        if found is None:
            return Estimate(None, reason=tell("not computed for this set"))
        return estimate(found.value, found.ci_low, found.ci_high, found.reason)

    @property
    def calls(self) -> int | None:
        """Network calls per image (NFE); by the cell's name where the set's line is missing."""
        told = re.fullmatch(r"[a-z]+-(\d{1,7})", self.cell)
        found = self.sampled.nfe if self.sampled else int(told[1]) if told else None
        return found if found is not None and 0 < found < MOST else None

    @property
    def images(self) -> int | None:
        """Number of images, N."""
        known = self.quality or self.sampled
        return known.images if known and 0 < known.images < MOST else None

    @property
    def is_ddim(self) -> bool:
        """Whether it was drawn by DDIM, whose cells make up a curve."""
        return is_ddim(self.cell)

    def seconds_per_image(self) -> Estimate:
        """Time spent drawing one image."""
        if self.sampled is None:
            return Estimate(None, reason=tell("the journal does not say how these images were drawn"))
        seconds, images = self.sampled.seconds, self.sampled.images
        if seconds is None:
            return Estimate(None, reason=shown(self.sampled.why_no_seconds or NO_REASON))
        if not 0 < images < MOST or not LEAST_SECONDS < seconds / images < MOST:
            return Estimate(None, reason=tell("the recorded time or number of images is not usable"))
        return Estimate(seconds / images)


def labels(run: RecordedRun) -> list[str]:
    """The names of the distances of this run, in journal order."""
    kinds = (ReferenceFeatures, Quality, QualityDifference)
    return list(dict.fromkeys(event.label for event in run.events if isinstance(event, kinds)))


def reference(run: RecordedRun, label: str) -> ReferenceFeatures | None:
    """What the distance of this name is held against."""
    return next((one for one in reversed(run.of(ReferenceFeatures)) if one.label == label), None)


def image_sets(view: RunView, label: str) -> list[ImageSet]:
    """Every arm with every cell and length of training that the run has, by training, then cell, then arm."""
    judged: dict[Key, Quality] = {key(one): one for one in view.run.of(Quality) if one.label == label}
    drawn: dict[Key, ImagesSampled] = {key(one): one for one in view.run.of(ImagesSampled)}
    found = [
        ImageSet(
            arm, cell, steps, judged.get((arm.slot, cell, steps)), drawn.get((arm.slot, cell, steps)),
            why_missing(view, arm, cell, steps, (arm.slot, cell, steps) in drawn),
        )
        for cell, steps in dict.fromkeys((cell, steps) for _, cell, steps in [*judged, *drawn])
        for arm in present(view)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.train_steps or 0, *cell_order(one, found)))


def key(one: Quality | ImagesSampled) -> Key:
    """What tells one set of images from another."""
    return one.arm, one.cell, one.train_steps


def cell_order(one: ImageSet, among: Sequence[ImageSet]) -> tuple[bool, int, str]:
    """DDIM first, few network calls first."""
    calls = next((other.calls for other in among if other.cell == one.cell and other.calls), 0)
    return not one.is_ddim, calls, one.cell


def present(view: RunView) -> list[ArmView]:
    """All arms except copies of another one that have no line of their own."""
    kinds = (Trained, ImagesSampled, Quality)
    slots = {event.arm for event in view.run.events if isinstance(event, kinds)}
    names = {arm.name for arm in view.arms if arm.slot in slots}
    return [arm for arm in view.arms if arm.slot in slots or arm.name not in names]


def why_missing(view: RunView, arm: ArmView, cell: str, steps: int | None, drawn: bool) -> str:
    """Why a set has no figures: what the run recorded of its own failure, or what is not there.

    Args:
        view: the run.
        arm: whose set.
        cell: its sampler setting.
        steps: how long its weights were trained; None for given ones.
        drawn: whether its images are there.
    """
    end = "" if steps is None else f"-{steps}"
    newest: dict[str, Case] = {case.case_id: case for case in view.run.of(Case)}
    # The judgement of all arms, the arm's own images, its trainings up to then, and what stopped everything.
    trainings = [f"train-{arm.slot}-{one}" for one in sorted({event.steps for event in view.run.of(Trained)} | {steps})
                 if one <= steps] if steps is not None else []  # fmt: skip
    for about in (f"quality-{cell}{end}", f"images-{arm.slot}-{cell}{end}", *trainings, "quality-reference"):
        case = newest.get(about)
        if case is not None and case.status != "measured" and case.reason:
            return shown(case.reason)
    return tell("the images were drawn but not evaluated") if drawn else tell("no images of this set were recorded")


def longest_first(sets: Iterable[ImageSet]) -> list[ImageSet]:
    """Sets of the longest training first, as people look for them; else in their order."""
    return sorted(sets, key=lambda one: -(one.train_steps or 0))


def warnings(sets: Iterable[ImageSet]) -> dict[str, int]:
    """Every warning about these sets once, numbered from 1."""
    found = dict.fromkeys(word for one in sets if one.quality for word in one.quality.warnings)
    return {word: number_ for number_, word in enumerate(found, start=1)}


def final_steps(sets: Iterable[ImageSet]) -> int | None:
    """The longest training among the sets; None where the weights were given."""
    return max((one.train_steps for one in sets if one.train_steps is not None), default=None)


def final(sets: Sequence[ImageSet]) -> list[ImageSet]:
    """The sets of the longest training."""
    last = final_steps(sets)
    return [one for one in sets if one.train_steps == last]


def differences(view: RunView, label: str) -> list[QualityDifference]:
    """The difference of every pair of arms, cell and length of training."""
    return [one for one in view.run.of(QualityDifference) if one.label == label]


def estimate(value: float | None, low: float | None, high: float | None, reason: str | None = None) -> Estimate:
    """A recorded figure; what is not a finite number is not known."""
    if value is not None and not sound(value):
        return Estimate(None, reason=tell("the recorded value is not a usable number"))
    ends = (low, high) if low is not None and high is not None and sound(low) and sound(high) and low <= high else None
    low, high = ends or (None, None)
    return Estimate(value, low, high, shown(reason or NO_REASON))


def sound(value: float) -> bool:
    """Whether a number can be shown and drawn."""
    return math.isfinite(value) and abs(value) < MOST


def apart(one: Estimate, other: Estimate) -> bool | None:
    """Whether two intervals do not overlap; None where one is not known."""
    if one.bounds is None or other.bounds is None:
        return None
    return one.bounds[1] < other.bounds[0] or other.bounds[1] < one.bounds[0]


def away_from_zero(found: Estimate) -> bool | None:
    """Whether a difference's interval leaves out 0; None where it is not known."""
    return None if found.bounds is None else found.bounds[0] > 0 or found.bounds[1] < 0


def parts(found: Estimate) -> tuple[str, str | None]:
    """Value and interval as texts, with as many decimals as half the interval's width deserves."""
    if found.value is None:
        return NA, None
    if found.bounds is None:
        return number(found.value), None
    half = (found.bounds[1] - found.bounds[0]) / 2
    decimals = min(6, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 3
    value, low, high = (fixed(one, decimals) for one in (found.value, *found.bounds))
    return value, f"[{low}, {high}]"


def fixed(value: float, decimals: int) -> str:
    """A number with this many decimals, thousands grouped, without a minus before a zero."""
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace(",", THIN).replace("-", MINUS)


def told(found: Estimate) -> str:
    """Value and interval in one text, e.g. "48.1 [46.2, 50.0]"."""
    value, interval = parts(found)
    return f"{value} {interval}" if interval else value


def weights_words(drawn: ImagesSampled) -> str:
    """Which weights of a training these are."""
    return {"ema": tell("EMA weights"), "raw": tell("raw weights"), "diffusers": tell("weights of a diffusers model")
            }[drawn.weights_kind]  # fmt: skip


def training_words(steps: int | None) -> str:
    """How long the weights of a set were trained."""
    if steps is None:
        return tell("from given weights")
    return choice(steps, "after {n} training step", "after {n} training steps")
