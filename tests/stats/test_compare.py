"""Verdicts: closed forms against scipy, error rates on simulated runs, degenerate inputs."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from harness.stats.compare import (
    block_ratio,
    further_blocks,
    judge,
    judge_clean_and_dirty,
    sign_flip_p,
)
from harness.stats.interval import median_interval, t_interval

finite = st.floats(-0.5, 0.5).map(lambda x: round(x, 6))
SWAPPED = {"A-faster": "B-faster", "B-faster": "A-faster", "equivalent": "equivalent", "inconclusive": "inconclusive"}


def simulated_block(rng: np.random.Generator, gap: float, pairs: int = 40, drift: float = 0.03):
    """One block as the harness measures it: alternating A B / B A windows on one machine that drifts linearly.

    Step noise is AR(1) with 1 % spread along the machine's time, each process has its own level with 1.5 % spread.
    """
    windows = 2 * pairs
    machine = 1 + drift * np.arange(windows) / windows
    shocks = rng.normal(0, 0.01 * math.sqrt(1 - 0.5**2), windows + 50)
    noise = signal.lfilter([1], [1, -0.5], shocks)[50:]
    times = machine * (1 + noise) * 1e8
    swapped = (np.arange(pairs) + rng.integers(2)) % 2 == 1
    first, second = times[0::2], times[1::2]
    process_a, process_b = np.exp(rng.normal(0, 0.015, 2))
    a = np.where(swapped, second, first) * process_a * (1 + gap)
    b = np.where(swapped, first, second) * process_b
    return a, b


def simulated_run(seed: int, blocks: int, gap: float = 0.0, margin: float = 0.01):
    rng = np.random.default_rng(seed)
    return judge([block_ratio(*simulated_block(rng, gap)).median_log_ratio for _ in range(blocks)], margin)


def test_identical_arms_come_out_as_different_in_at_most_five_per_cent():
    """With the narrowest margin, so that the t interval alone decides: 400 runs, 5 % and three standard errors."""
    words = [simulated_run(seed, 8, margin=1e-9).word for seed in range(400)]
    wrong = sum(word in ("A-faster", "B-faster") for word in words) / 400
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert wrong > 0.01, "an interval this wide would hide real differences"


def test_a_margin_makes_false_alarms_rarer_still():
    words = [simulated_run(seed, 8).word for seed in range(400)]
    assert sum(word in ("A-faster", "B-faster") for word in words) <= 400 * 0.05


def test_a_real_gap_is_found():
    """A true 3 % gap with 12 blocks against a spread of 2.1 % between blocks, in at least 80 % of runs."""
    words = [simulated_run(seed, 12, gap=0.03, margin=1e-9).word for seed in range(200)]
    assert words.count("B-faster") >= 160
    assert words.count("A-faster") == 0


def test_a_gap_well_beyond_the_margin_is_found_with_the_default_margin():
    words = [simulated_run(seed, 12, gap=0.05).word for seed in range(100)]
    assert words.count("B-faster") >= 80


def test_alternation_cancels_a_linear_drift_and_a_fixed_order_does_not():
    pairs = np.arange(40)
    first, second = 1e8 * (1 + 0.01 * 2 * pairs), 1e8 * (1 + 0.01 * (2 * pairs + 1))
    odd = pairs % 2 == 1
    alternated = block_ratio(np.where(odd, second, first), np.where(odd, first, second))
    fixed = block_ratio(first, second)
    assert abs(alternated.median_log_ratio) < abs(fixed.median_log_ratio) / 10
    assert abs(alternated.mean_log_ratio) < 1e-3 < abs(fixed.mean_log_ratio)


def test_block_ratio_of_known_times():
    ratio = block_ratio([2, 4, 9], [1, 2, 3])
    assert ratio.median_log_ratio == pytest.approx(math.log(2))
    assert ratio.mean_log_ratio == pytest.approx(math.log(15 / 6))
    assert ratio.pairs == 3
    assert ratio.disagrees(0.01)
    assert not block_ratio([2, 4, 6], [1, 2, 3]).disagrees(0.01)


def test_a_spike_moves_the_mean_and_not_the_median():
    a, b = np.full(40, 1e8), np.full(40, 1e8)
    a[7] *= 5
    ratio = block_ratio(a, b)
    assert ratio.median_log_ratio == 0
    assert ratio.mean_log_ratio == pytest.approx(math.log(1.1))


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([0.0], [1.0]),
                                      ([1.0], [-1.0]), ([math.inf], [1.0]), ([[1.0]], [[1.0]])])
def test_impossible_times_are_refused(a, b):
    with pytest.raises(ValueError, match=r"windows|window times"):
        block_ratio(a, b)


@given(st.lists(finite, min_size=2, max_size=20), st.sampled_from([0.05, 0.05 / 3, 0.2]))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_t_interval_is_its_closed_form(values, alpha):
    low, high = [np.mean(values) + sign * stats.t.ppf(1 - alpha / 2, len(values) - 1) * np.std(values, ddof=1)
                 / math.sqrt(len(values)) for sign in (-1, 1)]
    ours = t_interval(values, alpha)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((np.mean(values), low, high), abs=1e-12)


@given(st.lists(finite, min_size=1, max_size=60), st.sampled_from([0.05, 0.05 / 3, 0.2]))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_interval_for_the_median_is_the_sign_test_s(values, alpha):
    outside = int(stats.binom.ppf(alpha / 2, len(values), 0.5)) - 1
    ends = (sorted(values)[outside], sorted(values)[-1 - outside]) if outside >= 0 else None
    assert median_interval(values, alpha) == ends


@given(st.lists(finite, min_size=6, max_size=10))
@settings(deadline=None)
def test_the_sign_flip_p_counts_every_pattern(values):
    # Millionths as whole numbers: the count is then exact and ties are ties.
    units = [round(value * 1e6) for value in values]
    sums = [abs(sum(s * u for s, u in zip(signs, units, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(units))]
    assert sign_flip_p(values) == sum(total >= abs(sum(units)) for total in sums) / len(sums)


def test_the_sign_flip_p_is_scipys_permutation_test():
    values = [0.021, -0.004, 0.013, 0.008, 0.017, -0.002, 0.011]
    theirs = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue)


def test_the_sign_flip_p_needs_six_blocks_and_stays_exact_for_many():
    assert sign_flip_p([0.1] * 5) is None
    assert sign_flip_p([0.1] * 6) == 2 / 2**6
    assert sign_flip_p([0.1] * 25) == 2 / 2**25
    assert sign_flip_p([0.0] * 6) == 1.0
    assert sign_flip_p([0.1] * 41) is None


@pytest.mark.parametrize(("logs", "word"), [
    ([0.10, 0.11, 0.09, 0.10], "B-faster"),
    ([-0.10, -0.11, -0.09, -0.10], "A-faster"),
    ([0.001, -0.001, 0.0005, -0.0005], "equivalent"),
    ([0.05, -0.05, 0.02, 0.01], "inconclusive"),
    ([0.012, 0.013, 0.0125, 0.0005], "inconclusive"),
])
def test_words(logs, word):
    verdict = judge(logs)
    assert verdict.word == word
    assert (verdict.reason is None) == (verdict.next_action is None) == (word != "inconclusive")
    assert verdict.ci_low <= verdict.ratio <= verdict.ci_high
    assert verdict.ratio == pytest.approx(math.exp(np.mean(logs)))


def test_a_ratio_above_one_means_that_b_is_faster():
    verdict = judge([math.log(1.2), math.log(1.21), math.log(1.19)])
    assert verdict.ratio > 1
    assert verdict.word == "B-faster"


def test_significant_but_within_the_margin_is_equivalent():
    assert judge([0.0040, 0.0041, 0.0042, 0.0039]).word == "equivalent"


@given(st.lists(finite, min_size=0, max_size=12))
@settings(deadline=None)
def test_swapping_the_arms_swaps_the_verdict(logs):
    ours, theirs = judge(logs), judge([-x for x in logs])
    assert theirs.word == SWAPPED[ours.word]
    if ours.ratio is not None:
        assert theirs.ratio == pytest.approx(1 / ours.ratio)


@pytest.mark.parametrize(("logs", "margin"), [([0.02, -0.03, 0.01, 0.0], 0.01), ([0.05, 0.0], 0.02)])
def test_further_blocks_is_the_least_number_that_narrows_the_interval(logs, margin):
    more = further_blocks(logs, math.log1p(margin), 0.05)
    spread = np.std(logs, ddof=1)

    def half_width(n: int) -> float:
        return stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    n = len(logs) + more
    assert half_width(n) <= math.log1p(margin) < half_width(n - 1)
    assert judge(logs, margin).further_blocks == more
    assert str(more) in judge(logs, margin).next_action


def test_at_the_edge_of_the_margin_the_distance_to_it_counts():
    logs = [0.0150, 0.0153, 0.0108, 0.0111]
    verdict = judge(logs)
    assert (verdict.word, verdict.reason) == ("inconclusive", "at-the-margin")
    spread, n = np.std(logs, ddof=1), len(logs) + verdict.further_blocks
    distance = np.mean(logs) - math.log1p(0.01)
    assert stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) <= distance
    assert stats.t.ppf(0.975, n - 2) * spread / math.sqrt(n - 1) > distance


@pytest.mark.parametrize("logs", [[3.0, -3.0, 2.0, -2.0], [0.31, -0.2, 0.1, -0.25, 0.02, 0.3]])
def test_where_no_number_of_blocks_would_do_the_spread_that_would_is_named(logs):
    verdict = judge(logs)
    assert (verdict.further_blocks, verdict.reason) == (None, "noise")
    times = float(re.search(r"spread would have to be (\S+) times smaller: quieten", verdict.next_action)[1])
    values = np.array(logs)
    found = t_interval(values.mean() + (values - values.mean()) / times)
    assert (found.high - found.low) / 2 == pytest.approx(math.log1p(0.01), rel=0.5 / times + 1e-9)
    assert "1000" not in verdict.next_action


def test_a_difference_that_is_the_margin_is_to_be_quoted_as_it_is():
    edge = math.log1p(0.01)
    verdict = judge([edge + 1e-3, edge - 1e-3, edge + 1.1e-3, edge - 1e-3])
    assert (verdict.further_blocks, verdict.reason) == (None, "at-the-margin")
    assert verdict.next_action == ("the difference lies at the edge of the 1.0% margin: too close to it for blocks "
                                   "to tell on which side: quote the interval as it is")


def test_one_block_or_none_cannot_be_judged():
    one, none = judge([0.5]), judge([])
    assert (one.word, one.reason, one.ci_low, one.blocks) == ("inconclusive", "too-few-blocks", None, 1)
    assert one.ratio == pytest.approx(math.exp(0.5))
    assert (none.word, none.ratio, none.blocks) == ("inconclusive", None, 0)


def test_identical_values_give_an_interval_of_no_width():
    verdict = judge([0.02] * 4)
    assert verdict.word == "B-faster"
    assert verdict.ci_low == pytest.approx(verdict.ci_high)


@pytest.mark.parametrize("call", [judge, t_interval, sign_flip_p, lambda values: further_blocks(values, 0.01),
                                  median_interval])
def test_nan_is_refused(call):
    with pytest.raises(ValueError, match="finite"):
        call([0.1, math.nan, 0.2])


@pytest.mark.parametrize("bad", [{"margin": 0.0}, {"margin": 1.0}, {"alpha": 0.0}, {"alpha": 1.5}])
def test_margins_and_alphas_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="margin and alpha"):
        judge([0.1, 0.2], **bad)


def test_a_stricter_alpha_widens_the_interval():
    logs = [0.02, 0.03, 0.025, 0.035]
    assert judge(logs, alpha=0.05 / 3).ci_high > judge(logs).ci_high


CLEAN = [0.10, 0.11, 0.09, 0.10]


def test_dirty_blocks_that_change_nothing_are_kept():
    verdict = judge_clean_and_dirty([*CLEAN, 0.13], [False] * 4 + [True])
    assert verdict == judge([*CLEAN, 0.13])


def test_a_verdict_that_hangs_on_dirty_blocks_is_withdrawn():
    logs = [*CLEAN, -0.4]
    verdict = judge_clean_and_dirty(logs, [False] * 4 + [True])
    assert (verdict.word, verdict.reason) == ("inconclusive", "machine")
    assert "1 of 5 blocks" in verdict.next_action
    assert "'B-faster'" in verdict.next_action
    assert verdict.blocks == 5
    assert verdict.ratio == pytest.approx(math.exp(np.mean(logs)))


def test_a_verdict_from_dirty_blocks_alone_is_withdrawn():
    assert judge_clean_and_dirty(CLEAN, [True] * 4).reason == "machine"


def test_without_dirty_blocks_the_plain_verdict_stands():
    assert judge_clean_and_dirty(CLEAN, [False] * 4) == judge(CLEAN)
    with pytest.raises(ValueError, match="flags"):
        judge_clean_and_dirty(CLEAN, [False])
