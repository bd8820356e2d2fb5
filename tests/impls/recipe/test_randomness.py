from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impls.errors import UsageError
from impls.recipe import randomness


def test_known_answers():
    """The numbers themselves are the contract: a changed one breaks resuming and old comparisons."""
    words = randomness.stream(7, "test", 1, 2).integers(0, 2**32, size=3)
    assert words.tolist() == [4128733614, 4222449132, 2371029534]
    assert randomness.batch_indices(7, 1, 8, 8).tolist() == [5, 7, 2, 3, 4, 0, 6, 1]
    assert randomness.batch_indices(7, 5, 3, 10).tolist() == [0, 7, 6]
    assert randomness.STREAMS == 2
    assert randomness.flips(7, 3, 8).astype(int).tolist() == [1, 0, 1, 1, 1, 1, 0, 0]
    assert randomness.timesteps(7, 3, 4, 1000).tolist() == [901, 54, 569, 117]
    assert randomness.noise(7, 3, (2, 2)) == pytest.approx(
        np.array([[-0.75235516, -0.46351498], [-1.1574274, 0.30281168]]), rel=1e-6)


@pytest.mark.parametrize("other", [(8, "noise", 0), (7, "flips", 0), (7, "noise", 1), (7, "noise"), (7, "noise", 0, 0)])
def test_every_part_of_the_key_gives_another_stream(other):
    first = randomness.stream(7, "noise", 0).random(8)
    assert not np.any(np.isin(randomness.stream(*other).random(1000), first))


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before():
    first = randomness.noise(1, 10, (2, 3))
    randomness.stream(1, "noise", 10).random(1000)
    assert np.array_equal(randomness.noise(1, 10, (2, 3)), first)


def test_neighbouring_streams_are_uncorrelated():
    n = 100_000
    draws = [randomness.noise(seed, step, (n,)) for seed, step in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    for one, other in combinations(draws, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(n)


@given(st.integers(0, 2**40), st.integers(1, 40), st.integers(1, 12), st.sampled_from([2, 1000, 99_999]))
def test_a_part_of_a_batch_draws_what_the_whole_one_has_there(step, size, parts, T):
    flips, timesteps = randomness.flips(3, step, size), randomness.timesteps(3, step, size, T)
    noise = randomness.noise(3, step, (size, 2, 3))
    for first in range(0, size, parts):
        here = slice(first, min(first + parts, size))
        count = here.stop - first
        assert np.array_equal(randomness.flips(3, step, count, first), flips[here])
        assert np.array_equal(randomness.timesteps(3, step, count, T, first), timesteps[here])
        assert np.array_equal(randomness.noise(3, step, (count, 2, 3), first), noise[here])


def test_noise_at_a_place_is_the_beginning_of_its_own_stream():
    whole = randomness.noise(5, 9, (3, 4), first=6)
    for position, image in enumerate(whole, start=6):
        own = randomness.stream(5, "noise", 9, position).standard_normal(4, dtype=np.float32)
        assert np.array_equal(image, own)


def test_the_largest_uniform_number_is_a_timestep_whatever_the_steps():
    largest = np.nextafter(1.0, 0.0)
    assert all(int(largest * T) == T - 1 for T in range(2, 100_001))


@pytest.mark.parametrize("key", [(-1, "x"), (2**64, "x"), (0, "x", -1), (0, "x", 2**64), (0, "x", 1, 2, 3, 4)])
def test_impossible_keys_are_refused(key):
    with pytest.raises(ValueError, match=r"outside|at most"):
        randomness.stream(*key)


def test_the_ends_of_the_key_range_work():
    top = 2**64 - 1
    assert randomness.stream(top, "x", top, top, top).random() != randomness.stream(0, "x", 0, 0, 0).random()


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000), st.integers(1, 200))
def test_an_epoch_visits_every_image_once(seed, epoch, n):
    assert np.array_equal(np.sort(randomness.batch_indices(seed, epoch, n, n)), np.arange(n))


@given(st.integers(0, 99), st.integers(1, 50), st.integers(0, 60))
def test_batches_cut_the_epoch_into_whole_pieces(seed, batch_size, extra):
    n = batch_size + extra
    steps = n // batch_size
    for epoch in range(2):
        batches = [randomness.batch_indices(seed, epoch * steps + i, batch_size, n) for i in range(steps)]
        expected = randomness.batch_indices(seed, epoch, n, n)[: steps * batch_size]
        assert np.array_equal(np.concatenate(batches), expected)


@pytest.mark.parametrize("batch_size", [11, 0, -1])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(UsageError, match="has 10 images, choose 1 to 10"):
        randomness.batch_indices(0, 0, batch_size, 10)


def test_results_are_the_callers_own():
    randomness.batch_indices(0, 0, 5, 10)[:] = -1
    assert randomness.batch_indices(0, 0, 5, 10).min() >= 0


def test_types_and_moments():
    flips, timesteps = randomness.flips(0, 0, 100_000), randomness.timesteps(0, 0, 100_000, 1000)
    noise = randomness.noise(0, 0, (100, 10, 100))
    assert (flips.dtype, timesteps.dtype, noise.dtype) == (np.bool_, np.int64, np.float32)
    assert noise.shape == (100, 10, 100)
    assert flips.mean() == pytest.approx(0.5, abs=0.01)
    assert (timesteps.min(), timesteps.max()) == (0, 999)
    assert np.bincount(timesteps // 100).min() > 9_500
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.01)
