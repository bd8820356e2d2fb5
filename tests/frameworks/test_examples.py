"""docs/examples/ddpm_<framework>.py is Trainer and Sampler written plainly: the same losses, the same images."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from small_sampling import sampler
from small_training import config, images, set_weights, trainer, weights

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
STEPS = 10


@pytest.fixture(scope="module")
def example(fw):
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / f"ddpm_{fw.name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_loses_what_the_trainer_loses(fw, example):
    chosen, data = config(train={"warmup_steps": 4, "lr": 1e-3}), images()
    subject, other = (trainer(fw, data, train={"warmup_steps": 4, "lr": 1e-3}) for _ in range(2))
    for each in (subject, other):
        set_weights(each, weights(each, seed=2))
    for _ in range(STEPS):
        subject.step()
    average, losses = example.train(other.network.unet, chosen, data, STEPS)
    # The norm to which gradients are clipped is summed in another order.
    assert losses == pytest.approx(subject.losses(), rel=5e-6)
    assert losses[-1] < losses[0]
    want = subject.state().ema
    assert set(average) == set(want)
    for name, mean in average.items():
        # Adam moves by its rate, 1e-3 a step, also where a gradient is rounding alone, as that of attention's key bias.
        np.testing.assert_allclose(mean.numpy(), want[name], rtol=0, atol=1e-4, err_msg=name)


def test_the_example_draws_what_the_sampler_draws(fw, example):
    subject = sampler(fw, T=50)
    want = subject.sample(3, 5, "ddim", 7)
    got = example.sample(subject.network.unet, subject.config, 3, 7, 5)
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1
    assert (got == want).mean() >= 0.999


def test_the_example_runs_by_itself(fw, example, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(example, "preset", lambda name: config())
    monkeypatch.setattr(example.datasets, "prepare", lambda name: Fixed())
    monkeypatch.setattr(sys, "argv", ["ddpm", "--steps", "2", "--batch-size", "4", "--images", "2",
                                      "--out", str(tmp_path / "grid.png")])
    example.main()
    assert (tmp_path / "grid.png").stat().st_size > 0
    assert "step 0: loss" in capsys.readouterr().out


class Fixed:
    """In place of a data set on disk."""

    def open(self):
        return images()
