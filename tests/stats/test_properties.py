"""What must hold of the statistics whatever the times: units, order of blocks and names of arms carry no meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.stats.compare import (
    block_ratio,
    further_blocks,
    judge,
    judge_clean_and_dirty,
    sign_flip_p,
)
from harness.stats.interval import t_interval
from harness.stats.steady import detect

LOGS = st.lists(st.integers(-500_000, 500_000).map(lambda x: x / 1e6), min_size=2, max_size=14)
TIMES = st.lists(st.tuples(st.integers(1_000, 10**12), st.integers(1_000, 10**12)), min_size=1, max_size=40)
SWAPPED = {"A-faster": "B-faster", "B-faster": "A-faster", "equivalent": "equivalent", "inconclusive": "inconclusive"}
quick = settings(deadline=None, max_examples=60)


@quick
@given(TIMES, st.sampled_from([1e-9, 1e-3, 0.5, 7.0, 1e6]))
def test_the_unit_of_time_does_not_matter(times, unit):
    a, b = np.array(times, float).T
    plain, scaled = block_ratio(a, b), block_ratio(a * unit, b * unit)
    assert scaled.median_log_ratio == pytest.approx(plain.median_log_ratio, abs=1e-9)
    assert scaled.mean_log_ratio == pytest.approx(plain.mean_log_ratio, abs=1e-9)


@quick
@given(TIMES, st.randoms())
def test_a_block_ratio_swaps_its_sign_with_the_arms_and_knows_no_order_of_pairs(times, rng):
    a, b = np.array(times, float).T
    plain, swapped = block_ratio(a, b), block_ratio(b, a)
    assert swapped.median_log_ratio == pytest.approx(-plain.median_log_ratio, abs=1e-9)
    assert swapped.mean_log_ratio == pytest.approx(-plain.mean_log_ratio, abs=1e-9)
    rng.shuffle(times)
    shuffled = block_ratio(*np.array(times, float).T)
    assert shuffled.median_log_ratio == pytest.approx(plain.median_log_ratio, abs=1e-9)


@quick
@given(TIMES, st.floats(0.5, 2))
def test_a_factor_on_arm_a_is_a_shift_of_its_log_ratio(times, factor):
    a, b = np.array(times, float).T
    shift = block_ratio(a * factor, b).median_log_ratio - block_ratio(a, b).median_log_ratio
    assert shift == pytest.approx(math.log(factor), abs=1e-9)


@quick
@given(TIMES)
def test_a_block_ratio_lies_between_its_extreme_pairs(times):
    a, b = np.array(times, float).T
    ratio, pairs = block_ratio(a, b), np.log(a / b)
    for value in (ratio.median_log_ratio, ratio.mean_log_ratio):
        assert pairs.min() - 1e-9 <= value <= pairs.max() + 1e-9


@quick
@given(LOGS, st.randoms())
def test_the_order_of_blocks_does_not_matter(logs, rng):
    plain = judge(logs)
    shuffled = list(logs)
    rng.shuffle(shuffled)
    other = judge(shuffled)
    bounds = [abs(abs(math.log(x)) - math.log1p(0.01)) for x in (plain.ci_low, plain.ci_high)]
    assume(min(bounds) > 1e-9)
    assert (other.word, other.reason, other.blocks) == (plain.word, plain.reason, plain.blocks)
    assert (other.ratio, other.ci_low, other.ci_high) == pytest.approx((plain.ratio, plain.ci_low, plain.ci_high))
    assert other.sign_flip_p == plain.sign_flip_p


@quick
@given(LOGS, st.sampled_from([0.01, 0.05, 0.2]))
def test_swapping_the_arms_mirrors_everything(logs, alpha):
    ours, theirs = judge(logs, alpha=alpha), judge([-x for x in logs], alpha=alpha)
    assert theirs.word == SWAPPED[ours.word] and theirs.reason == ours.reason
    assert theirs.further_blocks == ours.further_blocks and theirs.sign_flip_p == ours.sign_flip_p
    assert (1 / theirs.ci_high, 1 / theirs.ci_low) == pytest.approx((ours.ci_low, ours.ci_high))


@quick
@given(LOGS, st.sampled_from([0.001, 0.05, 0.5]))
def test_the_interval_holds_the_mean_and_moves_with_it(logs, alpha):
    low, mean, high = (getattr(t_interval(logs, alpha), name) for name in ("low", "mean", "high"))
    assert low <= mean <= high and min(logs) - 1e-12 <= mean <= max(logs) + 1e-12
    moved = t_interval([x + 0.25 for x in logs], alpha)
    assert (moved.low, moved.mean, moved.high) == pytest.approx((low + 0.25, mean + 0.25, high + 0.25), abs=1e-9)


@quick
@given(LOGS)
def test_a_stricter_alpha_never_narrows_the_interval(logs):
    widths = [t_interval(logs, alpha).high - t_interval(logs, alpha).low for alpha in (0.2, 0.05, 0.025, 0.001)]
    assert widths == sorted(widths)


@quick
@given(LOGS)
def test_a_wider_margin_never_takes_equivalence_away_nor_finds_a_difference(logs):
    words = [judge(logs, margin).word for margin in (0.001, 0.005, 0.01, 0.03, 0.1, 0.5)]
    equivalent = [word == "equivalent" for word in words]
    different = [word.endswith("faster") for word in words]
    assert equivalent == sorted(equivalent)
    assert different == sorted(different, reverse=True)
    assert len({word for word in words if word.endswith("faster")}) <= 1


@quick
@given(LOGS)
def test_a_word_follows_from_the_interval_alone(logs):
    verdict, bound = judge(logs), math.log1p(0.01)
    low, high = math.log(verdict.ci_low), math.log(verdict.ci_high)
    assume(min(abs(abs(low) - bound), abs(abs(high) - bound)) > 1e-9)
    expected = ("B-faster" if low > bound else "A-faster" if high < -bound
                else "equivalent" if -bound < low and high < bound else "inconclusive")
    assert verdict.word == expected


@quick
@given(LOGS, st.data())
def test_disturbed_blocks_can_only_withdraw_a_verdict(logs, data):
    dirty = data.draw(st.lists(st.booleans(), min_size=len(logs), max_size=len(logs)))
    everything, both = judge(logs), judge_clean_and_dirty(logs, dirty)
    assert (both.ratio, both.ci_low, both.ci_high) == (everything.ratio, everything.ci_low, everything.ci_high)
    assert both.word in (everything.word, "inconclusive")


@quick
@given(LOGS)
def test_further_blocks_are_none_exactly_where_the_word_is_decisive(logs):
    verdict, found, bound = judge(logs), t_interval(logs), math.log1p(0.01)
    if verdict.word == "inconclusive":
        wide = (found.high - found.low) / 2 > bound
        more = further_blocks(logs, bound if wide else abs(abs(found.mean) - bound))
        assert verdict.further_blocks == more and (more is None or more >= 0)
    else:
        assert verdict.further_blocks is None and verdict.reason is None


@quick
@given(st.lists(st.integers(-500_000, 500_000).map(lambda x: x / 1e6), min_size=6, max_size=12))
def test_a_sign_flip_p_is_a_share_of_patterns(logs):
    p = sign_flip_p(logs)
    assert 2 / 2 ** len(logs) <= p <= 1
    assert p == sign_flip_p([-x for x in logs]) and (p * 2 ** len(logs)).is_integer()


@quick
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1e-3, 3.0, 1e6]), st.sampled_from([0.002, 0.02, 0.1]))
def test_the_detector_knows_no_unit_of_time(seed, unit, spread):
    rng = np.random.default_rng(seed)
    steps = 1e8 * rng.choice([1, 1.5, 4], 3).repeat([8, 30, 80]) * np.exp(rng.normal(0, spread, 118))
    plain, scaled = detect(steps), detect(steps * unit)
    assert (plain.classification, plain.steady_from) == (scaled.classification, scaled.steady_from)
    assert plain.change_points == scaled.change_points


@quick
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_a_compiling_first_step_never_makes_the_rest_unsteady(seed, factor):
    steps = 1e8 * np.exp(np.random.default_rng(seed).normal(0, 0.003, 100))
    steps[0] *= 2 + factor
    found = detect(steps)
    assert (found.classification, found.steady_from) == ("warmup", 1)
