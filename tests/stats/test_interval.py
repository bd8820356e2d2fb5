"""Intervals are scipy's, and nobody who only names the margin waits for scipy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from harness.stats.interval import blocks_for, median_interval, t_interval, welch_interval, welch_p


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
