"""Do two arms compute the same? The same weights, batches, timesteps and noise through both, compared number by number.

The weights are random everywhere: the recipe's zero-initialised layers would make most gradients zero and a comparison
of them empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.record.events import ArmSlot, ParityResult
from harness.suites.parity.tolerances import TOLERANCES
from harness.suites.weights import random_weights
from impls.backend import Arrays, TrainerState
from impls.recipe.config import ExperimentConfig
from impls.recipe.precision import WORDS, Precision, coarsest
from impls.recipe.randomness import stream
from messages import marked, recorded

# Biases before a GroupNorm have a gradient of exactly zero: without a floor, rounding noise counts as 100 % error.
GRADIENT_FLOOR = 1e-4
# Below this gradient, Adam's first update g / (|g| + eps) turns rounding noise into a difference as large as the step.
ADAM_MIN_GRADIENT = 1e-5
# Differences grow with every step in any network, so the tolerance holds for as many steps as it was chosen for.
LOSS_STEPS = 20
# What has a tolerance, as a fault calls it.
TOLD: Mapping[str, str] = {"forward": marked("forward"), "gradient": marked("gradient"), "loss": marked("loss")}
PERTURBATION = 1e-7
PROBES = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ArmNumbers:
    """What one arm computed.

    Attributes:
        eps: the network's output for the probe inputs (PROBES, C, H, W); several outputs one behind the other.
        gradients: every unclipped gradient of the first batch, by name.
        after_one: the weights after one Adam step, by name.
        losses: of the matched steps.
        control: losses of the same steps from perturbed weights; empty where no control ran.
        precision: what its products and convolutions were computed in.
        output_shapes: of several outputs.
        images: of a step.
        control_numbers: what the control computed beside its losses, where that is wanted.
    """

    eps: Floats
    gradients: Arrays
    after_one: Arrays
    losses: Sequence[float]
    control: Sequence[float]
    precision: Precision
    output_shapes: tuple[tuple[int, ...], ...] = ()
    images: int | None = None
    control_numbers: ControlNumbers | None = None


@dataclass(frozen=True)
class ControlNumbers:
    """Outputs, gradients, and weights after one step of the control; see `ArmNumbers`."""

    eps: Floats
    gradients: Arrays
    after_one: Arrays


def parity_experiment(experiment: ExperimentConfig, batch_size: int) -> ExperimentConfig:
    """`experiment` with everything random made the same: dropout off, keyed streams, the resident data set.

    The learning rate starts at its full value, or the first Adam step would be too small to compare.
    """
    train = experiment.train.model_copy(update={
        "batch_size": batch_size, "randomness": "matched", "loader": "resident", "ema_decay": None, "warmup_steps": 0})
    model = experiment.model.model_copy(update={"dropout": 0.0})
    return experiment.model_copy(update={"train": train, "model": model})


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int, image_channels: int,
                 perturbation: float = 0.0) -> TrainerState:
    """Step 0 with random weights; see `random_weights`."""
    params = random_weights(shapes, seed, image_channels, perturbation)
    zeros = {name: np.zeros_like(value) for name, value in params.items()}
    return TrainerState(step=0, params=params, ema=None, exp_avg=zeros, exp_avg_sq=dict(zeros))


def probe_inputs(experiment: ExperimentConfig) -> dict[str, NDArray[Any]]:
    """Noisy images x (PROBES, C, H, W) and timesteps t (PROBES,) over the whole range."""
    model, T = experiment.model, experiment.diffusion.T
    shape = (PROBES, model.image_channels, model.image_size, model.image_size)
    x = stream(experiment.seed, "parity probes").standard_normal(shape, dtype=np.float32)  # English
    return {"x": x, "t": np.linspace(0, T - 1, PROBES).astype(np.int64)}


def outputs(eps: Floats, shapes: Sequence[tuple[int, ...]]) -> list[Floats]:
    """What stands one behind the other in `ArmNumbers.eps`."""
    return np.split(eps, np.cumsum([math.prod(shape) for shape in shapes])[:-1]) if shapes else [eps]


def compare(slots: tuple[ArmSlot, ArmSlot], a: ArmNumbers, b: ArmNumbers, experiment: ExperimentConfig,
            tolerances: Mapping[str, float] | None = None, of_outputs: Sequence[float] = (),
            update: str = "adam") -> ParityResult:
    """Hold arm B's numbers against arm A's.

    Args:
        slots: whose numbers.
        a: of the first.
        b: of the second.
        experiment: the recipe.
        tolerances: how far they may be apart; by default what was chosen for the U-Net.
        of_outputs: what each output may be apart by, where they differ in size; the result is about the one that is
            furthest beyond.
        update: what one step of the optimiser is called.
    """
    same = {name: g.shape for name, g in a.gradients.items()} == {name: g.shape for name, g in b.gradients.items()}
    precision = coarsest(a.precision, b.precision)
    allowed = TOLERANCES[precision]
    scales = gradient_scales(a.gradients)
    gradient, gradient_name = worst_gradient(a.gradients, b.gradients, scales) if same else (None, None)
    tolerances = dict(tolerances or allowed.of(experiment.preset))
    forward, place = math.inf, ""
    if a.output_shapes == b.output_shapes:
        forward, tolerances["forward"], place = _worst_output(a, b, of_outputs or [tolerances["forward"]])
    adam = None
    if same:
        places = counted(a.gradients, experiment.train.grad_clip, tolerances["gradient"])
        adam = worst_step(a.after_one, b.after_one, places)
    losses = relative(a.losses, b.losses)
    measured = {"forward": forward, "gradient": gradient, "adam": adam, "loss": worst(losses[:LOSS_STEPS])}
    faults = [] if same else [recorded("names or shapes of the parameters differ: {names}",
                                       names=_unlike(a.gradients, b.gradients))]
    for name, tolerance in tolerances.items():
        value = measured[name]
        # Written so that NaN is a fault.
        if value is not None and not value <= tolerance:
            called = update if name == "adam" else TOLD[name]
            where = {"gradient": gradient_name or "None", "forward": place}.get(name, "")
            faults.append(_fault(called, f"{value:.2g}", where, f"{tolerance:.1g}", precision))
    return ParityResult(
        arm_a=slots[0], arm_b=slots[1], preset=experiment.preset, batch_size=a.images or experiment.train.batch_size,
        parameters_equal=same, forward_max_abs=forward, gradient_worst_rel=gradient, gradient_worst_name=gradient_name,
        adam_max_abs=adam, loss_rel_diff=losses, control_rel_diff=relative(a.losses, a.control),
        tolerances=tolerances, precision=precision, passed=not faults, reason="; ".join(faults) or None)


def _fault(what: str, value: str, where: str, tolerance: str, precision: Precision) -> str:
    """What differs too much; `where` is empty where there is one place only."""
    places = {"what": what, "value": value, "tolerance": tolerance}
    if precision == "float32":
        return (recorded("{what} differs by {value} in {where}, at most {tolerance} allowed", where=where, **places)
                if where else recorded("{what} differs by {value}, at most {tolerance} allowed", **places))
    places["format"] = WORDS[precision]
    return (recorded("{what} differs by {value} in {where}, at most {tolerance} allowed in {format}", where=where,
                     **places) if where else
            recorded("{what} differs by {value}, at most {tolerance} allowed in {format}", **places))


def _worst_output(a: ArmNumbers, b: ArmNumbers, allowed: Sequence[float]) -> tuple[float, float, str]:
    """The difference of the output that is furthest beyond what it may be apart by, that, and which of several."""
    each = [worst_absolute(one, other) for one, other in zip(outputs(a.eps, a.output_shapes),
                                                             outputs(b.eps, b.output_shapes), strict=True)]
    beyond = [math.inf if math.isnan(apart) else apart and apart / max(most, 1e-300)
              for apart, most in zip(each, allowed, strict=True)]
    at = beyond.index(max(beyond))
    return each[at], allowed[at], recorded("output {n}", n=at) if len(each) > 1 else ""


def _unlike(a: Arrays, b: Arrays) -> str:
    """Some of the parameters that are trained in one arm alone."""
    apart = sorted({name: value.shape for name, value in a.items()}.items()
                   ^ {name: value.shape for name, value in b.items()}.items())
    names = list(dict.fromkeys(name for name, _ in apart))
    first = ", ".join(names[:4])
    return recorded("{names} and {n} more", names=first, n=len(names) - 4) if len(names) > 4 else first


def worst_absolute(a: Floats, b: Floats) -> float:
    """Largest |a - b|; infinite for different shapes."""
    if a.shape != b.shape:
        return math.inf
    return float(np.max(np.abs(a.astype(np.float64) - b), initial=0.0))


def gradient_scales(gradients: Arrays) -> dict[str, float]:
    """What each tensor's differences are relative to: its largest gradient, or the floor where that is larger."""
    return {name: max(float(np.max(np.abs(value), initial=0.0)), GRADIENT_FLOOR) for name, value in gradients.items()}


