"""What an evaluation found: typed, as JSON for programs and as a table for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from impls.command.columns import filled_up
from messages import marked, shown, tell

Metric = Literal["fd", "fd-extrapolated", "kid", "is", "precision", "recall"]
NAMES: dict[str, str] = {
    "fd-extrapolated": marked("  at infinitely many images"), "kid": "KID", "is": marked("Inception Score"),
    "precision": "precision", "recall": "recall",
}


class Result(BaseModel):
    """Base of all parts: immutable, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Features(Result):
    """The network that looked at the images; `label` is what the distance over it is called."""

    extractor: str
    label: str
    weights_sha256: str
    feature_size: int
    input_size: int


class ReferenceFacts(Result):
    """The real images; `images_per_s` is None where the cache had their features."""

    dataset: str
    split: str
    images: int
    images_sha256: str
    cached: bool
    images_per_s: float | None


class StatisticsFacts(Result):
    """Published statistics in place of real images; `sha256` is of their file."""

    dataset: str
    sha256: str
    feature_size: int
    note: str


class Figure(Result):
    """One figure with its 95 % interval; what is None has a reason."""

    metric: Metric
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str | None = None


class Rung(Result):
    """The distance over fewer images: the mean over disjoint subsets of `images` images each."""

    images: int
    value: float


class NearestFacts(Result):
    """A picture of drawn images beside the real ones nearest to them, and the distances to the first of each."""

    picture: str
    space: str
    distances: list[float]
    typical: float


class SetResult(Result):
    """All that was found of one set of images; `interval` says how the intervals were made."""

    path: str
    images: int
    figures: list[Figure]
    ladder: list[Rung]
    interval: str
    images_per_s: float
    warnings: list[str]
    nearest: NearestFacts | None


class Difference(Result):
    """Distance of set `a` less that of set `b`, image i of both from the same noise."""

    a: int
    b: int
    images: int
    value: float
    ci_low: float | None
    ci_high: float | None


class Evaluation(Result):
    """Everything."""

    features: Features
    reference: ReferenceFacts | StatisticsFacts
    sets: list[SetResult]
    differences: list[Difference]


def table(found: Evaluation) -> str:
    """An evaluation for people, on several lines."""
    features = found.features
    lines = [
        tell("features   {name}: {count} of every image at {size}x{size}; weights {sha256}...",
             name=features.extractor, count=features.feature_size, size=features.input_size,
             sha256=features.weights_sha256[:16]),
        tell("reference  {reference}", reference=_reference(found.reference)),
    ]
    for number, one in enumerate(found.sets):
        lines += ["", tell("set {number}      {path}: {count} images, {speed} images/s", number=number,
                           path=one.path, count=one.images, speed=f"{one.images_per_s:.0f}")]
        lines += _figures(one, features.label)
    for difference in found.differences:
        lines += ["", tell("{label} of set {a} less that of set {b}: {value}", label=features.label, a=difference.a,
                           b=difference.b, value=f"{difference.value:+.4g}")
                  + _between(difference.ci_low, difference.ci_high)]
    return "\n".join(lines)


def _reference(found: ReferenceFacts | StatisticsFacts) -> str:
    if isinstance(found, StatisticsFacts):
        return tell("{dataset}: statistics of {count} features, SHA-256 {sha256}; {note}", dataset=found.dataset,
                    count=found.feature_size, sha256=found.sha256, note=shown(found.note))
    rate = (tell("features from the cache") if found.cached else
            tell("{speed} images/s", speed=f"{found.images_per_s:.0f}"))
    return tell("{dataset}: {split}; {rate}", dataset=found.dataset, split=shown(found.split), rate=rate)


def _figures(one: SetResult, label: str) -> Iterator[str]:
    for figure in one.figures:
        name = NAMES.get(figure.metric, label)
        name = name if name in (figure.metric, label) else tell(name)
        value = "n/a" if figure.value is None else f"{figure.value:.4g}" + _between(figure.ci_low, figure.ci_high)
        yield f"  {filled_up(name, 32)} {value}" + (f" ({shown(figure.reason)})" if figure.reason else "")
    if len(one.ladder) > 1:
        yield tell("  {label} by images: {values}", label=label,
                   values=", ".join(f"{rung.images}: {rung.value:.4g}" for rung in one.ladder))
    yield tell("  intervals: {text}", text=shown(one.interval))
    yield from (tell("  warning: {text}", text=shown(text)) for text in one.warnings)
    if one.nearest is not None:
        yield tell("  nearest: {picture}; distances {least} to {most}, between real images typically {typical}",
                   picture=one.nearest.picture, least=f"{min(one.nearest.distances):.3g}",
                   most=f"{max(one.nearest.distances):.3g}", typical=f"{one.nearest.typical:.3g}")


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"  [{low:.4g}, {high:.4g}]"
