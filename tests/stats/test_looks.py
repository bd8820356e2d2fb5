"""Planned looks: what they spend, how often several of them err, and how soon a clear gap ends a run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_calibration import simulated

from harness.judge.verdicts import judge_run, sure
from harness.plan import Comparison
from harness.record.events import BlockState, RunStarted, Verdict, Window
from harness.record.run import RecordedRun
from harness.stats.looks import PLANNED, Looks
from harness.suites.training import Training

AB = Comparison("A", "B")
LOOKS = Looks(PLANNED)
# Of a block's log-ratio on the machine of test_calibration.py.
SPREAD = 0.0213


def test_the_looks_spend_alpha_and_no_more():
    assert LOOKS.blocks == (3, 5, 8, 12)
    assert LOOKS.levels() == pytest.approx([0.0015, 0.0015, 0.002, 0.045])
    for looks in (LOOKS, Looks((4, 6)), Looks((4, 9)), Looks((2, 12, 20))):
        assert sum(looks.levels()) == pytest.approx(0.05)
        for blocks in range(1, 15):
            spent = sum(looks.early(one) or 0.0 for one in looks.blocks[:-1] if one < blocks)
            assert looks.left(blocks) == pytest.approx(0.05 - spent), "a run that ends anywhere has spent 5 % at most"


def test_one_look_is_as_it_was():
    for declared in (1, None, "3", [], [3, 3], [5, 3], [3, "5"], [3, None], {"3": 1}, [1, 2], 3.5, [[3]]):
        assert Looks.read(declared) == Looks(), declared
    assert Looks().left(8) == 0.05 and Looks().early(8) is None and Looks().number(8) is None
    assert Looks.read([3, 5, 8, 12]) == LOOKS
    assert [LOOKS.number(blocks) for blocks in (1, 3, 4, 5, 8, 9, 12, 15)] == [1, 1, 2, 2, 3, 4, 4, 4]


def ends(mean, spread, bound, runs, seed=0, upto=12):
    """Words 1 (above), -1 (below), 0 (inside), None -> nan, and the blocks at which simulated runs end."""
    logs = np.random.default_rng(seed).normal(mean, spread, (runs, 12))
    word, blocks = np.full(runs, np.nan), np.zeros(runs)
    looks = [(one, LOOKS.early(one)) for one in LOOKS.blocks if one < upto] + [(upto, LOOKS.left(upto))]
    for count, alpha in looks:
        seen = logs[:, :count]
        half = stats.t.ppf(1 - alpha / 2, count - 1) * seen.std(axis=1, ddof=1) / math.sqrt(count)
        low, high = seen.mean(axis=1) - half, seen.mean(axis=1) + half
        found = np.select([low > bound, high < -bound, (low >= -bound) & (high <= bound)], [1, -1, 0], np.nan)
        now = (blocks == 0) & (~np.isnan(found) | (count == upto))
        word[now], blocks[now] = found[now], count
    return word, blocks


@pytest.mark.parametrize("upto", [4, 6, 8, 12])
def test_identical_arms_are_called_different_in_at_most_five_per_cent_of_runs_over_all_looks(upto):
    """By the interval alone, without the margin's protection, wherever a limit of time ends the run."""
    word, _ = ends(0.0, SPREAD, 1e-9, 40_000, upto=upto)
    wrong = np.mean(np.abs(word) == 1)
    print(f"A/A called different over all looks up to {upto} blocks: {wrong:.4f}")
    assert 0.03 < wrong <= 0.05


def test_of_several_comparisons_one_is_wrong_in_at_most_five_per_cent_of_runs():
    """Three of four equal arms beside a gap of 2, each level a third: what Holm gives the first that fails."""
    rng, wrong, runs = np.random.default_rng(1), 0, 20_000
    logs = rng.normal(0, SPREAD, (runs, 3, 12))
    for count, alpha in zip(LOOKS.blocks, LOOKS.levels(), strict=True):
        seen = logs[:, :, :count]
        half = stats.t.ppf(1 - alpha / 6, count - 1) * seen.std(axis=2, ddof=1) / math.sqrt(count)
        wrong = wrong | (np.abs(seen.mean(axis=2)) > half).any(axis=1)
    assert np.mean(wrong) <= 0.05


def test_a_true_gap_of_three_per_cent_is_found_in_four_of_five_runs_by_the_last_look():
    for gap, sign in ((math.log(1.03), 1), (-math.log(1.03), -1)):
        word, blocks = ends(gap, SPREAD, math.log(1.01), 40_000)
        print(f"gap {gap:+.3f} found by the last look: {np.mean(word == sign):.3f}, blocks {blocks.mean():.2f}")
        assert np.mean(word == sign) >= 0.80 and np.mean(word == -sign) == 0


