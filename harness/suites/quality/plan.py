"""What the quality suite draws: which weights, which sampler settings, how many images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.suites.sampling.cells import Cell, cells
from harness.suites.weights import model_paths
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from impls.registry import Device

if TYPE_CHECKING:
    from harness.options import BenchConfig

# The CPU's defaults end within a quarter of an hour on two cores.
DEFAULT_STEPS: dict[Device, str] = {"cpu": "10,50", "cuda": "10,20,50,100,250,1000,ddpm"}
DEFAULT_TRAIN_STEPS: dict[Device, str] = {"cpu": "100,400", "cuda": "5000,20000,46800"}
DEFAULT_IMAGES: dict[Device, int] = {"cpu": 256, "cuda": 10_000}
# The preset's own batch of two images is meant for timing steps; so short a training needs a larger one.
TINY_TRAINING = {"batch_size": 16, "lr": 1e-3}


@dataclass(frozen=True)
class QualityPlan:
    """The sets of images of a run.

    Attributes:
        cells: the sampler settings.
        milestones: training steps after which sets are drawn, rising; empty where weights are given. Before the last
            one only the cheapest cell is drawn.
        images: images in every set.
        reference_images: real images that they are held against; None for the tool's own choice.
        features: the feature network, by name, or "auto".
        weights: arm name -> checkpoint or folder, where weights are given.
    """

    cells: tuple[Cell, ...]
    milestones: tuple[int, ...]
    images: int
    reference_images: int | None
    features: str
    weights: dict[str, Path]

    def declared(self) -> dict[str, Any]:
        """For the journal."""
        return {"cells": [cell.name for cell in self.cells], "train_steps": list(self.milestones),
                "images": self.images, "reference_images": self.reference_images, "features": self.features,
                "weights": {arm: str(path) for arm, path in self.weights.items()}}

    def describe(self) -> list[str]:
        """For people."""
        source = (f"training to {', '.join(map(str, self.milestones))} steps" if self.milestones
                  else "weights of " + ", ".join(f"{arm}: {path}" for arm, path in self.weights.items()))
        names, size = ", ".join(cell.name for cell in self.cells), self.reference_images
        reference = "training images" if size is None else f"{size} training images"
        return [f"quality: {source}; {names}; {self.images} images each, held against {reference} by {self.features}"]


def quality_plan(config: BenchConfig, device: Device, T: int) -> QualityPlan:
    """The sets that the options ask for.

    Raises:
        UsageError: an option is malformed or out of range, or they contradict each other.
    """
    images = DEFAULT_IMAGES[device] if config.num_images is None else config.num_images
    weights = model_paths(config)
    if weights and config.train_steps is not None:
        raise UsageError("--train-steps: --model-path gives the weights already: leave one of them out")
    return QualityPlan(
        cells=cells(config.steps or DEFAULT_STEPS[device], T),
        milestones=() if weights else milestones(config.train_steps or DEFAULT_TRAIN_STEPS[device]),
        images=images, features=config.features, weights=weights,
        reference_images=config.reference_images)


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
        raise UsageError(f"--train-steps {text}: give rising numbers of training steps of at least 1, "
                         "e.g. --train-steps 200,800")
    return tuple(found)
