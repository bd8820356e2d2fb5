"""What the training tool relies on: a training goes on exactly, with dropout; a keyed loss on held-out images."""

from __future__ import annotations

import numpy as np
import pytest
from small_training import config, images, set_weights, trainer, weights

from impls.backend import TrainerState
from impls.recipe.schedule import Schedule
from impls.recipe.validation import held_out_loss
from impls.store.checkpoint import load_state, save_state

STEPS = 7
PARTS = ("params", "ema", "exp_avg", "exp_avg_sq")
OPTIONS = {"pytorch": [()], "jittor": [(), ("onednn",)]}


def pytest_generate_tests(metafunc):
    if "options" in metafunc.fixturenames:
        framework = metafunc.config.getoption("--framework")
        metafunc.parametrize("options", OPTIONS.get(framework, []), ids=lambda options: "+".join(options) or "plain")


def dropping(fw, options=(), **train):
    return trainer(fw, options=options, model={"dropout": 0.2}, train=train)


def assert_same(one: TrainerState, other: TrainerState) -> None:
    assert one.step == other.step
    for part in PARTS:
        for name, array in getattr(one, part).items():
            np.testing.assert_array_equal(array, getattr(other, part)[name], err_msg=f"{part} {name}")


def test_a_resumed_training_repeats_the_uninterrupted_one_bit_for_bit(fw, options, tmp_path):
    whole, states = dropping(fw, options), []
    for _ in range(STEPS):
        states.append(whole.state())
        whole.step()
    losses, end = whole.losses(), whole.state()
    for start in (0, 1, 4, STEPS - 1):
        path = tmp_path / f"{start}.safetensors"
        save_state(path, states[start], whole.config)
        rest = dropping(fw, options)
        # Whatever was drawn before must not matter.
        rest.step()
        rest.losses()
        rest.load_state(load_state(path)[0])
        for _ in range(start, STEPS):
            rest.step()
        assert rest.losses() == losses[start:]
        assert_same(rest.state(), end)


def test_dropout_masks_differ_from_step_to_step(fw, options):
    """With a rate of 0 nothing moves and a data set of one batch is always the same: only the masks differ."""
    subject = dropping(fw, options)
    set_weights(subject, weights(subject, seed=1))
    x0 = subject.batches.batch(0)
    found = []
    for subject.steps_done in (0, 1, 0):
        subject.draw(x0)
        t, noise = fw.data.to_device(np.array([5, 100, 400, 800]), *place(subject)), x0
        found.append(subject.network(noise, t).numpy() if fw.name == "jittor"
                     else subject.network(noise, t).detach().numpy())
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def place(subject):
    return [subject.device] if hasattr(subject, "device") else []


def test_gradients_are_those_of_the_next_step_with_its_masks(fw):
    subject = dropping(fw)
    loss, _ = subject.gradients()
    subject.step()
    assert subject.losses() == pytest.approx([loss], rel=1e-6)


def test_native_randomness_is_not_seeded_anew_at_every_step(fw, monkeypatch):
    subject = dropping(fw, randomness="native")
    monkeypatch.setattr(subject, "seed_generator", lambda step: pytest.fail("reseeded in a timed step"))
    for _ in range(2):
        subject.step()
    assert np.isfinite(subject.losses()).all()


def test_validation_loss_is_the_mean_over_keyed_draws(fw):
    subject, data = dropping(fw), images(10)
    set_weights(subject, weights(subject, seed=3))
    subject.step()
    got = subject.validation_loss(data, use_ema=False)
    assert got == held_out_loss(subject.predict, data, subject.config)
    other = dropping(fw, batch_size=10)
    other.load_state(subject.state())
    assert other.validation_loss(data, use_ema=False) == pytest.approx(got, rel=1e-5)
    noised = config(model={"dropout": 0.2}, seed=1)
    assert held_out_loss(subject.predict, data, noised) != pytest.approx(got, rel=1e-4)


def test_validation_loss_with_the_average_leaves_the_training_alone(fw, options):
    subject, untouched, data = dropping(fw, options), dropping(fw, options), images(6)
    for each in (subject, untouched):
        set_weights(each, weights(each, seed=3))
        for _ in range(3):
            each.step()
    averaged = dropping(fw, options)
    state = subject.state()
    averaged.load_state(TrainerState(state.step, state.ema, state.ema, state.exp_avg, state.exp_avg_sq))
    want = averaged.validation_loss(data, use_ema=False)
    assert subject.validation_loss(data, use_ema=True) == want
    assert subject.validation_loss(data, use_ema=False) != want
    assert_same(subject.state(), untouched.state())
    for each in (subject, untouched):
        each.losses()
        each.step()
    assert subject.losses() == untouched.losses()
    assert_same(subject.state(), untouched.state())


def test_without_averaged_weights_both_validation_losses_are_the_same(fw):
    subject = dropping(fw, ema_decay=None)
    assert subject.validation_loss(images(5), use_ema=True) == subject.validation_loss(images(5), use_ema=False)


@pytest.mark.parametrize("size", [8, 24, 64])
def test_second_moments_below_the_normal_range_are_no_nan(fw, size):
    """Gradients of rounding errors alone, as those of attention's key bias: their squares are subnormal."""
    p = fw.data.to_device(np.zeros(size, np.float32), *place(dropping(fw)))
    p = p.requires_grad_() if fw.name == "pytorch" else p.start_grad()
    slope = np.linspace(1e-22, 1e-20, size, dtype=np.float32)
    adam = fw.optimizer.Adam({"w": p}, None, None)
    adam.step((p * fw.data.to_device(slope, *place(dropping(fw)))).sum(), 1e-3)
    assert (adam.arrays("exp_avg_sq")["w"] < 2.0**-126).all()
    got = p.detach().numpy()
    np.testing.assert_allclose(got, -1e-3 * slope / 1e-8, rtol=1e-3)


def test_the_held_out_loss_of_the_best_predictor_of_one_image(fw):
    """One known image: its noise can be told exactly, and a predictor of zeros loses 1."""
    data = images(1)
    x0 = data.transpose(0, 3, 1, 2) / 127.5 - 1

    def knowing(x_t, t):
        ab = Schedule.linear().alphas_bar[t].reshape(-1, 1, 1, 1)
        return (x_t - np.sqrt(ab) * x0) / np.sqrt(1 - ab)

    many, chosen = np.repeat(data, 64, axis=0), config()
    assert held_out_loss(knowing, many, chosen) < 1e-8
    zeros = held_out_loss(lambda x_t, t: np.zeros_like(x_t), many, chosen)
    assert zeros == pytest.approx(1, abs=4 * np.sqrt(2 / many.size))
