"""What is checked: the recipe's U-Net from random weights, or a user's two models from the weights of PyTorch's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.plan import Plan
from harness.record.events import ArmSlot
from harness.suites.parity.numbers import (
    LOSS_STEPS,
    ArmNumbers,
    counted,
    gradient_scales,
    outputs,
    parity_experiment,
    probe_inputs,
    random_state,
    relative,
    worst,
    worst_absolute,
    worst_gradient,
    worst_step,
)
from harness.suites.parity.tolerances import TOLERANCES
from impls.backend import Arrays, TrainerState
from impls.recipe.config import ExperimentConfig
from impls.recipe.precision import Precision
from impls.recipe.randomness import stream
from messages import marked

# What rounding grows to in a network that nobody has measured before is at most so many times what the control shows.
ROOM = 10
# Of the largest change of a weight in one step: 1e-6 of the U-Net's 2e-4.
STEP_SHARE = 5e-3
ULP = 2.0**-23
# The smallest normal float32: below it a framework may give nothing.
LEAST = 2.0**-126


class Subject(ABC):
    """What the arms of a parity check compute.

    Attributes:
        experiment: the recipe, with everything random made the same.
    """

    experiment: ExperimentConfig
    # Whether outputs and gradients of the control are wanted, too.
    measured = False
    # What one update of the weights is called.
    update = marked("Adam step")

    def order(self, slots: Sequence[ArmSlot], plan: Plan) -> list[ArmSlot]:
        """The arms, that one first whose state tells what the weights are like."""
        return list(slots)

    @abstractmethod
    def start(self, own: TrainerState, perturbation: float = 0.0) -> TrainerState:
        """Where all arms start, from the first one's own state."""

    @abstractmethod
    def inputs(self) -> dict[str, NDArray[Any]]:
        """What the network's output is asked for, where its inputs are not its own."""

    @abstractmethod
    def batch_size(self, told: int | None) -> int:
        """Images of a step; `told` by the worker where it alone knows."""

    @abstractmethod
    def allowed(self, reference: ArmNumbers, precision: Precision) -> dict[str, float]:
        """How far an arm may be from the one that it is compared with."""

    def of_outputs(self, reference: ArmNumbers, precision: Precision) -> Sequence[float]:
        """The same of each output, where they may differ in size."""
        return ()


class UNet(Subject):
    """The recipe's network, from random weights.

    Args:
        experiment: the recipe.
        batch_size: images per step.
    """

    def __init__(self, experiment: ExperimentConfig, batch_size: int) -> None:
        self.experiment = parity_experiment(experiment, batch_size)

    def start(self, own: TrainerState, perturbation: float = 0.0) -> TrainerState:
        """Random weights by the arm's names and shapes: the recipe's own zeros would make most gradients zero."""
        shapes = {name: value.shape for name, value in own.params.items()}
        return random_state(shapes, self.experiment.seed, self.experiment.model.image_channels, perturbation)

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Noisy images and their timesteps."""
        return probe_inputs(self.experiment)

    def batch_size(self, told: int | None) -> int:
        """That of the recipe."""
        return self.experiment.train.batch_size

    def allowed(self, reference: ArmNumbers, precision: Precision) -> dict[str, float]:
        """What was chosen for this network."""
        return TOLERANCES[precision].of(self.experiment.preset)


class Models(Subject):
    """A user's two models, from the weights and buffers of PyTorch's new one.

    Args:
        experiment: its seed.
    """

    measured = True
    update = marked("optimiser step")

    def __init__(self, experiment: ExperimentConfig) -> None:
        train = experiment.train.model_copy(update={"randomness": "matched", "grad_clip": None})
        self.experiment = experiment.model_copy(update={"train": train})
        self._begun: Arrays = {}
        self._control_begun: Arrays = {}

    def order(self, slots: Sequence[ArmSlot], plan: Plan) -> list[ArmSlot]:
        """PyTorch first: its names are those that weights cross by, and its weights those that do."""
        return sorted(slots, key=lambda slot: (plan.arm(slot).backend != "pytorch", slot))

    def start(self, own: TrainerState, perturbation: float = 0.0) -> TrainerState:
        """The arm's own weights: nobody knows what others would do to a network of the user's."""
        params = {name: _perturbed(value, self.experiment.seed, name, perturbation)
                  for name, value in own.params.items()}
        zeros = {name: np.zeros_like(value) for name, value in params.items()}
        if perturbation:
            self._control_begun = params
        else:
            self._begun = params
        return TrainerState(0, params, None if own.ema is None else dict(params), zeros, dict(zeros))

    def inputs(self) -> dict[str, NDArray[Any]]:
        """None: the first batch is the models' own."""
        return {"none": np.zeros(1, np.float32)}

    def batch_size(self, told: int | None) -> int:
        """What the worker counted."""
        return told or 1

    def allowed(self, reference: ArmNumbers, precision: Precision) -> dict[str, float]:
        """What is chosen for the U-Net, relative to this network's numbers, or what the control shows if that is more.

        The control is the same arm from weights that are off by 1e-7 of themselves, about what rounding does to them.
        """
        chosen, scales = TOLERANCES[precision], gradient_scales(reference.gradients)
        gradient, control = chosen.gradient, reference.control_numbers
        if control is not None:
            gradient = max(gradient, ROOM * worst_gradient(reference.gradients, control.gradients, scales)[0])
        loss = chosen.loss
        if reference.control:
            loss = max(loss, ROOM * worst(relative(reference.losses, reference.control)[:LOSS_STEPS]))
        moved = max((worst_absolute(reference.after_one[name], self._begun[name]) for name in reference.gradients),
                    default=0.0)
        largest = max((float(np.max(np.abs(self._begun[name]), initial=0.0)) for name in reference.gradients),
                      default=0.0)
        step = STEP_SHARE * moved + ULP * largest
        if control is not None:
            # A step that is in proportion to its gradient (SGD) carries the gradient's rounding on.
            places = counted(reference.gradients, self.experiment.train.grad_clip, gradient)
            mine, twin = ({name: after[name].astype(np.float64) - begun[name] for name in places} for after, begun in
                          ((reference.after_one, self._begun), (control.after_one, self._control_begun)))
            step = max(step, ROOM * (worst_step(mine, twin, places) or 0.0))
        return {"forward": max(self.of_outputs(reference, precision)), "gradient": gradient, "adam": step, "loss": loss}

    def of_outputs(self, reference: ArmNumbers, precision: Precision) -> Sequence[float]:
        """Of each output a share of its own largest number, so that a small one is held as closely as a large one."""
        control = reference.control_numbers
        mine = outputs(reference.eps, reference.output_shapes)
        twins = mine if control is None else outputs(control.eps, reference.output_shapes)
        return [max(TOLERANCES[precision].forward * float(np.max(np.abs(one), initial=0.0)),
                    ROOM * worst_absolute(one, twin), LEAST) for one, twin in zip(mine, twins, strict=True)]


def subject_of(experiment: ExperimentConfig, images: int, batch_size: int) -> Subject:
    """What an experiment is about.

    Args:
        experiment: the recipe.
        images: how many there are.
        batch_size: of a step, where there are so many.
    """
    return Models(experiment) if experiment.is_pair else UNet(experiment, min(images, batch_size))


def _perturbed(value: NDArray[Any], seed: int, name: str, perturbation: float) -> NDArray[np.float32]:
    # Relative, as rounding is: of a layer that is small by design an absolute change would be a large one.
    noise = stream(seed, f"parity perturbation {name}").standard_normal(value.shape) if perturbation else 0.0  # English
    return np.asarray(value * (1 + perturbation * noise), np.float32)

