"""How good are the images that the arms draw? Sets of them, after a training or of given weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from harness.part import Asked, Needs, Part, Section
from harness.record.events import ImagesSampled
from harness.suites.sampling.cells import Cell, cell_notes, cells
from harness.suites.weights import model_paths
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig, validated
from impls.registry import Device
from impls.tools.evaluate.options import parse as judging
from messages import tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.options import BenchConfig
    from harness.plan import Plan
    from harness.record.run import RecordedRun
    from impls.data.datasets import Dataset
    from impls.store.weights import Weights

# Where a journal's declaration holds the recipe of the suite's own trainings.
TRAINING = "quality_training"
# The CPU's defaults end within a quarter of an hour on two cores.
DEFAULT_STEPS: dict[Device, str] = {"cpu": "10,50", "cuda": "10,20,50,100,250,1000,ddpm"}
DEFAULT_TRAIN_STEPS: dict[Device, str] = {"cpu": "100,400", "cuda": "5000,20000,46800"}
DEFAULT_IMAGES: dict[Device, int] = {"cpu": 256, "cuda": 10_000}
# The preset's own batch of two images is meant for timing steps; so short a training needs a larger one.
TINY_TRAINING = {"batch_size": 16, "lr": 1e-3}

# Options that the tool which judges images takes as they are.
JUDGING = ("features", "inception_weights", "inception_sha256", "reference_images", "data_root")


@dataclass(frozen=True)
class Quality(Part):
    """Sets of images and what a feature network says about them.

    Attributes:
        cells: the sampler settings.
        milestones: training steps after which sets are drawn, rising; empty where weights are given. Before the last
            one only the cheapest cell is drawn.
        images: images in every set.
        reference_images: real images that they are held against; None for the tool's own choice.
        features: the feature network, by name, or "auto".
        weights: arm name -> checkpoint or folder, where weights are given.
        training: recipe of the trainings; None where weights are given.
        eta: DDIM's noise level; None for the experiment's.
        inception_weights: file of the Inception weights; None for the usual places.
        inception_sha256: hash of Inception weights that are accepted too.
        data_root: folder of the data set's original files.
    """

    name: ClassVar[str] = "quality"
    needs: ClassVar[Needs] = Needs(images=True, weights=True)
    takes: ClassVar[frozenset[str]] = frozenset({"model_path", "train_steps", "num_images", "eta", "inception_weights",
                                                 "inception_sha256", "reference_images", "features"})
    batch: ClassVar[Section] = "sample"

    cells: tuple[Cell, ...]
    milestones: tuple[int, ...]
    images: int
    reference_images: int | None
    features: str
    weights: dict[str, Path]
    training: ExperimentConfig | None = None
    eta: float | None = None
    inception_weights: str | None = None
    inception_sha256: str | None = None
    data_root: str | None = None

    @classmethod
    def refusal(cls, options: BenchConfig) -> str | None:
        """What the tool that judges images has against its options: hours before it is started."""
        try:
            judging([*(f"--{name}={value}" for name in JUDGING if (value := getattr(options, name)) is not None),
                     "--reference-only"])
        except UsageError as error:
            return str(error)
        return None

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """The sets that the options ask for; the recipe of a run that goes on is the one that it declared.

        Raises:
            UsageError: an option is malformed or out of range, or they contradict each other.
        """
        options, device, training = asked.options, asked.device, None
        weights, steps = model_paths(options), options.train_steps
        if weights and steps is not None:
            raise UsageError(tell("--train-steps: --model-path gives the weights already: leave one of them out"))
        if not weights:
            declared = asked.recorded.get(TRAINING)
            training = (training_recipe(options, asked.overrides, device) if declared is None
                        else validated(declared, f"{options.resume}: {TRAINING}"))
        return cls(
            cells=cells(options.steps or DEFAULT_STEPS[device], asked.T, asked.spacing, asked.offset),
            milestones=() if weights else milestones(steps or DEFAULT_TRAIN_STEPS[device]),
            images=DEFAULT_IMAGES[device] if options.num_images is None else options.num_images,
            reference_images=options.reference_images, features=options.features, weights=weights, training=training,
            eta=options.eta, inception_weights=options.inception_weights, inception_sha256=options.inception_sha256,
            data_root=options.data_root)

    def declared(self, plan: Plan) -> dict[str, Any]:
        """The sets; nothing is compared at a level that was fixed before."""
        sets = {"cells": [cell.name for cell in self.cells], "train_steps": list(self.milestones),
                "images": self.images, "reference_images": self.reference_images, "features": self.features,
                "weights": {arm: str(path) for arm, path in self.weights.items()}}
        return {"quality": sets, "seed": plan.seed}

    def recipes(self) -> dict[str, ExperimentConfig]:
        """That of the trainings."""
        return {} if self.training is None else {TRAINING: self.training}

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """The sets."""
        weights = ", ".join(f"{arm}: {path}" for arm, path in self.weights.items())
        source = (tell("training to {steps} steps", steps=tell(", ").join(map(str, self.milestones))) if self.milestones
                  else tell("weights of {arms}", arms=weights))
        sizes = tell(" and ").join(tell("{size} to {section}", size=size, section=section)
                                   for section, size in self.batch_sizes(recipe).items())
        names, size = tell(", ").join(cell.name for cell in self.cells), self.reference_images
        reference = tell("training images") if size is None else tell("{images} training images", images=size)
        lines = [tell("quality: {source}; {cells}; {images} images each, held against {reference} by {network}; "
                      "batches of {sizes}", source=source, cells=names, images=self.images, reference=reference,
                      network=self.features, sizes=sizes)]
        lines += [tell("{cell}: {steps} steps of spacing {spacing} are {calls} network calls", cell=cell.name,
                       steps=cell.steps, spacing=recipe.sample.spacing, calls=cell.calls)
                  for cell in self.cells if cell.calls is not None]
        return lines

    def notes(self, recipe: ExperimentConfig) -> list[str]:
        """On its chains."""
        sample = recipe.sample
        return cell_notes(self.cells, recipe.diffusion, sample.eta if self.eta is None else self.eta, sample.spacing,
                          sample.steps_offset)

    def batch_sizes(self, recipe: ExperimentConfig) -> dict[Section, int]:
        """Those of a step of the trainings, which have a recipe of their own, and those of a sampled batch."""
        trained: dict[Section, int] = {} if self.training is None else {"train": self.training.train.batch_size}
        return {**trained, "sample": recipe.sample.batch_size}

    def check(self, given: Weights | None, images: Dataset | None, resumed: RecordedRun | None) -> None:
        """Refuse weights that draw images of another shape than the data set's, or others than before.

        Raises:
            UsageError: the first fault.
        """
        if images is not None:
            check_weights_fit(self.weights, images.shape, resumed)

    def ready(self, bench: Bench) -> None:
        """Look at the real images through the feature network: a wrong file must not show after hours of training.

        Raises:
            UsageError: the network or the images cannot be had.
        """
        from harness.suites.quality.stages import Stages, check_reference

        check_reference(Stages(bench, self, bench.writer.run))

    def measure(self, bench: Bench, recorded: RecordedRun) -> None:
        """Train, draw, and have the sets judged."""
        from harness.suites.quality.stages import Stages, run_stages

        run_stages(Stages(bench, self, recorded))


def check_weights_fit(weights: Mapping[str, Path], shape: Sequence[int], resumed: RecordedRun | None = None) -> None:
    """Refuse weights that cannot be read, are others than those of a run that goes on, or draw images of another shape.

    Raises:
        UsageError: the first fault.
    """
    from impls.store.weights import load_weights

    arms = resumed.arms if resumed else {}
    used = {arms.get(event.arm): event.weights_sha256 for event in (resumed.of(ImagesSampled) if resumed else [])}
    for arm, path in weights.items():
        found = load_weights(path)
        if used.get(arm, found.sha256()) != found.sha256():
            raise UsageError(tell("--model-path {path}: holds other weights now than when {arm} drew the run's images: "
                                  "start a new run", path=path, arm=arm))
        model = found.config.model
        drawn = [model.image_size, model.image_size, model.image_channels]
        if drawn != list(shape):
            raise UsageError(tell("--model-path {path}: draws images of {drawn}, the data set has {shape}: choose "
                                  "another --dataset", path=path, drawn="x".join(map(str, drawn)),
                                  shape="x".join(map(str, shape))))


def training_recipe(config: BenchConfig, overrides: Mapping[str, Any], device: Device) -> ExperimentConfig:
    """The experiment of the suite's own trainings: what the user said, and keyed streams, alike in every framework.

    Raises:
        UsageError: an override is unknown or of the wrong type.
    """
    from harness.options import experiment, preset_name

    tiny = preset_name(config, overrides, device) == "tiny"
    train = {**(TINY_TRAINING if tiny else {}), "randomness": "matched"}
    # Of no part: the size of a batch that the user gives is that of a sampled one.
    return experiment(config, overrides, device, {"train": train}, parts=())


def milestones(text: str) -> tuple[int, ...]:
    """The steps of `--train-steps`: whole numbers, rising.

    Raises:
        UsageError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    found = [int(part) for part in parts if re.fullmatch(r"\d{1,9}", part)]
    if len(found) != len(parts) or not found[0] or any(b <= a for a, b in zip(found, found[1:], strict=False)):
        raise UsageError(tell("--train-steps {steps}: give rising numbers of training steps of at least 1, e.g. "
                              "--train-steps 200,800", steps=text))
    return tuple(found)
