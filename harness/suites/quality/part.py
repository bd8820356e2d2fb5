"""How good are the images that the arms draw? Sets of them, after a training or of given weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import Self

from harness.part import Asked, Needs, Part
from harness.record.events import ImagesSampled
from harness.suites.quality.plan import QualityPlan, quality_plan, training_recipe
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig, validated

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.plan import Plan
    from harness.record.run import RecordedRun
    from impls.data.datasets import Dataset
    from impls.store.weights import Weights

# Where a journal's declaration holds the recipe of the suite's own trainings.
TRAINING = "quality_training"


@dataclass(frozen=True)
class Quality(Part):
    """Sets of images and what a feature network says about them.

    Attributes:
        sets: which weights, which sampler settings, how many images.
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
    batch: ClassVar[Literal["train", "sample"]] = "sample"

    sets: QualityPlan
    training: ExperimentConfig | None = None
    eta: float | None = None
    inception_weights: str | None = None
    inception_sha256: str | None = None
    data_root: str | None = None

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """The sets that the options ask for; the recipe of a run that goes on is the one that it declared.

        Raises:
            UsageError: an option is malformed or out of range, or they contradict each other.
        """
        options, training = asked.options, None
        sets = quality_plan(options, asked.device, asked.T)
        if not sets.weights:
            declared = asked.recorded.get(TRAINING)
            training = (training_recipe(options, asked.overrides, asked.device) if declared is None
                        else validated(declared, f"{options.resume}: {TRAINING}"))
        return cls(sets, training, options.eta, options.inception_weights, options.inception_sha256, options.data_root)

    def declared(self, plan: Plan) -> dict[str, Any]:
        """The sets; nothing is compared at a level that was fixed before."""
        return {"quality": self.sets.declared(), "seed": plan.seed}

    def recipes(self) -> dict[str, ExperimentConfig]:
        """That of the trainings."""
        return {} if self.training is None else {TRAINING: self.training}

    def described(self, recipe: ExperimentConfig) -> list[str]:
        """The sets."""
        return self.sets.describe()

    def batch_size(self, recipe: ExperimentConfig) -> int:
        """Those of a step of the trainings."""
        return 1 if self.training is None else self.training.train.batch_size

    def check(self, given: Weights | None, images: Dataset | None, resumed: RecordedRun | None) -> None:
        """Refuse weights that draw images of another shape than the data set's, or others than before.

        Raises:
            UsageError: the first fault.
        """
        if images is not None:
            check_weights_fit(self.sets, images.shape, resumed)

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


def check_weights_fit(plan: QualityPlan, shape: Sequence[int], resumed: RecordedRun | None = None) -> None:
    """Refuse weights that cannot be read, are others than those of a run that goes on, or draw images of another shape.

    Raises:
        UsageError: the first fault.
    """
    from impls.store.weights import load_weights

    arms = resumed.arms if resumed else {}
    used = {arms.get(event.arm): event.weights_sha256 for event in (resumed.of(ImagesSampled) if resumed else [])}
    for arm, path in plan.weights.items():
        weights = load_weights(path)
        if used.get(arm, weights.sha256()) != weights.sha256():
            raise UsageError(f"--model-path {path}: holds other weights now than when {arm} drew the run's images: "
                             "start a new run")
        model = weights.config.model
        drawn = [model.image_size, model.image_size, model.image_channels]
        if drawn != list(shape):
            raise UsageError(f"--model-path {path}: draws images of {'x'.join(map(str, drawn))}, the data set has "
                             f"{'x'.join(map(str, shape))}: choose another --dataset")
