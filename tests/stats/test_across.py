"""Verdicts across runs: Welch's interval against its closed form, error rates on simulated runs, degenerate inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.across import (
    BlockLogs,
    further_blocks,
    judge_change,
    judge_changes,
    p_beyond,
)
from harness.stats.interval import welch_interval

SWAPPED = {"slower": "faster", "faster": "slower", "equivalent": "equivalent", "inconclusive": "inconclusive"}
values = st.lists(st.floats(-0.3, 0.3).map(lambda x: round(x, 6)), min_size=2, max_size=9)


def logs(values, dirty=()):
    return BlockLogs(tuple(values), tuple(i in dirty for i in range(len(values))))


def welch(before, after):
    """Difference, its error, and Welch's degrees of freedom."""
    parts = np.var(before, ddof=1) / len(before), np.var(after, ddof=1) / len(after)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(before) - 1) + parts[1] ** 2 / (len(after) - 1))
    return np.mean(after) - np.mean(before), math.sqrt(sum(parts)), freedom


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
@pytest.mark.parametrize(("n", "m", "spread"), [(6, 6, 1.0), (8, 5, 3.0), (2, 12, 0.2)])
def test_the_interval_is_its_closed_form(n, m, spread, alpha):
    rng = np.random.default_rng(n)
    before, after = rng.normal(3, 0.02, n), rng.normal(3.01, 0.02 * spread, m)
    difference, error, freedom = welch(before, after)
    half = stats.t.ppf(1 - alpha / 2, freedom) * error
    assert welch_interval(before, after, alpha) == pytest.approx(
        (difference, difference - half, difference + half), rel=1e-12)


@pytest.mark.parametrize("gap", [0.03, -0.03])
def test_the_p_value_is_the_level_at_which_the_interval_touches_the_margin(gap):
    rng = np.random.default_rng(1)
    before, after = rng.normal(0, 0.01, 7), rng.normal(gap, 0.02, 9)
    p = p_beyond(logs(before), logs(after))
    assert 0 < p < 1
    touching = welch_interval(before, after, p)
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(math.log1p(0.01), rel=1e-9)
    difference, error, freedom = welch(before, after)
    assert p == pytest.approx(2 * stats.t.sf((abs(difference) - math.log1p(0.01)) / error, freedom), rel=1e-12)


def simulated(seed, gap=0.0, blocks=8, spread=(0.015, 0.015)):
    """Two runs of one arm: every block has its own level, as fresh processes have."""
    rng = np.random.default_rng(seed)
    return logs(rng.normal(0, spread[0], blocks)), logs(rng.normal(gap, spread[1], blocks - 2))


@pytest.mark.parametrize("spread", [(0.015, 0.015), (0.005, 0.03)])
def test_unchanged_arms_come_out_as_changed_in_at_most_five_per_cent(spread):
    """With the narrowest margin, so that the interval alone decides: 400 pairs of runs, 5 % and three errors."""
    words = [judge_change(*simulated(seed, spread=spread), margin=1e-9).word for seed in range(400)]
    wrong = sum(word in ("slower", "faster") for word in words) / 400
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert wrong > 0.01, "an interval this wide would hide real changes"


def test_a_change_of_exactly_the_margin_is_called_slower_in_at_most_a_fortieth():
    words = [judge_change(*simulated(seed, math.log1p(0.01))).word for seed in range(400)]
    assert words.count("slower") / 400 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400)


def test_holm_keeps_false_alarms_of_a_family_within_five_per_cent():
    """Five unchanged arms each time: without the step-down about a fifth of the families would raise an alarm."""
    alarms = 0
    for seed in range(300):
        family = [simulated(1000 * seed + arm, spread=(0.01, 0.01)) for arm in range(5)]
        alarms += any(c.word in ("slower", "faster") for c in judge_changes(family, margin=1e-9))
    assert alarms / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_holm_steps_down_and_keeps_the_order_given():
    rng = np.random.default_rng(0)
    clear, unclear = ((logs(rng.normal(0, 0.005, 8)), logs(rng.normal(gap, 0.005, 8))) for gap in (0.2, 0.001))
    found = judge_changes([unclear, clear, unclear])
    assert [change.alpha for change in found] == pytest.approx([0.05 / 2, 0.05 / 3, 0.05 / 2])
    assert [change.word for change in found][1] == "slower"


