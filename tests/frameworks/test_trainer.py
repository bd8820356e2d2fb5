"""The trainer: its arithmetic against closed forms, its state, its randomness, and what it must refuse."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from small_training import config, device, images, set_weights, trainer, weights

from impls.backend import TrainerState
from impls.errors import CheckpointError, DataError, UnavailableError, UsageError
from impls.recipe import randomness
from impls.recipe.schedule import Schedule


def matched_batch(chosen, data, step):
    """x_0, t and noise of a matched step, straight from the keyed streams."""
    size = chosen.train.batch_size
    x0 = data[randomness.batch_indices(chosen.seed, step, size, len(data))].astype(np.float64) / 127.5 - 1
    flipped = randomness.flips(chosen.seed, step, size)
    x0[flipped] = x0[flipped, :, ::-1]
    x0 = x0.transpose(0, 3, 1, 2)
    return x0, randomness.timesteps(chosen.seed, step, size, chosen.diffusion.T), \
        randomness.noise(chosen.seed, step, x0.shape)


def test_loss_is_the_mean_squared_error_on_the_keyed_streams(fw):
    data, chosen = images(), config()
    subject = trainer(fw, data)
    set_weights(subject, weights(subject, seed=2))
    for step in range(4):
        x0, t, noise = matched_batch(chosen, data, step)
        ab = Schedule.from_config(chosen.diffusion).alphas_bar[t].reshape(-1, 1, 1, 1)
        x_t = (np.sqrt(ab) * x0 + np.sqrt(1 - ab) * noise).astype(np.float32)
        want = np.mean((subject.predict(x_t, t) - noise) ** 2)
        subject.step()
        assert subject.losses() == pytest.approx([want], rel=1e-5)


def test_the_loss_of_a_large_batch_is_as_exact_as_that_of_a_small_one(fw):
    """One float32 sum over all numbers of a batch of the preset ddpm is off by more."""
    rng = np.random.default_rng(0)
    x0, noise, predicted = rng.standard_normal((3, 128, 3, 32, 32)).astype(np.float32)
    t = np.arange(128)
    place = device(trainer(fw))
    given = {name: fw.data.to_device(array, *place) for name, array in
             {"x0": x0, "noise": noise, "predicted": predicted, "t": t}.items()}
    subject = SimpleNamespace(
        draw=lambda x0: (given["t"], given["noise"]), network=lambda x, t: given["predicted"],
        scales=fw.diffusion.noise_scales(Schedule.from_config(config().diffusion), given["x0"]))
    want = np.mean((predicted.astype(np.float64) - noise) ** 2)
    assert fw.trainer.Trainer.loss(subject, given["x0"]).item() == pytest.approx(want, rel=1e-6)


def test_zero_predictor_loses_one(fw):
    subject = trainer(fw, train={"batch_size": 12})
    set_weights(subject, {name: np.zeros_like(p) for name, p in weights(subject, seed=0).items()})
    for _ in range(6):
        subject.step()
    noise = np.concatenate([randomness.noise(0, step, (12, 3, 16, 16)).reshape(-1) for step in range(1)])
    losses = subject.losses()
    assert losses[0] == pytest.approx(np.mean(noise**2), rel=1e-5)
    assert losses[0] == pytest.approx(1, abs=4 * np.sqrt(2 / noise.size))


def test_first_adam_step_is_the_formula(fw):
    """After one step Adam moves by lr g / (|g| + eps), with the clipped g and without weight decay."""
    for clip in (None, 0.05):
        subject = trainer(fw, train={"grad_clip": clip, "lr": 1e-3})
        start = weights(subject, seed=4)
        set_weights(subject, start)
        _, grads = subject.gradients()
        norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in grads.values()))
        factor = 1 if clip is None else min(1.0, clip / (norm + 1e-6))
        assert clip is None or factor < 0.9
        subject.step()
        state = subject.state()
        for name, unclipped in grads.items():
            g = unclipped * factor
            np.testing.assert_allclose(state.exp_avg[name], 0.1 * g, rtol=1e-4, atol=1e-8, err_msg=name)
            np.testing.assert_allclose(state.exp_avg_sq[name], 0.001 * g**2, rtol=2e-4, atol=1e-11, err_msg=name)
            clear = np.abs(g) > 1e-5
            want = start[name] - 1e-3 * g / (np.abs(g) + 1e-8)
            np.testing.assert_allclose(state.params[name][clear], want[clear], rtol=0, atol=2e-6, err_msg=name)


def test_gradients_in_their_millions_are_clipped_to_the_norm(fw):
    """Against a sum in float64: added up one by one in float32 its end would be lost."""
    array = (np.random.default_rng(0).standard_normal(3_000_017) * 1e-4).astype(np.float32)
    if fw.name == "pytorch":
        import torch
        weight, factor = torch.nn.Parameter(torch.zeros(array.size)), torch.tensor(array)
    else:
        import jittor as jt
        weight, factor = jt.zeros(array.size), jt.array(array)
    adam = fw.optimizer.Adam({"w": weight}, 0.01, None)
    adam.step((weight * factor).sum(), 0.0)
    norm = np.sqrt(np.sum(array.astype(np.float64) ** 2))
    moved = adam.arrays("exp_avg")["w"]
    assert norm > 0.01
    assert np.sqrt(np.sum(moved.astype(np.float64) ** 2)) == pytest.approx(0.1 * 0.01, rel=2e-4)


def test_warm_up_is_linear_in_the_step(fw):
    subject = trainer(fw, train={"warmup_steps": 4, "lr": 1e-3})
    set_weights(subject, weights(subject, seed=4))
    before, moved = subject.state().params["conv_in.weight"], []
    for _ in range(2):
        subject.step()
        after = subject.state().params["conv_in.weight"]
        moved.append(np.median(np.abs(after - before)))
        before = after
    assert moved[0] == pytest.approx(1e-3 / 4, rel=1e-2)
    rates = []
    for subject.steps_done in (0, 1, 3, 4, 100):
        rates.append(subject.learning_rate())
    assert rates == pytest.approx([2.5e-4, 5e-4, 1e-3, 1e-3, 1e-3])


def test_average_follows_its_closed_form(fw):
    """With equal weights w the average is d^n w_0 + (1 - d^n) w; with a training's, the recursion."""
    subject = trainer(fw)
    expected = subject.state().params
    for _ in range(3):
        subject.step()
        state = subject.state()
        expected = {name: 0.9 * expected[name] + 0.1 * p for name, p in state.params.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(state.ema[name], value, rtol=1e-5, atol=1e-7)
    place = device(subject)
    average = fw.data.to_device(np.array([2.0], np.float32), *place)
    for _ in range(20):
        fw.optimizer.update_average([average], [fw.data.to_device(np.array([5.0], np.float32), *place)], 0.9)
    assert average.numpy() == pytest.approx(0.9**20 * 2 + (1 - 0.9**20) * 5, rel=1e-5)


def test_training_approaches_the_bound_and_does_not_beat_it(fw):
    """On N(mu, s^2) data no predictor loses less than ab s^2 / V; a small network gets near in a few hundred steps."""
    mu, s = 0.1, 0.25
    rng = np.random.default_rng(0)
    pixels = rng.normal(mu, s, (512, 8, 8, 1))
    data = np.clip(np.rint((pixels + 1) * 127.5), 0, 255).astype(np.uint8)
    subject = trainer(
        fw, data,
        model={"image_size": 8, "image_channels": 1, "channels": [16], "attention_resolutions": []},
        train={"batch_size": 32, "lr": 3e-3, "warmup_steps": 20, "flip": False})
    for _ in range(250):
        subject.step()
    subject.losses()
    ab = Schedule.linear().alphas_bar
    z, t = rng.standard_normal((256, 1, 8, 8)), rng.integers(0, 1000, 256)
    x0 = rng.normal(mu, s, z.shape)
    a = ab[t].reshape(-1, 1, 1, 1)
    x_t = np.sqrt(a) * x0 + np.sqrt(1 - a) * z
    best = np.sqrt(1 - a) * (x_t - np.sqrt(a) * mu) / (a * s**2 + 1 - a)
    bound, loss = np.mean((best - z) ** 2), np.mean((subject.predict(x_t.astype(np.float32), t) - z) ** 2)
    assert bound < loss < 3 * bound
    assert bound == pytest.approx(np.mean(a * s**2 / (a * s**2 + 1 - a)), rel=0.1)


def test_state_round_trip_goes_on_exactly(fw):
    one = trainer(fw)
    for _ in range(3):
        one.step()
    state = one.state()
    other = trainer(fw, seed=0)
    other.load_state(state)
    for subject in (one, other):
        subject.losses()
        for _ in range(3):
            subject.step()
    assert one.losses() == other.losses()
    left, right = one.state(), other.state()
    assert left.step == right.step == 6
    for part in ("params", "ema", "exp_avg", "exp_avg_sq"):
        for name, array in getattr(left, part).items():
            np.testing.assert_array_equal(array, getattr(right, part)[name], err_msg=f"{part} {name}")


def test_state_is_a_copy(fw):
    subject = trainer(fw)
    subject.step()
    state = subject.state()
    kept = {name: p.copy() for name, p in state.params.items()}
    other = trainer(fw)
    other.load_state(state)
    for going in (subject, other):
        going.step()
        going.synchronize()
    for name, p in kept.items():
        np.testing.assert_array_equal(state.params[name], p)


@pytest.mark.parametrize("fault", ["shape", "missing", "extra", "nan", "ema"])
def test_load_state_refuses_what_does_not_fit(fw, fault):
    subject = trainer(fw)
    state = subject.state()
    params = dict(state.params)
    if fault == "shape":
        params["conv_out.bias"] = np.zeros(4, np.float32)
    elif fault == "missing":
        del params["conv_out.bias"]
    elif fault == "extra":
        params["conv_more.bias"] = np.zeros(3, np.float32)
    elif fault == "nan":
        params["conv_out.bias"] = np.full(3, np.nan, np.float32)
    bad = dataclasses.replace(state, params=params, ema=None if fault == "ema" else state.ema)
    with pytest.raises(CheckpointError, match="averaged" if fault == "ema" else "conv_"):
        subject.load_state(bad)
    for name, p in subject.state().params.items():
        np.testing.assert_array_equal(p, state.params[name])


def test_gradients_change_nothing(fw):
    subject, untouched = trainer(fw), trainer(fw)
    loss, _ = subject.gradients()
    for each in (subject, untouched):
        each.step()
    assert subject.losses() == untouched.losses() == pytest.approx([loss], rel=1e-6)


def test_native_randomness_is_seeded_and_differs_by_seed(fw):
    def losses(seed):
        subject = trainer(fw, seed=seed, train={"randomness": "native"})
        for _ in range(3):
            subject.step()
        return subject.losses()

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert all(np.isfinite(losses(1)))


def epochs(subject, steps):
    """Which image every slot of every batch holds, found by its first pixel's value."""
    return np.stack([np.rint((np.asarray(subject.batches.batch(step).numpy())[:, 0, 0, 0] + 1) * 127.5)
                     for step in range(steps)]).astype(int)


@pytest.mark.parametrize("train", [
    {"loader": "resident"}, {"loader": "native", "num_workers": 0}, {"loader": "native", "num_workers": 2}],
    ids=["resident", "loader", "loader with workers"])
def test_an_epoch_shows_every_image_once(fw, train):
    data = np.zeros((20, 16, 16, 3), np.uint8)
    data[:] = 10 * np.arange(20).reshape(20, 1, 1, 1)
    subject = trainer(fw, data, train={"randomness": "native", **train})
    try:
        order = epochs(subject, 15).reshape(3, 20)
        for epoch in order:
            assert sorted(epoch) == list(range(0, 200, 10))
        assert not (order[0] == order[1]).all()
    finally:
        subject.close()


def test_grey_images_in_a_file_are_read_once_and_never_written(fw, tmp_path):
    """Of one channel they lie in the file as the network takes them, and nothing would have to copy them."""
    np.save(tmp_path / "grey.npy", np.full((8, 16, 16, 1), 30, np.uint8))
    kept = np.load(tmp_path / "grey.npy", mmap_mode="r")
    subject = trainer(fw, kept, model={"image_channels": 1})
    try:
        assert epochs(subject, 2).tolist() == [[30] * 4] * 2
        assert not np.shares_memory(np.asarray(subject.batches.images.numpy()), kept)
    finally:
        subject.close()


@pytest.mark.parametrize("loader", ["resident", "native"])
def test_half_of_the_images_are_flipped(fw, loader):
    data = np.zeros((64, 16, 16, 3), np.uint8)
    data[:, :, 0] = 255
    for flip in (True, False):
        subject = trainer(fw, data, train={"randomness": "native", "loader": loader, "num_workers": 0,
                                           "batch_size": 32, "flip": flip})
        x = np.concatenate([subject.batches.batch(step).numpy() for step in range(8)])
        subject.close()
        assert x.shape == (256, 3, 16, 16)
        assert x.dtype == np.float32
        np.testing.assert_allclose(np.abs(x), 1, atol=2e-7)
        flipped = (x[:, 0, 0, 15] > 0).mean()
        assert 0.34 < flipped < 0.66 if flip else flipped == 0


def test_native_loader_trains_and_its_waits_are_counted(fw):
    subject = trainer(fw, train={"randomness": "native", "loader": "native", "num_workers": 2})
    for _ in range(7):
        subject.step()
    waits = subject.loader_wait_ns()
    assert len(waits) == 7
    assert min(waits) > 0
    assert subject.loader_wait_ns() == []
    assert np.isfinite(subject.losses()).all()
    subject.close()


def test_synchronize_leaves_no_work(fw):
    subject = trainer(fw)
    subject.synchronize()
    base = subject.pending_work()
    for _ in range(2):
        subject.step()
    subject.synchronize()
    if fw.name == "pytorch":
        assert subject.pending_work() is None
        return
    assert subject.pending_work() <= base
    lazy = subject.loss(subject.batches.batch(5))
    assert subject.pending_work() > base + 50
    lazy.sync()
    del lazy
    subject.synchronize()
    assert subject.pending_work() <= base


@pytest.mark.parametrize("options", [(), ("onednn",)], ids=["plain", "onednn"])
def test_steps_do_not_leak(fw, options):
    if fw.name != "jittor":
        pytest.skip("counts Jittor's live variables")
    import jittor as jt

    subject, counts = trainer(fw, options=options), []
    for _ in range(6):
        subject.step()
        subject.losses()
        subject.synchronize()
        counts.append((jt.liveness_info()["lived_vars"], jt.liveness_info()["lived_ops"]))
    assert counts[3:] == [counts[2]] * 3


def test_info_tells_what_runs(fw):
    subject = trainer(fw)
    info = subject.info
    assert (info.framework.lower(), info.device, info.dtype, info.tf32, info.threads) == (
        fw.name, "cpu", "float32", False, 1)
    assert set(info.operators) == {"group_norm", "group_norm_silu", "attention", "transpose", "upsample", "optimizer"}
    assert info.flags["mkldnn"] == "True"
    assert info.device_uuid is None
    assert subject.parameter_count == sum(p.size for p in subject.state().params.values())


def test_the_kernels_of_attention_are_read_not_believed(fw, monkeypatch):
    """Both frameworks choose by themselves; what is put in the place of their attention is what is told."""
    told = trainer(fw).info.operators
    if fw.name == "pytorch":
        assert "aten::_scaled_dot_product_flash_attention_for_cpu" in told["attention"]
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel(SDPBackend.MATH):
            assert "softmax apart (math)" in trainer(fw).info.operators["attention"]
        for wide in (False, True):
            assert_profiled(fw, monkeypatch, wide)
    else:
        assert told["attention"].endswith(": mkl_matmul")
        assert told["transpose"] == "transpose"
        monkeypatch.setattr("impls.jittor.network.transpose", lambda x: x.reindex(x.shape, ["i0", "i1", "i2"]))
        assert trainer(fw).info.operators["transpose"] == "reindex"
        assert "own C++" in trainer(fw, options=("onednn",)).info.operators["attention"]


def assert_profiled(fw, monkeypatch, wide):
    """The profiler names the kernel that an option asks for, also where plain attention copies nothing for it."""
    import torch

    monkeypatch.setattr(fw.ops, "FUSED_WIDTH", 1 if wide else 256)
    for options, fused in (((), not wide), (("attention=fused",), True), (("attention=math",), False)):
        subject = trainer(fw, options=options)
        with torch.profiler.profile() as profile:
            subject.step()
        names = {event.key for event in profile.key_averages()}
        assert ("aten::_scaled_dot_product_flash_attention_for_cpu_backward" in names) == fused, options
        assert ("aten::_softmax" in names) != fused, options


def test_matmul_flops_is_a_rate(fw):
    assert 1e8 < fw.backend.create((), "cpu", 1).matmul_flops(256, 3) < 1e14


def test_no_silent_fall_back_to_the_cpu(fw, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UnavailableError, match=r"(?i)cuda|jittor"):
        fw.backend.create((), "cuda", 1)
    for option in ("tf32", {"pytorch": "fp16", "jittor": "amp"}[fw.name]):
        with pytest.raises(UnavailableError, match=f"option {option} exists only on CUDA"):
            fw.backend.create((option,), "cpu", 1)


def test_data_that_does_not_fit_is_refused(fw):
    with pytest.raises(DataError, match="batch size 4: the data set has only 3"):
        trainer(fw, images(3))
    with pytest.raises(DataError, match="the network needs"):
        trainer(fw, images(8, size=8))
    with pytest.raises(UsageError, match="matched"):
        trainer(fw, train={"loader": "native"})
    with pytest.raises(UsageError, match="matched"):
        trainer(fw, train={"randomness": "native"}).gradients()


def test_a_foreign_state_never_half_loads(fw):
    subject = trainer(fw)
    other = trainer(fw, model={"channels": [16, 48]})
    state = other.state()
    with pytest.raises(CheckpointError, match="shape"):
        subject.load_state(TrainerState(1, state.params, state.ema, state.exp_avg, state.exp_avg_sq))


def test_a_step_cut_into_phases_is_the_same_step(fw):
    """Whole, cut, whole: the state of three whole ones; every phase is named once, in order."""
    subjects, phases = [trainer(fw), trainer(fw)], []
    for subject in subjects:
        set_weights(subject, weights(subject, seed=2))
    subjects[0].step()
    subjects[0].step_in_phases(phases.append)
    subjects[0].step()
    for _ in range(3):
        subjects[1].step()
    assert phases == ["data", "forward", "backward", "optimizer"]
    assert len(subjects[0].loader_wait_ns()) == 3
    # Operators that are computed apart are fused otherwise, which rounds otherwise.
    assert subjects[0].losses() == pytest.approx(subjects[1].losses(), rel=1e-5)
    cut, whole = (subject.state() for subject in subjects)
    assert cut.step == whole.step == 3
    for name, values in whole.params.items():
        np.testing.assert_allclose(cut.params[name], values, rtol=0, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(cut.ema[name], whole.ema[name], rtol=0, atol=2e-6, err_msg=name)
