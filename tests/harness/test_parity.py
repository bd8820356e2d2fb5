"""The comparison of two arms' numbers: what it lets pass, and that each kind of difference is caught and named."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from harness.record.events import ParityResult
from harness.suites import weights
from harness.suites.parity import numbers as parity
from harness.suites.parity.check import _said
from harness.suites.parity.subject import Models
from harness.suites.parity.tolerances import TOLERANCES
from impls.backend import TrainerState
from impls.recipe.config import ExperimentConfig, preset
from impls.recipe.precision import WORDS

TINY = parity.parity_experiment(preset("tiny"), 4)
SHAPES = {"conv.weight": (8, 4, 3, 3), "out.weight": (3, 8, 3, 3), "norm.weight": (8,), "norm.bias": (8,)}


def numbers(seed=0):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return parity.ArmNumbers(
        eps=rng.standard_normal((4, 3, 8, 8)).astype(np.float32), gradients=arrays,
        after_one={name: value + 1 for name, value in arrays.items()}, losses=[1.0 / (1 + i) for i in range(50)],
        control=[1.0 / (1 + i) for i in range(50)], precision="float32")


def check(b, a=None, experiment=TINY):
    return parity.compare(("A", "B"), a or numbers(), b, experiment)


def changed(arrays, name, delta):
    value = arrays[name].copy()
    value.flat[0] += delta
    return {**arrays, name: value}


def test_the_same_numbers_pass():
    result = check(numbers())
    assert result.passed and result.reason is None and result.parameters_equal
    assert (result.forward_max_abs, result.gradient_worst_rel, result.adam_max_abs) == (0, 0, 0)
    assert result.tolerances == {"forward": 2e-5, "gradient": 1e-4, "adam": 1e-6, "loss": 1e-4}


def test_every_difference_is_caught_and_named():
    same = numbers()
    largest = float(np.abs(same.gradients["norm.bias"]).max())
    cases = {
        "forward": replace(same, eps=same.eps + np.float32(5e-5)),
        "norm.bias": replace(same, gradients=changed(same.gradients, "norm.bias", 2e-4 * largest)),
        "adam": replace(same, after_one=changed(same.after_one, "conv.weight", 1e-5)),
        "loss": replace(same, losses=[value * 1.001 for value in same.losses]),
        "names or shapes": replace(same, gradients={**same.gradients, "more": np.zeros(1, np.float32)}),
    }
    for word, other in cases.items():
        result = check(other)
        assert not result.passed and word in result.reason, word


def test_just_inside_the_tolerances_passes():
    same = numbers()
    largest = float(np.abs(same.gradients["norm.bias"]).max())
    assert check(replace(same, eps=same.eps + np.float32(1e-5))).passed
    assert check(replace(same, gradients=changed(same.gradients, "norm.bias", 0.5e-4 * largest))).passed
    assert check(replace(same, losses=[value * 1.00005 for value in same.losses])).passed


def test_large_presets_have_a_wider_loss_tolerance():
    other = replace(numbers(), losses=[value * 1.001 for value in numbers().losses])
    assert not check(other).passed
    assert check(other, experiment=parity.parity_experiment(preset("ddpm"), 4)).passed


def test_only_the_first_twenty_losses_decide():
    losses = numbers().losses
    assert check(replace(numbers(), losses=[*losses[:20], *(2 * value for value in losses[20:])])).passed
    assert not check(replace(numbers(), losses=[*losses[:19], 2 * losses[19], *losses[20:]])).passed


@pytest.mark.parametrize("field", ["eps", "gradients", "after_one", "losses"])
def test_nan_never_passes(field):
    same = numbers()
    bad = {"eps": same.eps * np.float32(np.nan),
           "gradients": changed(same.gradients, "conv.weight", np.nan),
           "after_one": changed(same.after_one, "conv.weight", np.nan),
           "losses": [math.nan, *same.losses[1:]]}[field]
    assert not check(replace(same, **{field: bad})).passed


def test_no_losses_are_no_evidence():
    assert not check(replace(numbers(), losses=[])).passed


def test_tiny_gradients_are_held_to_the_floor():
    same = numbers()
    small = {name: value * np.float32(1e-9) for name, value in same.gradients.items()}
    noisy = {name: value * np.float32(-1) for name, value in small.items()}
    assert check(replace(same, gradients=noisy), replace(same, gradients=small)).gradient_worst_rel < 1e-4


def test_adam_is_not_compared_where_the_clipped_gradient_is_negligible():
    same = numbers()
    weak = {name: value * np.float32(1e-7) for name, value in same.gradients.items()}
    shifted = {name: value + 1 for name, value in same.after_one.items()}
    result = check(replace(same, gradients=weak, after_one=shifted), replace(same, gradients=weak))
    assert result.adam_max_abs is None and result.passed


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_the_coarser_format_of_both_arms_says_what_is_allowed_and_every_figure_is_still_held_to_it(precision):
    allowed = TOLERANCES[precision]
    same = replace(numbers(), precision=precision)
    off = replace(same, eps=same.eps + np.float32(0.9 * allowed.forward))
    for one, other in ((numbers(), off), (off, numbers()), (same, off)):
        result = check(other, one)
        assert result.passed and result.reason is None and result.precision == precision
        assert result.tolerances == allowed.of("tiny")
    assert not check(replace(off, precision="float32")).passed
    bad = {"forward": replace(same, eps=same.eps + np.float32(1.1 * allowed.forward)),
           "gradient": replace(same, gradients={name: value * np.float32(1 + 1.1 * allowed.gradient)
                                                for name, value in same.gradients.items()}),
           "adam": replace(same, after_one={name: value + np.float32(1e-4) for name, value in same.after_one.items()}),
           "loss": replace(same, losses=[value * (1 + 1.1 * allowed.loss_tiny) for value in same.losses])}
    for word, other in bad.items():
        result = check(other)
        assert not result.passed and word in result.reason and WORDS[precision] in result.reason, word


def test_tolerances_grow_with_the_coarseness_of_the_format():
    for finer, coarser in pairwise(["float32", "tf32", "float16", "bfloat16"]):
        one, other = TOLERANCES[finer].of("ddpm"), TOLERANCES[coarser].of("ddpm")
        assert all(one[name] <= other[name] for name in one)


def test_adam_is_not_compared_where_rounding_may_turn_a_gradients_sign():
    same = numbers()
    name = "norm.bias"
    weak, turned = same.gradients[name].copy(), same.after_one[name].copy()
    weak[1], turned[1] = np.abs(weak).max() * TOLERANCES["bfloat16"].gradient / 2, turned[1] + 4e-4
    one = replace(same, gradients={**same.gradients, name: weak})
    other = replace(one, after_one={**same.after_one, name: turned})
    assert "adam" in check(other, one).reason
    assert check(replace(other, precision="bfloat16"), one).passed


def of_pair(sizes, control=1e-6):
    """A model of the user's own with outputs of these sizes, its control off by `control` of each, and what it says."""
    rng = np.random.default_rng(1)
    parts = [size * rng.standard_normal(500).astype(np.float32) for size in sizes]
    eps = np.concatenate(parts)
    one = replace(numbers(), eps=eps, output_shapes=((500,),) * len(sizes) if len(sizes) > 1 else (),
                  control_numbers=parity.ControlNumbers(eps * np.float32(1 + control), numbers().gradients,
                                                        numbers().after_one))
    models = Models(ExperimentConfig(preset="pair"))
    for perturbation in (0.0, 1e-7):
        models.start(TrainerState(0, one.after_one, None, {}, {}), perturbation)

    def held(factors):
        other = replace(one, eps=np.concatenate([part * np.float32(f) for part, f in zip(parts, factors, strict=True)]))
        return parity.compare(("A", "B"), one, other, models.experiment, models.allowed(one, "float32"),
                              models.of_outputs(one, "float32"))

    return held