def test_a_real_slow_down_is_found_and_equal_runs_are_equivalent():
    rng = np.random.default_rng(3)
    before, same, slower = (logs(rng.normal(level, 0.004, 8)) for level in (0, 0, math.log(1.03)))
    change = judge_change(before, slower)
    assert change.word == "slower" and change.ratio == pytest.approx(1.03, abs=0.01)
    assert judge_change(slower, before).word == "faster"
    assert judge_change(before, same).word == "equivalent"


@settings(max_examples=150, deadline=None)
@given(values, values)
def test_exchanging_the_runs_exchanges_the_verdict(before, after):
    one, other = judge_change(logs(before), logs(after)), judge_change(logs(after), logs(before))
    assert one.word == SWAPPED[other.word]
    assert one.ratio == pytest.approx(1 / other.ratio)


@settings(max_examples=100, deadline=None)
@given(values)
def test_the_same_blocks_twice_are_never_a_change(same):
    assert judge_change(logs(same), logs(same)).word in ("equivalent", "inconclusive")


def test_a_verdict_that_hangs_on_disturbed_blocks_is_withdrawn():
    calm, worse = [0.0, 0.001, -0.001, 0.0005, -0.0005, 0.0], [0.06, 0.061, 0.0595, 0.0605]
    assert judge_change(logs(calm), logs(worse)).word == "slower"
    change = judge_change(logs(calm), logs([*worse, 0.0605, 0.06], dirty=range(5)))
    assert (change.word, change.reason, change.blocks_after) == ("inconclusive", "machine", 6)
    assert "5 of 12 blocks" in change.next_action and change.ratio == pytest.approx(1.062, abs=0.001)
    assert judge_change(logs(calm), logs(worse, dirty=(0,))).word == "slower"


@pytest.mark.parametrize(("n", "m", "ratio"), [(0, 4, None), (1, 4, 1.0), (4, 1, 1.0), (0, 0, None)])
def test_too_few_blocks_decide_nothing(n, m, ratio):
    change = judge_change(logs([0.0] * n), logs([0.0] * m))
    assert (change.word, change.reason, change.ratio, change.ci_low) == ("inconclusive", "too-few-blocks", ratio, None)
    assert judge_changes([(logs([0.0] * n), logs([0.0] * m))]) == [change]


def test_blocks_without_any_spread_need_no_degrees_of_freedom():
    assert judge_change(logs([0.0] * 3), logs([0.0] * 3)).word == "equivalent"
    assert judge_change(logs([0.0] * 3), logs([0.1] * 3)).word == "slower"


def test_an_undecided_change_says_how_many_blocks_are_missing():
    before, after = simulated(5, blocks=8)
    change = judge_change(before, after)
    assert change.reason == "noise"
    more = int(change.next_action.split("about ")[1].split()[0])
    half = (math.log(change.ci_high) - math.log(change.ci_low)) / 2
    assert half > math.log1p(0.01) and 1 < more < 1000


@pytest.mark.parametrize("margin", [0, 1, -0.1])
def test_bad_margins_and_values_are_refused(margin):
    with pytest.raises(ValueError, match="margin and alpha"):
        judge_change(logs([0, 0]), logs([0, 0]), margin)
    with pytest.raises(ValueError, match="finite"):
        judge_change(logs([0, math.nan]), logs([0, 0]))
    with pytest.raises(ValueError, match="flags"):
        BlockLogs((0.0,), ())
    with pytest.raises(ValueError, match="two values"):
        welch_interval([0.0], [0.0, 1.0])


@pytest.mark.parametrize("target", [0.004, 0.01, 0.03])
def test_the_blocks_still_missing_are_the_fewest_that_suffice(target):
    rng = np.random.default_rng(9)
    before, after = rng.normal(0, 0.02, 6), rng.normal(0, 0.03, 8)
    more = further_blocks(before, after, target, 0.05)

    def half(n):
        parts = before.var(ddof=1) / (6 + n), after.var(ddof=1) / (8 + n)
        freedom = sum(parts) ** 2 / (parts[0] ** 2 / (5 + n) + parts[1] ** 2 / (7 + n))
        return stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))

    assert half(more) <= target < half(more - 1)
    assert further_blocks(before, after, 1e-5, 0.05) is None
