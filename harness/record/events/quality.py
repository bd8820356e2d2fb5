"""Lines about image quality: trained weights, drawn image sets, and what a feature network says about them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.record.events.base import ArmSlot, Event, PartName
from messages import shown, tell

Metric = Literal["fd", "fd-extrapolated", "kid", "is", "precision", "recall"]


class Trained(Event):
    """One arm's training up to `steps`; its checkpoint is what later lines sample from."""

    type: Literal["trained"] = "trained"
    subject: ClassVar = ("arm", "steps")
    part: ClassVar[PartName] = "quality"
    arm: ArmSlot
    steps: int
    batch_size: int
    seconds: float | None = Field(None, description="wall time of the steps since the `trained` line before, start-up "
                                                    "included; None where an interruption lies between")
    loss: float | None = Field(None, description="mean training loss of the last tenth of the steps")
    checkpoint: str = Field(description="relative to the run folder")
    weights_sha256: str


class ImagesSampled(Event):
    """One set of images of one arm, complete on disk.

    `train_steps` is how long the weights were trained by this run; None for weights that were given.
    """

    type: Literal["sampled"] = "sampled"
    subject: ClassVar = ("arm", "cell", "train_steps")
    part: ClassVar[PartName] = "quality"
    arm: ArmSlot
    cell: str = Field(description="method and network calls, e.g. ddim-50")
    nfe: int
    eta: float
    spacing: str
    seed: int
    images: int
    batch_size: int
    train_steps: int | None
    seconds: float | None = Field(None, description="time to draw all images, from the median over batches; None where "
                                                    "it is not known")
    why_no_seconds: str | None = None
    npz: str = Field(description="relative to the run folder; key images, uint8 NHWC")
    grid: str = Field(description="PNG of the first images, relative to the run folder")
    weights: str = Field(description="where the weights come from")
    weights_kind: Literal["ema", "raw", "diffusers"]
    weights_sha256: str


class ReferenceFeatures(Event):
    """What image sets are held against: real images and the network that looks at them.

    `label` is what the distance over this network is called: "FID" only for the published Inception weights.
    """

    type: Literal["reference"] = "reference"
    subject: ClassVar = ("extractor", "label")
    part: ClassVar[PartName] = "quality"
    extractor: str
    label: str
    weights_sha256: str
    feature_size: int
    input_size: int = Field(description="side in pixels that the network sees")
    dataset: str
    split: str = Field(description="for people, e.g. the first 5,000 of 60,000 training images, without flips")
    images: int
    images_sha256: str
    cached: bool
    images_per_s: float | None = Field(None, description="feature extraction; None where the cache had them")


class Figure(BaseModel):
    """One figure with its 95 % interval; a None value has a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    metric: Metric
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str | None = None


class Rung(BaseModel):
    """The distance over fewer images: the mean over disjoint subsets of `images` images each."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    images: int
    value: float


class Quality(Event):
    """All figures of one set of images."""

    type: Literal["quality"] = "quality"
    subject: ClassVar = ("arm", "cell", "train_steps", "extractor", "label")
    part: ClassVar[PartName] = "quality"
    arm: ArmSlot
    cell: str
    train_steps: int | None
    extractor: str
    label: str
    images: int
    figures: list[Figure]
    ladder: list[Rung] = Field(description="smallest first; the last rung has all images")
    interval: str = Field(description="how the intervals were made, for people")
    images_per_s: float | None = Field(None, description="feature extraction")
    warnings: list[str] = []

    def sentence(self, arm: str) -> str:
        """The distance for people, while the run goes on and at its end; `arm` names whose images these are."""
        distance = next((figure for figure in self.figures if figure.metric == "fd"), None)
        places = {"label": self.label, "arm": arm, "cell": self.cell, "images": self.images}
        head = (tell("{label} of {arm}, {cell}, {images} images", **places) if self.train_steps is None else
                tell("{label} of {arm}, {cell} after {steps} training steps, {images} images", steps=self.train_steps,
                     **places))
        if distance is None or distance.value is None:
            return f"{head}: n/a ({shown(str(distance.reason)) if distance else tell('not computed')})"
        interval = "" if distance.ci_low is None or distance.ci_high is None else (
            f" [{distance.ci_low:.2f}, {distance.ci_high:.2f}]")
        return f"{head}: {distance.value:.2f}{interval}"


class QualityDifference(Event):
    """Distance of arm A less that of arm B, image i of both from the same noise."""

    type: Literal["quality-difference"] = "quality-difference"
    subject: ClassVar = ("arm_a", "arm_b", "cell", "train_steps", "label")
    part: ClassVar[PartName] = "quality"
    arm_a: ArmSlot
    arm_b: ArmSlot
    cell: str
    train_steps: int | None
    label: str
    images: int
    value: float
    ci_low: float | None
    ci_high: float | None
    matched_weights: bool = Field(description="whether both arms drew from the same weights")


class NearestImages(Event):
    """A few drawn images beside the training images nearest to them: has the network learned by heart?

    A copy has a distance far below `typical`, the median distance of a training image to its nearest other one.
    """

    type: Literal["nearest"] = "nearest"
    subject: ClassVar = ("arm", "cell")
    part: ClassVar[PartName] = "quality"
    arm: ArmSlot
    cell: str
    picture: str = Field(description="PNG, relative to the run folder: per row a drawn image, then its nearest ones")
    space: str = Field(description="what distances are measured in")
    distances: list[float] = Field(description="of each row's nearest training image")
    typical: float