@pytest.mark.parametrize("control", [0.0, 0.01])
def test_a_step_in_proportion_to_its_gradient_may_be_off_by_what_the_control_shows(control):
    """One step of SGD from zero weights, of gradients that rounding moves by `control` of themselves."""
    same, rate = numbers(), np.float32(0.02)
    begun = TrainerState(0, {name: np.zeros_like(value) for name, value in same.gradients.items()}, None, {}, {})

    def stepped(off):
        gradients = {name: value * np.float32(1 + off) for name, value in same.gradients.items()}
        return replace(same, gradients=gradients, after_one={name: -rate * value for name, value in gradients.items()})

    twin, models = stepped(control), Models(ExperimentConfig(preset="pair"))
    one = replace(stepped(0.0), control_numbers=parity.ControlNumbers(twin.eps, twin.gradients, twin.after_one))
    for perturbation in (0.0, 1e-7):
        models.start(begun, perturbation)

    def faults(off):
        allowed = models.allowed(one, "float32")
        return parity.compare(("A", "B"), one, stepped(off), models.experiment, allowed, [1.0], models.update
                              ).reason or ""

    assert faults(0.5 * control) == "" and "optimiser step" in faults(0.3)
    assert ("optimiser step" in faults(0.05)) == (control == 0)


@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 1e4])
def test_an_output_of_any_size_is_held_to_its_own(size):
    held = of_pair([size])
    assert held([1.0]).passed and held([1 + 1e-5]).passed and not held([1.001]).passed
    # Rounding that grows in it grows in its control.
    assert of_pair([size], control=2e-4)([1.001]).passed


