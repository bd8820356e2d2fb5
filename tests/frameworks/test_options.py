"""Every option changes how the network is computed, never what."""

from __future__ import annotations

import numpy as np
import pytest
from small_training import config, set_weights, trainer, weights

from impls.devices import bf16_units
from impls.recipe.config import merged

OPTIONS = {
    "pytorch": [(("channels_last",), 2e-5), (("bf16",), 5e-2), (("channels_last", "bf16"), 5e-2),
                (("attention=math",), 2e-5), (("attention=fused",), 2e-5),
                pytest.param(("compile",), 2e-5, marks=pytest.mark.slow)],
    "jittor": [(("onednn",), 2e-5), (("attention=onednn",), 2e-5), (("norm=onednn",), 2e-5),
               pytest.param(("bf16", "onednn"), 5e-2, marks=pytest.mark.skipif(
                   not bf16_units("cpu"), reason="this processor has no units for bfloat16")),
               (("optimiser=onednn",), 2e-5), (("attention=onednn", "norm=onednn", "optimiser=onednn"), 2e-5)],
}


def pytest_generate_tests(metafunc):
    if "options" in metafunc.fixturenames:
        framework = metafunc.config.getoption("--framework")
        cases = [case if hasattr(case, "marks") else pytest.param(*case) for case in OPTIONS.get(framework, [])]
        metafunc.parametrize(("options", "tolerance"), cases, ids=lambda v: "+".join(v) if isinstance(v, tuple) else "")


def test_same_network_and_same_training(fw, options, tolerance):
    plain, subject = trainer(fw), trainer(fw, options=options)
    start = weights(plain, seed=5)
    for each in (plain, subject):
        set_weights(each, start)
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    want, got = (each.predict(x, np.array([5, 900])) for each in (plain, subject))
    assert np.abs(got - want).max() < tolerance * max(1, np.abs(want).max())
    assert ("bf16" in options) == (np.abs(got - want).max() > 1e-4)
    (loss, grads), (other_loss, other_grads) = plain.gradients(), subject.gradients()
    assert other_loss == pytest.approx(loss, rel=tolerance)
    for name, gradient in grads.items():
        scale = max(np.abs(gradient).max(), 1e-4 if tolerance < 1e-3 else 1e-1)
        assert np.abs(other_grads[name] - gradient).max() < 10 * tolerance * scale, name
    for _ in range(5):
        plain.step()
        subject.step()
    assert subject.losses() == pytest.approx(plain.losses(), rel=5 * tolerance)
    state, other = plain.state(), subject.state()
    for part in ("params", "ema", "exp_avg", "exp_avg_sq"):
        assert getattr(other, part).keys() == getattr(state, part).keys()
        assert all(array.dtype == np.float32 for array in getattr(other, part).values())
    resumed = trainer(fw, options=options)
    resumed.load_state(other)
    for each in (subject, resumed):
        each.step()
    assert resumed.losses() == pytest.approx(subject.losses(), rel=1e-6)


# What an option swaps, and what then stands in the record.
SWAPPED = {"attention=math": ("attention", "softmax apart (math)"), "attention=fused": ("attention", "flash_attention"),
           "attention=onednn": ("attention", "fused: jittor.code"), "norm=onednn": ("group_norm", "jittor.code"),
           "optimiser=onednn": ("optimizer", "own C++ operator, torch.optim.Adam")}


def test_info_names_the_options(fw, options, tolerance):
    plain, info = (trainer(fw, options=each).info for each in ((), options))
    assert info != plain
    differ = {name for name, told in info.operators.items() if told != plain.operators.get(name)}
    swapped = dict(SWAPPED[option] for option in options if option in SWAPPED)
    assert all(text in info.operators[name] for name, text in swapped.items())
    if swapped:
        assert differ - {"group_norm_silu"} == swapped.keys() and info.flags == plain.flags
    assert info.dtype == ("bfloat16" if "bf16" in options else "float32")


@pytest.mark.slow
def test_a_frozen_sampler_draws_from_the_weights_that_were_loaded_last(fw, framework):
    """Compiled code holds copies of them."""
    if framework != "pytorch":
        pytest.skip("an option of PyTorch alone")
    chosen = merged(config(), {"sample": {"batch_size": 2}}, "test")
    plain, frozen = (fw.backend.create(options, "cpu", 1).sampler(chosen)
                     for options in ((), ("channels_last", "compile", "freeze")))
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(2):
        params = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in plain.shapes.items()}
        for each in (plain, frozen):
            each.load(params)
        want, got = (each.sample(2, 0, "ddim", 3).astype(int) for each in (plain, frozen))
        assert np.abs(want - got).max() <= 1
        drawn.append(got)
    assert np.abs(drawn[0] - drawn[1]).max() > 1
