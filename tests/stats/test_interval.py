"""Intervals are scipy's, and nobody who only names the margin waits for scipy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from harness.stats.compare import judge
from harness.stats.interval import blocks_for, factor_interval, median_interval, t_interval, welch_interval, welch_p


def test_naming_the_margin_does_not_load_scipy():
    code = ("import sys; import harness.cli, harness.plan, harness.stats.compare, harness.stats.across; "
            "print([name for name in sys.modules if name.partition('.')[0] == 'scipy'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_values_that_are_all_alike_have_an_interval_of_no_width_and_no_warning():
    assert t_interval([0.5] * 4) == pytest.approx((0.5, 0.5, 0.5), rel=1e-12)
    assert welch_interval([0.5] * 3, [0.75] * 4) == (0.25, 0.25, 0.25)
    assert welch_p([0.5] * 3, [0.75] * 4, 0.0) == 0
    assert median_interval([0.5] * 6) == (0.5, 0.5)
    assert blocks_for(0.0, 0.01, range(2, 10)) == 2


def test_shifting_the_difference_shifts_where_the_p_value_is_one():
    before, after = np.array([1.0, 2.0, 4.0]), np.array([3.0, 7.0])
    difference = after.mean() - before.mean()
    assert welch_p(before, after, difference) == pytest.approx(1)
    assert welch_p(before, after, difference + 1) == pytest.approx(welch_p(before, after, difference - 1))


def regressed(values, groups):
    """Mean and standard error of a regression on one column for each group but the first, all of them centred."""
    names = np.unique(groups)
    columns = np.stack([np.ones(len(values))] + [(groups == one) - np.mean(groups == one) for one in names[1:]], 1)
    found, *_ = np.linalg.lstsq(columns, values, rcond=None)
    left = len(values) - len(names)
    noise = ((values - columns @ found) ** 2).sum() / left
    return found[0], np.sqrt(noise * np.linalg.inv(columns.T @ columns)[0, 0]), left


@pytest.mark.parametrize("sizes", [(3, 3), (2, 5), (2, 3, 4)])
def test_the_host_as_a_factor_is_that_of_a_regression(sizes):
    rng = np.random.default_rng(sum(sizes))
    groups = np.repeat(range(len(sizes)), sizes)
    # Hosts that are alike leave less spread between them than within, so that the factor's interval is the wider one.
    values = rng.normal(0.1, 0.02, len(groups))
    values -= np.concatenate([np.full(size, values[groups == one].mean()) for one, size in enumerate(sizes)])
    mean, error, left = regressed(values, groups)
    low, high = stats.t.interval(0.95, left, mean, error)
    assert factor_interval(values, groups) == pytest.approx((mean, low, high), abs=1e-12)
    assert factor_interval(values, groups).high > t_interval(values).high


def test_hosts_that_differ_never_look_more_certain():
    values, groups = [0.10, 0.11, 0.09, 0.30, 0.31, 0.29], [0, 0, 0, 1, 1, 1]
    assert factor_interval(values, groups) == t_interval(values)
    assert factor_interval(values, [0] * 6) == factor_interval(values, range(6)) == t_interval(values)
    assert judge(values, hosts=groups) == judge(values)
    with pytest.raises(ValueError, match="6 values but 2 groups"):
        factor_interval(values, [0, 1])


def test_intervals_over_hosts_cover_as_often_as_they_say():
    """Also where hosts differ: by then both kinds of spread are too wide rather than too narrow."""
    rng, groups = np.random.default_rng(3), np.repeat([0, 1], 3)
    for apart in (0.0, 0.05):
        held = [low <= 0 <= high for _, low, high in (
            factor_interval(rng.normal(0, 0.02, 6) + np.array([-apart, apart])[groups], groups) for _ in range(400))]
        assert np.mean(held) >= 0.93
