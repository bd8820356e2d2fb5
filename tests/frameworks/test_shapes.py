"""Networks of one image channel, odd widths and odd sizes: every arm trains, goes on, validates and samples them."""

from __future__ import annotations

import numpy as np
from small_training import config, images, set_weights, weights

from impls.recipe.config import merged

# Parameters of one element, feature maps of 7x7, groups of 3 and 5 channels, three and five heads.
ODD = {"image_size": 14, "image_channels": 1, "channels": [24, 40], "attention_resolutions": [7], "head_channels": 8,
       "attention_layout": "linear"}
OPTIONS = {"pytorch": ["", "channels_last"], "jittor": ["", "onednn"]}


def train_and_sample(fw, option):
    """What an arm computes: losses before and after going on from a state, a validation loss, a network call, images.

    The step, the validation with averaged weights and the sampling are what a run does with weights just loaded.
    """
    chosen = merged(config(model=ODD), {"diffusion": {"T": 10}}, "test")
    data = images(12, chosen.model.image_size)[..., :1]
    backend = fw.backend.create((option,) if option else (), "cpu", 1)
    one, other = backend.trainer(chosen, data), backend.trainer(chosen, data)
    start = weights(one, seed=1)
    set_weights(one, start)
    one.step()
    other.load_state(one.state())
    for subject in (one, other):
        validation = subject.validation_loss(data, use_ema=True)
        subject.step()
    losses = one.losses()
    assert other.losses() == losses[1:]
    left, right = one.state(), other.state()
    for part in ("params", "ema", "exp_avg", "exp_avg_sq"):
        for name, array in getattr(left, part).items():
            np.testing.assert_array_equal(array, getattr(right, part)[name], err_msg=f"{part} {name}")
    sampler = backend.sampler(chosen)
    sampler.load(start)
    drawn = sampler.sample(1, 0, "ddim", 2)
    assert drawn.shape == (1, 14, 14, 1)
    x = np.random.default_rng(0).standard_normal((2, 1, 14, 14), dtype=np.float32)
    return [*losses, validation], one.predict(x, np.array([3, 9])), drawn


def test_every_arm_computes_the_same_odd_network(fw):
    """Beside the plain arm of its framework; the plain arms stand beside diffusers in test_unet.py."""
    found = {option: train_and_sample(fw, option) for option in OPTIONS[fw.name]}
    losses, eps, drawn = found[""]
    assert np.abs(eps).max() > 0.1
    for option, (other_losses, other_eps, other_drawn) in found.items():
        np.testing.assert_allclose(other_losses, losses, rtol=1e-4, err_msg=option)
        np.testing.assert_allclose(other_eps, eps, rtol=0, atol=1e-4 * np.abs(eps).max(), err_msg=option)
        assert np.abs(other_drawn.astype(int) - drawn).max() <= 1, option
