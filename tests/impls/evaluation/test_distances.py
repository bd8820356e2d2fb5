"""The Fréchet distance against closed forms, torch-fidelity, and itself by another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_evaluation import frechet
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from impls.evaluation.distances import Reference, Sample


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def features(rng, n, d=24):
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


@pytest.mark.parametrize("n", [400, 16], ids=["more images than features", "fewer"])
def test_a_shift_costs_its_squared_length(rng, n):
    x, shift = features(rng, n), rng.normal(size=24)
    assert frechet(x + shift, x) == pytest.approx(shift @ shift, rel=1e-6)


@pytest.mark.parametrize("n", [400, 16])
def test_a_scaled_spread_costs_the_squared_difference_of_the_roots(rng, n):
    x = features(rng, n)
    scaled = x.mean(0) + 1.7 * (x - x.mean(0))
    assert frechet(scaled, x) == pytest.approx(0.7**2 * np.trace(np.cov(x.T)), rel=1e-6)
    assert frechet(x, scaled) == pytest.approx(0.7**2 * np.trace(np.cov(x.T)), rel=1e-6)


@pytest.mark.parametrize("n", [400, 16])
def test_the_same_images_are_at_zero_and_the_order_does_not_matter(rng, n):
    x, y = features(rng, n), features(rng, 300)
    # Roots of what rounding leaves of eigenvalues that are 0, where there are fewer images than features.
    rounding = x.shape[1] * np.sqrt(np.finfo(np.float64).eps * np.linalg.norm(np.cov(x.T), 2))
    assert frechet(x, x) == pytest.approx(0, abs=4 * rounding)
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-6)


@pytest.mark.parametrize("n", [400, 25, 24, 12])
def test_torch_fidelity_agrees(rng, n):
    x, y = features(rng, n).astype(np.float32), features(rng, 300).astype(np.float32)
    one, other = (fid_features_to_statistics(torch.from_numpy(z.astype(np.float64))) for z in (x, y))
    wanted = fid_statistics_to_metric(one, other, False)["frechet_inception_distance"]
    assert frechet(x, y) == pytest.approx(wanted, rel=1e-6)


def test_sums_that_are_taken_away_leave_the_rest(rng):
    x, y = features(rng, 400), features(rng, 300)
    sample, taken = Sample(x, Reference(y)), np.arange(40)
    found = sample.distance_of(sample.sums(np.arange(400)) - sample.sums(taken))
    assert found == pytest.approx(frechet(x[40:], y), rel=1e-9)
    assert sample.distance(np.arange(380, 400)) == pytest.approx(frechet(x[380:], y), rel=1e-9)


def test_constant_features_do_no_harm(rng):
    x, y = features(rng, 20), features(rng, 300)
    wanted = frechet(x, y)
    more = [np.hstack([z, np.full((len(z), 3), 5.0)]) for z in (x, y)]
    assert frechet(*more) == pytest.approx(wanted, rel=1e-8)
