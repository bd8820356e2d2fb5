"""The dynamic loss scale: torch.amp.GradScaler's rule in both frameworks, with overflows planted into the gradients."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_training import set_weights, trainer, weights

from impls.recipe.scaling import LossScale
from impls.store.checkpoint import load_state, save_state

SHAPES = {"w": (6,), "b": (1,), "k": (17,)}
LR, CLIP, DECAY = 0.1, 1.0, 0.9
# What is wrong at a step, and where: the scale falls twice, grows, and a step long after the first is left out too.
PLANTED = {0: ("b", np.inf), 3: ("k", np.nan), 8: ("w", -np.inf), 9: ("k", np.inf)}
STEPS = 14


def gradients(step: int) -> dict[str, np.ndarray]:
    """Unscaled gradients of a step, from small ones to such as are clipped."""
    rng = np.random.default_rng(step)
    found = {name: (rng.standard_normal(shape) * 10.0 ** (step % 3 - 2)).astype(np.float32)
             for name, shape in SHAPES.items()}
    if step in PLANTED:
        name, wrong = PLANTED[step]
        found[name].reshape(-1)[-1] = wrong
    return found


class Oracle:
    """The documented rule, in float64."""

    def __init__(self, interval: int) -> None:
        self.interval, self.scale, self.good, self.skipped, self.steps = interval, 65536.0, 0, 0, 0
        self.params = {name: np.ones(shape) for name, shape in SHAPES.items()}
        self.m, self.v = ({name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
        self.ema = {name: np.ones(shape) for name, shape in SHAPES.items()}

    def step(self, grads: dict[str, np.ndarray]) -> None:
        if not all(np.isfinite(grad).all() for grad in grads.values()):
            self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
            return
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * 2, 0
        self.steps += 1
        norm = np.sqrt(sum(np.square(grad.astype(np.float64)).sum() for grad in grads.values()))
        for name, grad in grads.items():
            g = grad.astype(np.float64) * min(CLIP / (norm + 1e-6), 1.0)
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g * g
            root = np.sqrt(self.v[name] / (1 - 0.999**self.steps)) + 1e-8
            self.params[name] -= LR * self.m[name] / (1 - 0.9**self.steps) / root
            self.ema[name] += 0.1 * (self.params[name] - self.ema[name])


class Subject:
    """Our Adam over three parameters, with gradients that the test chooses."""

    def __init__(self, fw, scaled: bool = True) -> None:
        self.fw = fw
        if fw.name == "pytorch":
            import torch

            self.place = [torch.device("cpu")]
            self.params = {name: torch.ones(shape, requires_grad=True) for name, shape in SHAPES.items()}
        else:
            import jittor as jt

            self.place = []
            self.params = {name: jt.ones(shape) for name, shape in SHAPES.items()}
            jt.sync(list(self.params.values()))
        self.adam = fw.optimizer.Adam(self.params, CLIP, DECAY, scaled)

    def step(self, grads: dict[str, np.ndarray]) -> None:
        """A loss of which these are the gradients."""
        terms = [(p * self.fw.data.to_device(grads[name], *self.place)).sum() for name, p in self.params.items()]
        self.adam.step(terms[0] + terms[1] + terms[2], LR)
        if self.fw.name == "jittor":
            import jittor as jt

            # As a training does: of several steps at once other kernels are made, which round otherwise.
            jt.sync(self.adam.outputs())

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        found = {what: self.adam.arrays(what) for what in ("exp_avg", "exp_avg_sq", "ema")}
        return {"params": self.fw.data.to_numpy(self.params), **found}


def agrees(subject: Subject, oracle: Oracle) -> None:
    told = subject.adam.loss_scale()
    assert told == LossScale(scale=oracle.scale, good_steps=oracle.good, skipped=oracle.skipped)
    wanted = {"params": oracle.params, "exp_avg": oracle.m, "exp_avg_sq": oracle.v, "ema": oracle.ema}
    for what, found in subject.arrays().items():
        for name, array in found.items():
            np.testing.assert_allclose(array, wanted[what][name], rtol=2e-6, atol=1e-7, err_msg=f"{what} {name}")


def test_steps_that_overflow_are_left_out_and_the_scale_follows_the_rule(fw, monkeypatch):
    monkeypatch.setattr(fw.optimizer, "GROWTH_INTERVAL", 4)
    subject, oracle = Subject(fw), Oracle(interval=4)
    for step in range(STEPS):
        before = subject.arrays()
        grads = gradients(step)
        subject.step(grads)
        oracle.step(grads)
        agrees(subject, oracle)
        if step in PLANTED:
            for what, found in subject.arrays().items():
                for name, array in found.items():
                    np.testing.assert_array_equal(array, before[what][name])
    assert oracle.skipped == 4 and oracle.scale == 16384 and oracle.good == 0


def test_a_scale_goes_on_where_it_was(fw, monkeypatch):
    monkeypatch.setattr(fw.optimizer, "GROWTH_INTERVAL", 4)
    whole, first, rest = (Subject(fw) for _ in range(3))
    for step in range(STEPS):
        whole.step(gradients(step))
        if step < 6:
            first.step(gradients(step))
    # Into one that has gone another way.
    rest.step(gradients(0))
    scale, arrays = first.adam.loss_scale(), first.arrays()
    assert scale == LossScale(scale=16384.0, good_steps=2, skipped=2)
    for name, p in rest.params.items():
        if fw.name == "pytorch":
            p.data.copy_(first.params[name].data)
        else:
            p.update(first.params[name].copy())
    rest.adam.load_arrays(arrays, 6 - scale.skipped)
    rest.adam.load_loss_scale(scale)
    for step in range(6, STEPS):
        rest.step(gradients(step))
    for what, found in rest.arrays().items():
        for name, array in found.items():
            np.testing.assert_array_equal(array, whole.arrays()[what][name], err_msg=f"{what} {name}")
    end = whole.adam.loss_scale()
    assert rest.adam.loss_scale() == end.model_copy(update={"skipped": end.skipped - scale.skipped})


def test_the_scale_neither_overflows_nor_matters_to_the_gradients(fw, monkeypatch):
    monkeypatch.setattr(fw.optimizer, "GROWTH_INTERVAL", 1)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    subject = Subject(fw)
    subject.adam.load_loss_scale(LossScale(scale=2.0**126))
    for _ in range(3):
        subject.step(zeros)
    assert subject.adam.loss_scale() == LossScale(scale=2.0**127, good_steps=0)
    scaled, plain = Subject(fw), Subject(fw, scaled=False)
    for step in (1, 2, 4):
        for each in (scaled, plain):
            each.step(gradients(step))
    for what, found in scaled.arrays().items():
        for name, array in found.items():
            np.testing.assert_allclose(array, plain.arrays()[what][name], rtol=1e-6, atol=1e-8)


def test_pytorch_does_what_its_own_scaler_does_with_an_adam_that_waits(fw, monkeypatch):
    if fw.name != "pytorch":
        pytest.skip("Jittor has no scaler of its own")
    import torch

    monkeypatch.setattr(fw.optimizer, "GROWTH_INTERVAL", 4)
    subject = Subject(fw)
    params = {name: torch.ones(shape, requires_grad=True) for name, shape in SHAPES.items()}
    adam = torch.optim.Adam(params.values(), lr=LR)
    scaler = torch.amp.GradScaler("cpu", growth_interval=4)
    for step in range(STEPS):
        grads = gradients(step)
        subject.step(grads)
        adam.zero_grad()
        scaler.scale(sum((p * torch.tensor(grads[name])).sum() for name, p in params.items())).backward()
        scaler.unscale_(adam)
        torch.nn.utils.clip_grad_norm_(params.values(), CLIP)
        scaler.step(adam)
        scaler.update()
        assert subject.adam.loss_scale().scale == scaler.get_scale()
        for name, p in params.items():
            np.testing.assert_allclose(subject.arrays()["params"][name], p.detach().numpy(), rtol=1e-6, atol=1e-7)


def scaled_trainer(fw, **overrides):
    """A trainer that scales its loss as for float16, and computes in float32: the CPU has no fast float16."""
    subject = trainer(fw, **overrides)
    subject.optimizer = fw.optimizer.Adam(subject.network.params, subject.config.train.grad_clip,
                                          subject.config.train.ema_decay, scaled=True)
    return subject


def test_a_trainer_keeps_its_scale_in_its_state_and_its_checkpoint(fw, tmp_path):
    scaled, plain = scaled_trainer(fw), trainer(fw)
    start = plain.state()
    assert start.loss_scale is None and plain.loss_scale() is None
    # A float32 training goes on with a scaled loss, and the scale does not show in its gradients.
    scaled.load_state(start)
    assert scaled.loss_scale() == LossScale()
    (loss, grads), (wanted_loss, wanted) = scaled.gradients(), plain.gradients()
    assert loss == pytest.approx(wanted_loss)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, wanted[name], rtol=1e-5, atol=1e-6 * np.abs(wanted[name]).max() + 1e-12)
    # As many steps left out as a checkpoint says are missing in Adam's count.
    told = LossScale(scale=2048.0, good_steps=7, skipped=1)
    scaled.load_state(dataclasses.replace(start, step=2, loss_scale=told))
    scaled.step()
    assert scaled.loss_scale() == LossScale(scale=2048.0, good_steps=8, skipped=1)
    state = scaled.state()
    plain.load_state(dataclasses.replace(start, step=1))
    plain.steps_done = 2
    plain.step()
    for name, array in plain.state().params.items():
        np.testing.assert_allclose(state.params[name], array, rtol=1e-5, atol=1e-7)
    # What comes back from a file goes on exactly; a float32 training keeps what it was told for the next one.
    save_state(tmp_path / "one.safetensors", state, scaled.config)
    read, _ = load_state(tmp_path / "one.safetensors")
    assert read.loss_scale == state.loss_scale
    again = scaled_trainer(fw)
    again.load_state(read)
    plain.load_state(read)
    for each in (scaled, again, plain):
        each.step()
    assert again.losses() == scaled.losses()[-1:]
    for name, array in scaled.state().params.items():
        np.testing.assert_array_equal(again.state().params[name], array)
    assert again.state().loss_scale == scaled.state().loss_scale
    assert plain.loss_scale() is None and plain.state().loss_scale == read.loss_scale


def test_gradients_are_told_at_a_scale_that_they_stand(fw):
    subject = scaled_trainer(fw)
    set_weights(subject, {name: 3 * array for name, array in weights(subject, seed=5).items()})
    start = subject.state()
    subject.load_state(dataclasses.replace(start, loss_scale=LossScale(scale=1.5 * 2.0**127)))
    before = subject.loss_scale()
    _, grads = subject.gradients()
    assert subject.loss_scale() == before and all(np.isfinite(grad).all() for grad in grads.values())
    assert max(np.abs(grad).max() for grad in grads.values()) > 2
    subject.step()
    subject.synchronize()
    after = subject.state()
    assert after.loss_scale == LossScale(scale=before.scale / 2, skipped=1)
    for name, array in after.params.items():
        np.testing.assert_array_equal(array, start.params[name])
    assert np.isfinite(subject.losses()).all()


def test_pytorch_trains_in_float16(fw, monkeypatch):
    if fw.name != "pytorch":
        pytest.skip("Jittor's loops for float16 on the CPU take minutes to compile")
    monkeypatch.setattr(fw.backend, "require_available", lambda options, device: None)
    half, plain = trainer(fw, options=("fp16",)), trainer(fw)
    assert half.info.dtype == half.info.flags["products"] == half.info.flags["convolutions"] == "float16"
    half.load_state(plain.state())
    (loss, grads), (wanted_loss, wanted) = half.gradients(), plain.gradients()
    assert loss == pytest.approx(wanted_loss, rel=5e-3)
    for name, grad in grads.items():
        assert np.abs(grad - wanted[name]).max() <= 2e-2 * max(np.abs(wanted[name]).max(), 1e-2), name
    for _ in range(5):
        half.step()
        plain.step()
    assert half.losses() == pytest.approx(plain.losses(), rel=2e-2)
    told = half.loss_scale()
    assert told.skipped + told.good_steps == 5 and told.scale == 65536 / 2**told.skipped
