"""Models of the user's own in each framework: the same update as a formula in numpy, states, gradients, refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from impls.errors import UsageError
from impls.pair.loaded import Pair, PairFailedError
from impls.pair.rule import Rule
from impls.recipe.config import ExperimentConfig
from impls.store.traces import TraceFolder

FILE = """
import numpy as np
def _model(nn):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(4 * 36, 3)
            self.frozen = nn.Linear(3, 3)
        def forward(self, x):
            return self.frozen(self.head(self.drop(self.norm(self.conv(x)).reshape(x.shape[0], -1))))
        execute = forward
    return Net()
def torch_model():
    from torch import nn
    model = _model(nn)
    model.frozen.requires_grad_(False)
    return model
def jittor_model():
    from jittor import nn
    model = _model(nn)
    for weight in model.frozen.parameters():
        weight.stop_grad()
    return model
def batch(rng): return {"x": rng.standard_normal((5, 2, 6, 6)), "y": rng.standard_normal((5, 3))}
def torch_loss(model, batch): return ((model(batch["x"]) - batch["y"]) ** 2).mean()
def jittor_loss(model, batch): return ((model(batch["x"]) - batch["y"]) ** 2).mean()
def outputs(model, batch): return {"all": model(batch["x"])}
optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9, "ema_decay": 0.5}
"""
BUFFERS = {"norm.running_mean", "norm.running_var"}
FROZEN = {"frozen.weight", "frozen.bias"}
TRAINED = {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight", "head.bias"}


@pytest.fixture
def made(fw, framework, tmp_path, monkeypatch):
    """A trainer, or forward passes, over a file; what executing it changes here is put back."""
    for name in ("meta_path", "path"):
        monkeypatch.setattr(sys, name, [*getattr(sys, name)])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    plain = fw.backend.create((), "cpu", 1)

    def make(what="trainer", text=FILE, randomness="matched"):
        path = tmp_path / "mine.py"
        path.write_text(text)
        backend = fw.pair.PairBackend(plain, str(path))
        base = ExperimentConfig(preset="pair")
        config = base.model_copy(update={"train": base.train.model_copy(update={"randomness": randomness})})
        return backend.trainer(config, np.empty(0, np.uint8)) if what == "trainer" else backend.forwards(config)

    return make


def reference(rule: Rule, weights, gradients):
    """PyTorch's formulas, in float64."""
    w, first, second = np.array(weights, np.float64), 0.0, 0.0
    for n, gradient in enumerate(gradients, 1):
        g = np.array(gradient, np.float64)
        if rule.grad_clip:
            g = g * min(1.0, rule.grad_clip / (np.sqrt((g**2).sum()) + 1e-6))
        if rule.name == "AdamW":
            w = w * (1 - rule.lr * rule.weight_decay)
        else:
            g = g + rule.weight_decay * w
        if rule.name == "SGD":
            first = rule.momentum * first + g
            w = w - rule.lr * (g + rule.momentum * first if rule.nesterov else first)
            continue
        b1, b2 = rule.betas
        first, second = b1 * first + (1 - b1) * g, b2 * second + (1 - b2) * g**2
        w = w - rule.lr / (1 - b1**n) * first / (np.sqrt(second) / np.sqrt(1 - b2**n) + rule.eps)
    return w


