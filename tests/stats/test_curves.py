"""Whether two recipes train alike: proven on thousands of small trainings, of one recipe and of faulty ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from small_trainings import STEPS, trainings

from harness.stats.curves import Curve, align, offset, together, windows

SEEDS, PAIRS, FAULTY_PAIRS = 5, 200, 60
AT = np.arange(1, STEPS + 1)
FAULTS = {"missing clip": {"clip": None}, "1.1 times the rate": {"rate": 0.011}, "wrong eps": {"eps": 1e-3}}


def outcomes(a, b):
    return [align(AT, a[i:i + SEEDS], b[i:i + SEEDS]) for i in range(0, len(a), SEEDS)]


def of_pairs(pairs, **options):
    """Runs of so many comparisons; again with other options, a run has the same weights and batches."""
    return trainings(pairs * SEEDS, **options)


@pytest.fixture(scope="module")
def sound():
    return of_pairs(FAULTY_PAIRS)


@pytest.fixture(scope="module")
def twins():
    """The same runs as another framework rounds them."""
    return of_pairs(FAULTY_PAIRS, perturbed=1e-7)


def test_one_recipe_is_not_told_apart_with_seeds_of_their_own():
    runs = of_pairs(2 * PAIRS)
    found = outcomes(*np.split(runs, 2))
    assert not any(one.paired for one in found)
    assert sum(one.word == "differs" for one in found) <= 0.05 * PAIRS


def test_one_recipe_is_not_told_apart_with_batches_in_common():
    """Weights that differ by a twentieth: pairs share their batches, and scatter nevertheless."""
    found = outcomes(*(of_pairs(PAIRS, perturbed=0.05, rounding=number) for number in (1, 2)))
    assert all(one.paired for one in found)
    assert sum(one.word == "differs" for one in found) <= 0.05 * PAIRS


def test_what_differs_by_rounding_alone_is_the_same(sound, twins):
    assert {one.word for one in outcomes(sound, twins)} == {"same"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, sound):
    found = outcomes(sound, of_pairs(FAULTY_PAIRS, perturbed=1e-7, **FAULTS[fault]))
    assert sum(one.word == "differs" for one in found) >= 0.9 * FAULTY_PAIRS


def test_the_seeds_that_are_named_are_enough():
    rng = np.random.default_rng(0)

    def runs(n):
        return np.exp(0.03 * rng.standard_normal((2, n, 1)) + 0.1 * rng.standard_normal((2, n, 256)))

    asked = [found.seeds for _ in range(40) if (found := align(AT[:256], *runs(4))).word == "cannot be told"]
    enough = int(np.median(asked))
    words = Counter(align(AT[:256], *runs(enough)).word for _ in range(40))
    assert enough > 4 and words["same"] > 20 and words["differs"] <= 4


def test_a_difference_is_placed_where_it_begins():
    rng = np.random.default_rng(0)
    for begins in (1, 33, 129):
        a, b = np.exp(0.03 * rng.standard_normal((2, 5, 256)))
        found = align(AT[:256], a, np.where(AT[:256] >= begins, 1.2, 1.0) * b)
        assert found.word == "differs" and begins <= found.from_step <= 2 * begins + 2


def test_runs_that_diverge():
    rng = np.random.default_rng(0)
    a, b = np.exp(0.01 * rng.standard_normal((2, 4, 64)))
    gone = b.copy()
    gone[:, 40:] = np.nan
    assert (align(AT[:64], a, gone).word, align(AT[:64], a, gone).from_step) == ("differs", 33)
    assert align(AT[:64], gone, gone).word == "cannot be told" and align(AT[:64], gone, gone).seeds is None
    gone[0] = b[0]
    assert align(AT[:64], a, gone).word == "cannot be told"


def test_losses_below_zero_are_compared_over_their_size():
    rng = np.random.default_rng(0)
    a, b = -3 + 0.01 * rng.standard_normal((2, 4, 64))
    found = align(AT[:64], a, b)
    assert not found.logarithm and found.word == "same"
    assert align(AT[:64], a, b + 0.3).word == "differs"


def test_single_runs_and_twins():
    rng = np.random.default_rng(0)
    runs = np.exp(0.01 * rng.standard_normal((6, 64)))
    single = align(AT[:64], runs[:1], runs[1:2])
    assert (single.word, single.seeds, single.from_step) == ("cannot be told", 3, None)
    # One run of B among five of A.
    assert align(AT[:64], runs[:5], runs[5:]).word != "differs"
    assert align(AT[:64], runs[:5], 1.2 * runs[5:]).word == "differs"


def test_equal_runs_are_the_same():
    runs = np.exp(np.random.default_rng(0).standard_normal((3, 64)))
    assert align(AT[:64], runs, runs).word == "same"
    # Rounding that always goes one way is no difference.
    assert align(AT[:64], runs, runs * (1 + 1e-6)).word == "same"


@pytest.mark.parametrize("points", [8, 9, 63, 64, 1000, 100_001])
def test_windows_cover_every_point_once(points):
    places = windows(points)
    assert places[0][0] == 0 and places[-1][1] == points and len(places) <= 8
    assert all(one[1] == other[0] for one, other in zip(places, places[1:], strict=False))
    assert all(low < high for low, high in places)


@pytest.mark.parametrize("shift", [0, 1, -1, 3])
def test_the_offset_is_told_by_batches_in_common(shift, sound, twins):
    a, b = Curve(AT, sound[0]), Curve(AT - shift, twins[0])
    assert offset([a], [b]) == shift
    steps, x, y = together([a], [b], shift)
    assert steps.tolist() == AT.tolist() and np.allclose(x[0], sound[0]) and np.allclose(y[0], twins[0])


def test_without_them_counts_from_nought_and_one_are_told_and_a_later_start_is_left_alone(sound):
    a = Curve(AT, sound[0])
    assert offset([a], [Curve(AT - 1, sound[7])]) == 1
    assert offset([a], [Curve(AT, sound[7])]) == 0
    assert offset([a], [Curve(AT[50:], sound[7, 50:])]) == 0
    every = slice(9, None, 10)
    assert offset([Curve(AT[every], sound[0, every])], [Curve(AT[every] - 9, sound[7, every])]) == 9


@pytest.mark.parametrize("shape", [((2, 7), (2, 7)), ((2, 9), (2, 8)), ((9,), (9,))])
def test_what_cannot_be_judged_is_refused(shape):
    a, b = (np.ones(one) for one in shape)
    with pytest.raises(ValueError, match="expected"):
        align(np.arange(a.shape[-1]), a, b)
