"""The loss on held-out images: whatever is called how often, it is the mean over every image's own draws."""

from __future__ import annotations

import numpy as np
import pytest

from impls.recipe.config import merged, preset
from impls.recipe.randomness import stream
from impls.recipe.schedule import Schedule
from impls.recipe.validation import held_out_loss

MODEL = {"image_size": 8, "image_channels": 1, "channels": [32], "attention_resolutions": []}


def config(batch_size):
    return merged(preset("tiny"), {"seed": 5, "model": MODEL, "train": {"batch_size": batch_size}}, "test")


def images(count):
    return np.random.default_rng(1).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


class Predictor:
    """eps as a function of x_t and t of each image alone; remembers the shapes of its calls."""

    def __init__(self):
        self.shapes = []

    def __call__(self, x_t, t):
        self.shapes.append((x_t.shape, t.shape))
        return (0.7 * x_t + np.cos(t).reshape(-1, 1, 1, 1)).astype(np.float32)


def one_by_one(predict, data, chosen):
    """Ho et al. 2020, equation 14, image by image: timesteps spread over 0..T-1, the noise of the image's number."""
    even = np.arange(len(data)) * chosen.diffusion.T // len(data)
    spread = stream(chosen.seed, "validation timesteps").permutation(even)
    losses = []
    for number, t in enumerate(spread):
        noise = stream(chosen.seed, "validation noise", number).standard_normal((1, 1, 8, 8))
        ab = Schedule.from_config(chosen.diffusion).alphas_bar[t]
        x_t = np.sqrt(ab) * (data[number].transpose(2, 0, 1)[None] / 127.5 - 1) + np.sqrt(1 - ab) * noise
        losses.append(np.mean((predict(x_t.astype(np.float32), np.array([t])) - noise) ** 2))
    return np.mean(losses)


@pytest.mark.parametrize(("count", "batch_size", "calls", "at_once"), [
    (1024, 2, 32, 32), (1024, 128, 8, 128), (1024, 100, 11, 100), (89, 2, 3, 32), (89, 128, 1, 89), (1, 2, 1, 1)])
def test_few_calls_of_one_shape_see_every_image_once(count, batch_size, calls, at_once):
    predict, chosen, data = Predictor(), config(batch_size), images(count)
    found = held_out_loss(predict, data, chosen)
    assert predict.shapes == [((at_once, 1, 8, 8), (at_once,))] * calls and calls <= 40
    assert found == pytest.approx(one_by_one(Predictor(), data, chosen), rel=1e-6)