@pytest.mark.parametrize("rule", [
    Rule(lr=0.01), Rule(lr=0.01, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1),
    Rule(name="AdamW", lr=0.01, weight_decay=0.3), Rule(name="SGD", lr=0.1), Rule(name="SGD", lr=0.1, momentum=0.9),
    Rule(name="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05, grad_clip=0.5)])
def test_every_rule_is_the_same_formula(fw, framework, rule):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(7), rng.standard_normal((3, 7))
    if framework == "pytorch":
        import torch

        weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
        tensor = lambda value: torch.tensor(value, dtype=torch.float32)  # noqa: E731
    else:
        import jittor as jt

        weight = jt.array(start.astype(np.float32))
        tensor = lambda value: jt.array(value.astype(np.float32))  # noqa: E731
    optimizer = fw.pair.PairOptimizer({"w": weight}, rule)
    for gradient in gradients:
        optimizer.step((weight * tensor(gradient)).sum(), rule.lr)
    kept = {"exp_avg", "exp_avg_sq"} if rule.name != "SGD" else {"exp_avg"} if rule.momentum else set()
    assert {what for what in ("exp_avg", "exp_avg_sq") if optimizer.arrays(what)["w"].any()} == kept
    # What no step needs would be measured as memory.
    assert framework == "pytorch" or set(optimizer.flat) == kept
    found = optimizer.params["w"].numpy() if framework == "jittor" else weight.detach().numpy()
    np.testing.assert_allclose(found, reference(rule, start, gradients), rtol=2e-6, atol=2e-7)


def test_a_training_over_a_user_s_model(made):
    trainer = made()
    state, loss = trainer.state(), trainer.gradients()[0]
    assert set(state.params) == TRAINED | BUFFERS | FROZEN and trainer.images_per_step == 5
    again, gradients = trainer.gradients()
    assert set(gradients) == TRAINED and loss == pytest.approx(again, rel=1e-6)
    same = trainer.state()
    assert all(np.array_equal(state.params[name], same.params[name]) for name in state.params), "nothing has changed"
    probe = trainer.probe()
    assert probe["0"].shape == (5, 3) and np.array_equal(probe["0"], trainer.probe()["0"])
    phases = []
    trainer.step_in_phases(phases.append)
    for _ in range(3):
        trainer.step()
    trainer.synchronize()
    after = trainer.state()
    changed = {name for name in state.params if not np.array_equal(state.params[name], after.params[name])}
    assert changed == TRAINED | BUFFERS and phases == ["data", "forward", "backward", "optimizer"]
    assert trainer.losses()[0] == pytest.approx(loss, rel=1e-5) and after.step == 4
    assert set(after.ema) == set(after.params) and after.exp_avg["conv.weight"].any()
    assert not np.array_equal(after.ema["conv.weight"], after.params["conv.weight"])
    trainer.load_state(state)
    trainer.step()
    assert trainer.losses() == [pytest.approx(loss, rel=1e-5)]
    trainer.close()


def test_the_other_model_s_names_come_and_go_with_its_states(made, framework):
    if framework == "pytorch":
        pytest.skip("the names are PyTorch's")
    trainer = made(text=FILE + "def names(torch_name): return torch_name.replace('their.', '')\n")
    loss, own = trainer.gradients()
    state = trainer.state()
    theirs = {f"their.{name}": value for name, value in reversed(state.params.items())}
    zeros = {name: np.zeros_like(value) for name, value in theirs.items()}
    trainer.load_state(type(state)(0, theirs, None, zeros, zeros))
    again, gradients = trainer.gradients()
    assert again == pytest.approx(loss, rel=1e-6)
    assert set(gradients) == {f"their.{name}" for name in own}
    assert list(trainer.state().params) == list(theirs)
    with pytest.raises(UsageError, match=r"mine\.py: torch_model\(\) and jittor_model\(\): weights do not map"):
        trainer.load_state(type(state)(0, {"other": np.zeros((9, 9), np.float32)}, None, {}, {}))


def test_a_trace_says_everything_by_the_other_model_s_names_and_changes_nothing(made, framework, tmp_path):
    trainer = made(text=FILE + "def names(torch_name): return torch_name.replace('their.', '')\n")
    state = trainer.state()
    theirs = {f"their.{name}": value for name, value in state.params.items()}
    zeros = {name: np.zeros_like(value) for name, value in theirs.items()}
    trainer.load_state(type(state)(0, theirs, dict(theirs), zeros, dict(zeros)))
    loss, _ = trainer.gradients()
    folder = TraceFolder(tmp_path / "trace")
    # Beside PyTorch, Jittor is never the reference, which alone has twins; in float64 it compiles everything again.
    for twin in ("plain", "double", "perturbed") if framework == "pytorch" else ("plain",):
        sink = folder if twin == "plain" else lambda group, arrays: None
        calls = trainer.trace(twin, sink, None, 0)
        if twin == "plain":
            folder.finish(calls)
        trainer.trace(twin, sink, folder, 2)
        after = trainer.state()
        assert all(np.array_equal(after.params[name], value) for name, value in theirs.items()), twin
        assert trainer.gradients()[0] == pytest.approx(loss, rel=1e-6), twin
    assert [call.name for call in calls] == ["", "their.conv", "their.norm", "drop", "their.head", "their.frozen"]
    assert set(folder.gradients()) == {f"their.{name}" for name in TRAINED}
    assert {"gradient of weight", "running_mean afterwards"} <= set(folder.read("fed 2"))
    moved = folder.read("update 0")
    assert {f"weight their.{name}" for name in TRAINED} <= set(moved) and len(folder.read("losses")["losses"]) == 2
    gradient = folder.gradients()["their.conv.weight"].reshape(-1)
    assert moved["weight their.conv.weight"] == pytest.approx(-0.1 * gradient, abs=1e-6)
    assert moved["exp_avg their.conv.weight"] == pytest.approx(gradient, abs=1e-6)
    # A module that was in float64 has other buffers than before: what is loaded goes into them.
    before, mean = trainer.probe()["0"], theirs["their.norm.running_mean"]
    trainer.begin({**theirs, "their.norm.running_mean": mean + 1})
    assert not np.allclose(before, trainer.probe()["0"])
    trainer.close()


def test_dropout_drops_in_a_training_and_not_in_a_check(made):
    assert len({made().gradients()[0] for _ in range(2)}) == 1
    trainer = made(randomness="native")
    assert abs(trainer.gradients()[0] - made().gradients()[0]) > 1e-4


def test_whatever_layer_drops_is_switched_off_in_a_check(made, framework):
    attention = {"pytorch": "nn.MultiheadAttention", "jittor": "jt.attention.MultiheadAttention"}[framework]
    path = {"pytorch": "nn.Dropout3d", "jittor": "nn.DropPath"}[framework]
    more = (f"    model.rnn, model.path, model.attention = nn.LSTM(3, 3, 2, dropout=0.5), {path}(0.5), "
            f"{attention}(4, 2, dropout=0.5)\n    return model\n")
    text = FILE.replace("    return model\n", more).replace("import numpy as np", "import numpy as np, sys")
    module = made(text=text.replace("jt.attention", "sys.modules['jittor'].attention")).network.module
    assert (module.rnn.dropout, module.path.p, module.attention.dropout, module.drop.p) == (0, 0, 0, 0)


def test_a_mask_by_infinity_is_one_line(made, framework):
    make = {"pytorch": "model.register_buffer('mask', __import__('torch').tensor([0.0, -np.inf]))",
            "jittor": "model.mask = __import__('jittor').array(np.array([0, -np.inf], np.float32)).stop_grad()"}
    trainer = made(text=FILE.replace("    return model\n", f"    {make[framework]}\n    return model\n"))
    with pytest.raises(UsageError, match=r"mine\.py: \w+_model\(\): mask holds NaN or infinity at step 0"):
        trainer.state()


def test_forward_passes_leave_no_gradients(made, framework):
    forwards = made("forwards")
    for _ in range(3):
        forwards.step()
    forwards.synchronize()
    assert forwards.images_per_step == 5 and tuple(forwards.latest[0].shape) == (5, 3)
    if framework == "pytorch":
        assert not forwards.latest[0].requires_grad
    else:
        assert forwards.latest[0].is_stop_grad()
    forwards.close()


@pytest.mark.parametrize(("old", "new", "error", "words"), [
    (".mean()", "", UsageError, r"mine\.py: \w+_loss\(\) gave a \w+ of shape \(5, 3\), not"),
    ("return ((model", "return 3 or ((model", UsageError, "gave int, not one number"),
    (".mean()", ".mean() * 1e38 * 1e9", UsageError, r"\w+_loss\(\) gave inf for the first batch"),
    ("    return model\n", "    return 3\n", UsageError, r"mine\.py: \w+_model\(\) gave int, not a \w+\.nn\.Module"),
    ("    return Net()", "    return Net().missing", PairFailedError, r"py: \w+_model\(\) failed: AttributeError"),
])
def test_what_is_wrong_is_said_with_file_and_function(made, old, new, error, words):
    with pytest.raises(error, match=words):
        made(text=FILE.replace(old, new)).gradients()
    with pytest.raises(error, match=words):
        (trainer := made(text=FILE.replace(old, new), randomness="native")).step()
        trainer.losses()


def test_the_other_framework_cannot_be_imported(made, framework, tmp_path):
    made()
    other = {"pytorch": "jittor", "jittor": "torch"}[framework]
    path = tmp_path / "other.py"
    path.write_text(FILE.replace("def batch(rng):", f"def batch(rng):\n    import {other}\n   "))
    with pytest.raises(PairFailedError, match=f"ImportError: {other} is imported in the worker of"):
        Pair(path, {"pytorch": "torch", "jittor": "jittor"}[framework]).batches(0)
