"""Where a row of runs changes level: planted steps are found, and equal runs show one no more often than promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from harness.stats.interval import pooled_interval
from harness.stats.shifts import _best, shifts

# So small that the rule itself is tested, not the margin's help.
NO_MARGIN = 1e-9


def row(rng: np.random.Generator, *levels: tuple[int, float], spread: float = 0.01) -> list[float]:
    """Logarithms of runs: so many at each ratio."""
    return [math.log(ratio) + rng.normal(0, spread) for runs, ratio in levels for _ in range(runs)]


@pytest.mark.parametrize("ratio", [1.3, 1 / 1.3])
def test_a_planted_step_is_found_with_its_size(ratio):
    (step,) = shifts(row(np.random.default_rng(1), (6, 1.1), (5, 1.1 * ratio)))
    assert step.at == 6 and step.ci_low < ratio < step.ci_high and step.alpha == pytest.approx(0.05 / 8)
    assert step.ratio == pytest.approx(ratio, rel=0.02)


def test_several_steps_each_hold_between_their_neighbours():
    found = shifts(row(np.random.default_rng(2), (6, 1.0), (6, 1.5), (6, 1.2)))
    assert [step.at for step in found] == [6, 12]
    assert [step.ratio for step in found] == [pytest.approx(1.5, rel=0.03), pytest.approx(0.8, rel=0.03)]


def test_runs_without_any_noise():
    assert shifts([0.1] * 9) == []
    (step,) = shifts([0.0, 0.0, 0.2, 0.2])
    assert step.at == 2 and step.ci_low == step.ratio == step.ci_high == pytest.approx(math.exp(0.2))


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 5.0], [0.0, 0.0, 5.0]])
def test_too_few_runs_show_nothing(values):
    assert shifts(values) == []


def test_a_step_within_the_margin_is_none():
    values = [0.0, 1e-5, 0.0, 1e-5, 0.006, 0.006, 0.00601, 0.006]
    assert shifts(values) == [] and [step.at for step in shifts(values, margin=0.002)] == [4]


def test_the_candidate_is_the_split_with_the_largest_t():
    rng = np.random.default_rng(3)
    for size in (4, 5, 9, 24):
        data = rng.normal(7, 1, size)
        places = range(2, size - 1)
        t = [abs(ttest_ind(data[:at], data[at:], equal_var=True).statistic) for at in places]
        assert _best(data) == places[int(np.argmax(t))]


def test_the_interval_is_students():
    found = pooled_interval([1.0, 2.0, 4.0], [5.0, 6.0], 0.05)
    test = ttest_ind([5.0, 6.0], [1.0, 2.0, 4.0], equal_var=True).confidence_interval(0.95)
    assert (found.low, found.high) == (test.low, test.high) and found.mean == pytest.approx(5.5 - 7 / 3)
    with pytest.raises(ValueError, match="three values"):
        pooled_interval([1.0], [2.0])


@pytest.mark.parametrize("runs", [4, 7, 12, 30])
def test_equal_runs_show_a_step_no_more_often_than_promised(runs):
    rng, rounds = np.random.default_rng(runs), 300
    alarms = sum(bool(shifts(rng.normal(0.3, 0.02, runs).tolist(), NO_MARGIN)) for _ in range(rounds))
    # 5 %, and three standard errors of this simulation.
    assert alarms <= rounds * 0.05 + 3 * math.sqrt(rounds * 0.05 * 0.95)


def test_a_step_of_five_per_cent_is_found_where_runs_spread_by_one():
    rng = np.random.default_rng(5)
    found = [shifts(row(rng, (5, 1.0), (5, 1.05))) for _ in range(60)]
    assert sum(any(abs(step.at - 5) <= 1 for step in one) for one in found) >= 54


@pytest.mark.parametrize("values", [[0.0, math.nan, 0.0, 0.0], [math.inf] * 4])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        shifts(values)