def worst_gradient(a: Arrays, b: Arrays, scales: Mapping[str, float]) -> tuple[float, str]:
    """Largest max|a - b| / scale over all tensors, and the tensor's name."""
    errors = {name: worst_absolute(a[name], b[name]) / scale for name, scale in scales.items()}
    # A NaN must win: it never would in a plain maximum.
    name = max(errors, key=lambda key: math.inf if math.isnan(errors[key]) else errors[key])
    return errors[name], name


def counted(gradients: Arrays, grad_clip: float | None, tolerance: float) -> dict[str, NDArray[np.bool_]]:
    """Where a step is compared, by name: where the clipped gradient counts.

    Adam's first step has the size of the learning rate and the sign of the gradient, so that a gradient counts where
    the two arms' may not differ in sign: where it is larger than they may be apart.

    Args:
        gradients: of the reference.
        grad_clip: norm to which they are clipped.
        tolerance: how far they may be apart, relative to the largest of their tensor.
    """
    norm = math.sqrt(sum(float(np.sum(np.square(g.astype(np.float64)))) for g in gradients.values()))
    scale = 1.0 if grad_clip is None else min(1.0, grad_clip / (norm + 1e-6))
    return {name: (np.abs(gradients[name]) * scale > ADAM_MIN_GRADIENT) & (np.abs(gradients[name]) > tolerance * most)
            for name, most in gradient_scales(gradients).items()}


def worst_step(a: Arrays, b: Arrays, places: Mapping[str, NDArray[np.bool_]]) -> float | None:
    """Largest difference of what one step came to, in these places; None if there are none."""
    found = [worst_absolute(a[name][here], b[name][here]) for name, here in places.items() if here.any()]
    return worst(found) if found else None


def relative(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """|a - b| / |a| for each step that both have."""
    return [abs(x - y) / max(abs(x), 1e-30) for x, y in zip(a, b, strict=False)]


def worst(values: Sequence[float]) -> float:
    """The largest value; NaN as soon as one is NaN; infinite for none at all, because nothing was shown."""
    if not values:
        return math.inf
    return math.nan if any(math.isnan(value) for value in values) else max(values)