def test_a_small_output_does_not_hide_behind_a_large_one():
    held = of_pair([1e3, 1e-4, 0.0])
    assert held([1, 1, 1]).passed and held([1 + 1e-5, 1 + 1e-5, 1]).passed
    result = held([1, 1.001, 1])
    assert not result.passed and "forward differs by " in result.reason and " in output 1, at most " in result.reason
    assert result.forward_max_abs < 1e-6 and result.tolerances["forward"] < 1e-8
    assert " in output 0, " in held([1.001, 1.0001, 1]).reason
    assert not held([1, np.nan, 1]).passed


def test_a_pair_s_control_is_off_by_a_share_of_each_weight():
    models = Models(ExperimentConfig(preset="pair"))
    rng = np.random.default_rng(0)
    own = {"small": 1e-6 * rng.standard_normal(99).astype(np.float32), "mask": np.float32([0, -1e9, 3])}
    found = models.start(TrainerState(0, own, None, {}, {}), parity.PERTURBATION).params
    for name, value in own.items():
        assert np.abs(found[name] - value).max() > 0 and (np.abs(found[name] - value) <= 1e-6 * np.abs(value)).all()


def test_random_weights_are_keyed_nowhere_zero_and_perturbed_by_little():
    one, same = parity.random_state(SHAPES, 5, 3), parity.random_state(SHAPES, 5, 3)
    other, control = parity.random_state(SHAPES, 6, 3), parity.random_state(SHAPES, 5, 3, parity.PERTURBATION)
    for name, shape in SHAPES.items():
        assert one.params[name].shape == shape and one.params[name].dtype == np.float32
        assert np.array_equal(one.params[name], same.params[name])
        assert not np.array_equal(one.params[name], other.params[name])
        assert np.all(one.params[name] != 0)
        assert 0 < np.abs(one.params[name] - control.params[name]).max() < 1e-6
        assert not one.exp_avg[name].any()
    assert one.step == 0
    assert np.std(one.params["conv.weight"]) == pytest.approx(1 / 6, rel=0.2)
    assert np.std(one.params["out.weight"]) == pytest.approx(weights.OUTPUT_SCALE / math.sqrt(72), rel=0.2)


def test_the_parity_recipe_leaves_nothing_to_chance():
    assert TINY.model.dropout == 0 and TINY.train.randomness == "matched" and TINY.train.loader == "resident"
    assert TINY.train.warmup_steps == 0 and TINY.train.batch_size == 4
    probes = parity.probe_inputs(TINY)
    assert probes["x"].shape == (4, 3, 32, 32) and list(probes["t"]) == [0, 333, 666, 999]


@pytest.mark.parametrize(("measured", "gradient", "loss", "said"), [
    (True, 0.3, 6.0, "moves this network's gradients by up to 3.0e-02, its losses by up to 6.0e-01"),
    (True, 1e-4, 5e-3, ""), (True, 1e-4, 0.05, "gradients by up to 1.0e-05, its losses by up to 5.0e-03"),
    (False, 0.3, 6.0, "")])
def test_a_network_that_rounding_moves_is_told_by_how_much(measured, gradient, loss, said):
    result = ParityResult(
        arm_a="A", arm_b="B", preset="pair", batch_size=8, parameters_equal=True, forward_max_abs=1e-8,
        gradient_worst_rel=0.1, gradient_worst_name="w", adam_max_abs=1e-5, loss_rel_diff=[1.4], control_rel_diff=[0.6],
        tolerances={"forward": 1e-6, "gradient": gradient, "adam": 1e-4, "loss": loss}, precision="float32",
        passed=True)
    line = _said(result, "pytorch", "jittor", None, SimpleNamespace(measured=measured, update="Adam step"))
    assert line.startswith("parity: pytorch and jittor agree: forward 1.0e-08, gradients 1.0e-01")
    assert said in line and ("rounding alone" in line) == bool(said)