@pytest.mark.parametrize(("ratio", "spread", "most"), [(2.0, SPREAD, 3.5), (2.0, 0.04, 3.7), (1.3, SPREAD, 4.3)])
def test_a_clear_gap_ends_a_run_soon(ratio, spread, most):
    word, blocks = ends(math.log(ratio), spread, math.log(1.01), 20_000)
    print(f"ratio {ratio}, spread of a block {spread}: {blocks.mean():.2f} blocks")
    assert np.mean(word == 1) == 1 and blocks.mean() <= most


def test_the_interval_at_a_stop_holds_the_truth_at_least_as_often_as_it_says():
    logs = np.random.default_rng(2).normal(math.log(1.05), SPREAD, (20_000, 12))
    held, open_ = np.zeros(len(logs)), np.ones(len(logs), bool)
    for count, alpha in zip(LOOKS.blocks, LOOKS.levels(), strict=True):
        seen = logs[:, :count]
        half = stats.t.ppf(1 - alpha / 2, count - 1) * seen.std(axis=1, ddof=1) / math.sqrt(count)
        now = open_ & ((seen.mean(axis=1) - half > math.log(1.01)) | (count == 12))
        held[now], open_ = np.abs(seen.mean(axis=1) - math.log(1.05))[now] <= half[now], open_ & ~now
    print(f"intervals at the stop hold a true ratio of 1.05 in {held.mean():.3f} of runs")
    assert held.mean() >= 0.95


def journal(seed, blocks, gap, looks=(3, 5, 8, 12)):
    events = simulated(seed, blocks, gap)
    started = events[0].model_copy(update={"declared": {"looks": list(looks) if looks else 1}})
    return RecordedRun(Path("results/r"), (started, *events[1:]))


def step_time(run):
    return next(one for one in judge_run(run, [AB], Training()) if isinstance(one, Verdict))


def upto(run, blocks):
    """The journal when so many blocks were measured."""
    def kept(event):
        number = getattr(event, "block", None)
        return number is None or isinstance(event, RunStarted) or number < blocks
    return RecordedRun(run.path, tuple(event for event in run.events if kept(event)))


def test_a_journal_is_judged_at_the_level_of_its_look():
    run = journal(0, 12, 0.5)
    verdict = step_time(upto(run, 3))
    assert sure(upto(run, 3), [AB], Training(), LOOKS)
    assert (verdict.look, verdict.looks, verdict.blocks, verdict.word) == (1, 4, 3, "B-faster")
    assert verdict.alpha == verdict.look_alpha == pytest.approx(0.0015)
    low, high = stats.t.interval(0.9985, 2, np.mean(verdict.block_log_ratios), stats.sem(verdict.block_log_ratios))
    assert (verdict.ci_low, verdict.ci_high) == pytest.approx((math.exp(low), math.exp(high)))
    near = journal(1, 12, 0.012)
    for blocks, look, left in ((3, 1, 0.05), (4, 2, 0.0485), (5, 2, 0.0485), (6, 3, 0.047), (12, 4, 0.045)):
        cut = upto(near, blocks)
        assert not sure(cut, [AB], Training(), LOOKS)
        verdict = step_time(cut)
        assert (verdict.look, verdict.alpha) == (look, pytest.approx(left)), blocks
    assert not sure(upto(run, 4), [AB], Training(), LOOKS), "no look is planned there"
    assert not sure(upto(run, 3), [AB], Training(), Looks()), "one look comes at the end"


def test_a_journal_of_one_look_is_judged_as_ever():
    run = journal(0, 8, 0.5, None)
    verdict = step_time(run)
    assert (verdict.look, verdict.looks, verdict.look_alpha, verdict.alpha) == (None, None, None, 0.05)


def test_a_look_that_hangs_on_a_disturbed_block_is_not_sure():
    run = journal(0, 3, 0.5)
    slowed = tuple(
        event.model_copy(update={"step_ns": [3 * event.step_ns[0]]})
        if isinstance(event, Window) and event.block == 1 and event.arm == "B" else
        event.model_copy(update={"dirty": True}) if isinstance(event, BlockState) and event.block == 1 else event
        for event in run.events)
    assert sure(run, [AB], Training(), LOOKS)
    assert not sure(RecordedRun(run.path, slowed), [AB], Training(), LOOKS)
