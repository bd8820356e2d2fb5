"""Shares of a gap: exact without noise, covering the truth with it, and words for what an interval says."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats.interval import Interval
from harness.stats.share import gap_of, midmean, share_of, word_of


def test_without_noise_a_share_is_exact():
    assert share_of([3.0, 3.0, 3.0], [4.0, 4.0, 4.0]) == pytest.approx((0.75, 0.75, 0.75))
    # Blocks may be long or short: the ratio stays.
    assert share_of([3.0, 6.0, 1.5], [4.0, 8.0, 2.0]) == pytest.approx((0.75, 0.75, 0.75))


def test_the_interval_is_the_textbooks_jackknife():
    """Efron and Tibshirani 1993, equation 11.5: the standard error from leaving out one block after another."""
    parts, gaps = np.array([3.0, 2.0, 4.0, 3.5]), np.array([5.0, 4.5, 6.0, 4.0])
    left_out = np.array([np.delete(parts, i).sum() / np.delete(gaps, i).sum() for i in range(4)])
    error = np.sqrt(3 / 4 * np.square(left_out - left_out.mean()).sum())
    found = share_of(list(parts), list(gaps))
    assert found.mean == pytest.approx(parts.sum() / gaps.sum())
    # t of 3 degrees of freedom at 97.5 %.
    assert (found.high - found.low) / 2 == pytest.approx(3.182446 * error)


def test_shares_of_all_causes_add_up():
    rng = np.random.default_rng(1)
    parts = rng.normal(1, 0.3, (3, 6))
    whole = list(parts.sum(axis=0))
    assert sum(share_of(list(part), whole).mean for part in parts) == pytest.approx(1)


@pytest.mark.parametrize("share", [-0.2, 0.0, 0.4, 1.0])
def test_the_interval_covers_the_truth_as_often_as_it_says(share):
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(600):
        gaps = rng.normal(100, 8, 6)
        found = share_of(list(share * gaps + rng.normal(0, 4, 6)), list(gaps))
        held += found.low <= share <= found.high
    assert 0.92 < held / 600 < 0.98


@pytest.mark.parametrize(("low", "high", "word"), [
    (0.06, 0.5, "explains"), (0.04, 0.5, "inconclusive"), (-0.04, 0.05, "does-not-explain"),
    (-0.3, -0.06, "works-against"), (-0.3, -0.04, "inconclusive"), (-0.3, 0.3, "inconclusive")])
def test_words(low, high, word):
    assert word_of(Interval((low + high) / 2, low, high)) == word


def test_a_gap_that_is_none_has_no_shares():
    assert gap_of([200.0, 201, 199], [100.0, 101, 99]).fault is None
    assert "not clear of 1%" in gap_of([100.0, 101, 99], [100.0, 99, 101]).fault
    # Half a per cent, however sure.
    assert "not clear of 1%" in gap_of([100.5, 100.5, 100.5], [100.0, 100, 100]).fault
    assert "wider than +-20%" in gap_of([200.0, 240, 170, 210], [100.0, 100, 100, 100]).fault
    # A block in which the machine is slower for both has no other gap.
    assert gap_of([200.0, 402, 139], [100.0, 199, 71]).fault is None
    # B may be the slow one.
    assert gap_of([100.0, 101, 99], [200.0, 201, 199]).fault is None
    # Which is slower may be clear although there is nothing to divide up.
    assert gap_of([200.0, 240, 170, 210], [100.0, 100, 100, 100]).clear
    assert gap_of([200.0, 240, 170, 210], [100.0, 100, 100, 100]).word == "inconclusive"
    assert not gap_of([100.0, 101, 99], [100.0, 99, 101]).clear
    assert gap_of([100.0, 101, 99], [100.0, 99, 101]).word == "no-gap"


@pytest.mark.parametrize("call", [
    lambda: share_of([1.0], [2.0]), lambda: share_of([1.0, 2.0], [2.0]), lambda: share_of([1.0, 2.0], [1.0, -1.0]),
    lambda: share_of([1.0, float("nan")], [2.0, 2.0]), lambda: gap_of([1.0, 2.0], [1.0])])
def test_what_has_no_share_is_refused(call):
    with pytest.raises(ValueError, match="share|finite|gap"):
        call()


def test_the_midmean_is_deaf_to_spikes_and_adds_up():
    assert midmean([1, 2, 3, 4, 5, 6, 7, 1000]) == pytest.approx(4.5)
    rng = np.random.default_rng(3)
    a, b = rng.normal(10, 0.1, 200), rng.normal(5, 0.1, 200)
    assert midmean(a) + midmean(b) == pytest.approx(midmean(a + b), rel=1e-3)
