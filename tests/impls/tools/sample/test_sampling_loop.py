"""The neutral loop with a sampler that only counts: numbers, moments of a film, and what it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_sampler import ScriptedSampler

from impls.errors import CheckpointError, UsageError
from impls.recipe.config import merged, preset
from impls.recipe.randomness import image_noise
from impls.tools.sample.loop import Request, batches, draw, load_into, moments, start_images

CONFIG = merged(preset("tiny"), {"model": {"image_size": 8}, "diffusion": {"T": 20}}, "test")
DDPM = Request("ddpm", None, 0.0, "uniform", 3)


@given(st.integers(1, 200), st.integers(1, 70))
def test_batches_are_the_numbers_once_each_in_order(count, size):
    runs = list(batches(count, size))
    assert [number for run in runs for number in run] == list(range(count))
    assert all(len(run) == size for run in runs[:-1])


@pytest.mark.parametrize(("count", "size"), [(0, 4), (4, 0), (-1, 4)])
def test_no_images_are_refused(count, size):
    with pytest.raises(UsageError, match="at least 1"):
        batches(count, size)


@given(st.integers(1, 1000), st.integers(2, 40))
def test_a_film_goes_evenly_from_the_noise_to_the_images(nfe, frames):
    shown = moments(nfe, frames)
    assert (shown[0], shown[-1], len(shown)) == (0, nfe, min(frames, nfe + 1))
    gaps = np.diff(shown)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("frames", [1, 0, -3])
def test_a_film_needs_two_frames(frames):
    with pytest.raises(UsageError, match="frames"):
        moments(10, frames)


@pytest.mark.parametrize(("request_", "nfe"), [
    (DDPM, 20), (Request("ddim", 10, 0.5, "uniform", 0), 10), (Request("ddim", 20, 1.0, "trailing", 0), 20),
    (Request("ddim", 12, 0.0, "quad", 0), 10)])
def test_nfe_counts_network_calls(request_, nfe):
    """Quadratic spacing drops its repeats, so it makes fewer calls than asked for."""
    sampler = ScriptedSampler(CONFIG)
    ticks = []
    draw(sampler, request_, range(2), on_call=lambda: ticks.append(1))
    assert request_.nfe(20) == sampler.calls == len(ticks) == nfe


@pytest.mark.parametrize(("request_", "message"), [
    (Request("ddim", 0, 0.0, "uniform", 0), "steps 0: choose 1 to 20"),
    (Request("ddim", 21, 0.0, "uniform", 0), "steps 21: choose 1 to 20"),
    (Request("ddim", 5, -0.1, "uniform", 0), "eta -0.1"), (Request("ddim", 5, float("nan"), "uniform", 0), "eta nan"),
    (Request("ddim", 5, float("inf"), "uniform", 0), "eta inf"),
    (Request("ddpm", None, 0.3, "uniform", 0), "belong to DDIM"),
    (Request("ddpm", None, 0.0, "quad", 0), "belong to DDIM"), (Request("ddpm", 7, 0.0, "uniform", 0), "all 20")])
def test_requests_without_meaning_are_refused(request_, message):
    with pytest.raises(UsageError, match=message):
        request_.nfe(20)


def test_only_the_frames_of_a_film_are_read():
    sampler = ScriptedSampler(CONFIG)
    film = moments(20, 5)
    batch = draw(sampler, DDPM, range(4, 7), lambda numbers: start_images(CONFIG.model, 3, numbers, 20), film)
    assert film == [0, 5, 10, 15, 20]
    assert sampler.reads == [5, 10, 15, 20]
    assert batch.frames.shape == (5, 3, 8, 8, 3)
    np.testing.assert_array_equal(batch.frames[-1], batch.images)
    np.testing.assert_array_equal(batch.frames[1][0], sampler.image(3, 4, 5))
    noise = image_noise(3, range(4, 7), 20, (3, 8, 8)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(batch.frames[0], np.rint((np.clip(noise, -1, 1) + 1) * 127.5).astype(np.uint8))
    assert batch.images.shape == (3, 8, 8, 3)
    assert draw(ScriptedSampler(CONFIG), DDPM, range(2)).frames.shape[0] == 0


def test_a_backend_that_breaks_its_contract_is_noticed():
    sampler = ScriptedSampler(CONFIG)
    sampler.sample = lambda n, *_, **__: np.zeros((n - 1, 8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="does not keep its contract"):
        draw(sampler, DDPM, range(3))


def test_weights_that_do_not_fit_name_their_file(checkpoint):
    from dataclasses import replace

    from impls.store.weights import load_weights

    weights = load_weights(checkpoint)
    load_into(ScriptedSampler(CONFIG), weights)
    other = replace(weights, params={"a.weight": np.zeros((3, 3), np.float32)})
    with pytest.raises(CheckpointError, match=r"step-000007.safetensors: checkpoint weights: a.weight has shape"):
        load_into(ScriptedSampler(CONFIG), other)
