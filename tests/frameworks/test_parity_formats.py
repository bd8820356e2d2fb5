"""An arm whose convolutions round as TF32 does fails the strict parity check and passes that of TF32; so other formats.

The rounding is emulated around the framework's own operators; everything else is what the parity check really does.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from coarse import ROUNDINGS, TF32, arm_numbers, coarse
from small_training import config, images

from harness.suites.parity import numbers as parity

STEPS = 4


@pytest.fixture(scope="module")
def recipe():
    return parity.parity_experiment(config(), 4)


@pytest.fixture(scope="module")
def exact(fw, recipe):
    return arm_numbers(fw.backend, recipe, images(), STEPS)


@pytest.mark.slow
def test_emulated_tf32_convolutions_in_either_arm_fail_the_strict_gate_and_pass_that_of_tf32(fw, recipe, exact):
    with coarse(fw.name, TF32, products=False):
        rounded = arm_numbers(fw.backend, recipe, images(), STEPS)
    again = arm_numbers(fw.backend, recipe, images(), 1)
    assert parity.compare(("A", "B"), exact, again, recipe).forward_max_abs == 0, "the patches are gone"
    honest = replace(rounded, precision="tf32")
    for a, b in ((exact, rounded), (rounded, exact)):
        result = parity.compare(("A", "B"), a, b, recipe)
        assert not result.passed and result.precision == "float32"
        assert "forward differs" in result.reason and "gradient differs" in result.reason
    for a, b in ((exact, honest), (honest, exact), (honest, honest)):
        result = parity.compare(("A", "B"), a, b, recipe)
        assert result.passed and result.precision == "tf32", result.reason


@pytest.mark.parametrize("name", ["tf32", "float16", "bfloat16"])
def test_every_format_fails_the_strict_gate_and_passes_its_own(fw, recipe, exact, name):
    with coarse(fw.name, ROUNDINGS[name]):
        rounded = arm_numbers(fw.backend, recipe, images(), STEPS)
    strict = parity.compare(("A", "B"), exact, rounded, recipe)
    assert not strict.passed and "forward differs" in strict.reason
    own = parity.compare(("A", "B"), exact, replace(rounded, precision=name), recipe)
    assert own.passed, own.reason
    # A tolerance that nothing comes near would hold nothing.
    assert own.forward_max_abs > own.tolerances["forward"] / 40
