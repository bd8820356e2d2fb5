"""Intervals and the extrapolation: known answers, brute force, and how often an interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_evaluation import frechet
from torch_fidelity.metric_kid import kid_features_to_metric

from impls.evaluation import figures, intervals
from impls.evaluation.distances import Reference, Sample
from impls.evaluation.intervals import jackknife, kid_left_out, partition, study, wilson


@pytest.mark.parametrize(("n", "groups", "size"), [(2, 0, 0), (15, 0, 0), (16, 8, 2), (63, 8, 7), (64, 16, 4),
                                                   (503, 16, 31)])
def test_quarters_hold_every_image_once_and_groups_are_equal(n, groups, size):
    plan = partition(n, 7)
    assert sorted(plan.everything) == list(range(n))
    assert max(map(len, plan.quarters)) - min(map(len, plan.quarters)) <= 1
    assert len(plan.groups) == groups and {len(rows) for rows, _ in plan.groups} <= {size}
    left = [row for rows, _ in plan.groups for row in rows]
    assert len(left) == len(set(left))
    assert all(set(rows) <= set(plan.quarters[number]) for rows, number in plan.groups)
    again, other = partition(n, 7), partition(n, 8)
    assert list(plan.everything) == list(again.everything)
    assert n < 15 or list(plan.everything) != list(other.everything)


def test_the_jackknife_of_a_mean_is_the_t_interval_of_its_groups():
    rng = np.random.default_rng(0)
    x, plan = rng.normal(size=64), partition(64, 0)
    left_out = np.array([x[plan.without(group)].mean() for group in range(16)])
    means = np.array([x[rows].mean() for rows, _ in plan.groups])
    half = 2.131450 * means.std(ddof=1) / 4
    found = jackknife(x.mean(), left_out)
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), rel=1e-6)
    more = jackknife(0.0, left_out, 9 * half**2 / 2.131450**2)
    assert more.high == pytest.approx(half * 10**0.5, rel=1e-6)


def test_no_groups_no_interval():
    assert jackknife(1.0, np.array([])) == intervals.NONE


def test_wilson_as_published():
    # 81 of 263: Newcombe 1998, table I.
    found = wilson(81 / 263, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20).low == 0 and wilson(1.0, 20).high == 1


def test_the_ladder_and_what_remains_are_distances_of_those_images():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(66, 10)), rng.normal(size=(90, 10))
    plan = partition(66, 0)
    found = study(Sample(x, Reference(y)), plan)
    assert found.value == pytest.approx(frechet(x, y), rel=1e-9)
    np.testing.assert_allclose(found.left_out, [frechet(x[plan.without(g)], y) for g in range(16)], rtol=1e-9)
    quarters = [frechet(x[rows], y) for rows in plan.quarters]
    halves = [frechet(x[np.concatenate(plan.quarters[i::2])], y) for i in (0, 1)]
    assert [images for images, _ in found.ladder] == [16, 33, 66]
    np.testing.assert_allclose([value for _, value in found.ladder], [np.mean(quarters), np.mean(halves), found.value],
                               rtol=1e-9)
    # Without a group: only the parts that hold it change.
    rows, number = plan.groups[5]
    fewer = study(Sample(x, Reference(y)), plan).extrapolated_left_out[5]
    sizes, values = np.array([66, 33, 33, 17, 17, 16, 16]), np.array([found.value, *halves, *quarters])
    assert [len(quarter) for quarter in plan.quarters] == [17, 17, 16, 16]
    for i, part in enumerate([(0, 1, 2, 3), (0, 2), (1, 3), (0,), (1,), (2,), (3,)]):
        if number in part:
            rest = np.setdiff1d(np.concatenate([plan.quarters[q] for q in part]), rows)
            sizes[i], values[i] = len(rest), frechet(x[rest], y)
    weights = np.sqrt([1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25])
    line = np.linalg.lstsq(np.stack([weights, weights / sizes], 1), weights * values, rcond=None)[0]
    assert fewer == pytest.approx(line[0], rel=1e-9)


def test_the_extrapolation_takes_away_what_falls_with_one_over_n():
    assert intervals._intercept(np.array([80, 40, 40, 20, 20, 20, 20]), 3 + 5 / np.array([80, 40, 40, 20, 20, 20, 20])
                                ) == pytest.approx(3, rel=1e-12)
    rng = np.random.default_rng(2)
    reference = Reference(rng.normal(size=(4000, 8)))
    found = [study(Sample(rng.normal(size=(128, 8)), reference), partition(128, i)) for i in range(40)]
    assert abs(np.mean([one.extrapolated for one in found])) < 0.2 * np.mean([one.value for one in found])


def test_few_images_have_no_ladder():
    rng = np.random.default_rng(2)
    found = study(Sample(rng.normal(size=(7, 4)), Reference(rng.normal(size=(30, 4)))), partition(7, 0))
    assert found.extrapolated is None and [images for images, _ in found.ladder] == [7] and len(found.left_out) == 0


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of sets of this size: of the distance, of the extrapolation, and of the difference of two equal samplers."""
    rng = np.random.default_rng(5)
    reference = Reference(rng.normal(size=(2000, 4)))
    pairs = []
    for trial in range(150):
        plan, one, other = partition(96, trial), *rng.normal(0.3, 1.2, (2, 96, 4))
        pairs.append((study(Sample(one, reference), plan), study(Sample(other, reference), plan)))
    mean = np.mean([one.value for pair in pairs for one in pair])
    limit = np.mean([one.extrapolated for pair in pairs for one in pair])
    held = np.zeros(3)
    for one, other in pairs:
        for i, (value, left_out, truth) in enumerate([
                (one.value, one.left_out, mean), (one.extrapolated, one.extrapolated_left_out, limit),
                (one.value - other.value, one.left_out - other.left_out, 0)]):
            interval = jackknife(value, left_out)
            held[i] += interval.low <= truth <= interval.high
    # 95 % of 150 would be 142; fewer than 128 has a probability below 1e-5.
    assert (held >= 128).all(), held


def test_the_kernel_distance_without_a_group_is_that_of_the_rest():
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.4, 1, (70, 6)).astype(np.float32), rng.normal(size=(50, 6)).astype(np.float32)
    plan = partition(70, 0)
    found = kid_left_out(x, y, plan)

    def unbiased(z):
        xx, xy = ((z @ z.T / 6 + 1) ** 3).astype(np.float64), ((z @ y.T / 6 + 1) ** 3).astype(np.float64)
        return (xx.sum() - np.trace(xx)) / (len(z) * (len(z) - 1)) - 2 * xy.mean()

    np.testing.assert_allclose(found, [unbiased(x[plan.without(g)]) for g in range(16)], rtol=1e-5)
    yy = ((y @ y.T / 6 + 1) ** 3).astype(np.float64)
    constant = (yy.sum() - np.trace(yy)) / (50 * 49)
    wanted = kid_features_to_metric(torch.from_numpy(x[:50]), torch.from_numpy(y), kid_subsets=1, kid_subset_size=50,
                                    verbose=False)["kernel_inception_distance_mean"]
    assert unbiased(x[:50]) + constant == pytest.approx(wanted, rel=1e-4)


def test_the_inception_score_of_all_images_is_torch_fidelitys():
    logits = np.random.default_rng(0).normal(size=(67, 20)).astype(np.float32) * 3
    score, plan = figures.score_of_parts(logits, 5), partition(67, 0)
    assert score(plan.everything) == pytest.approx(figures.inception_score(logits, 5), rel=1e-12)
    first = np.random.RandomState(5).permutation(67)[:6]
    alone = figures.isc_features_to_metric(torch.from_numpy(logits[first[1:]]), 1, False)["inception_score_mean"]
    assert score(first[1:]) == pytest.approx(alone, rel=1e-12)


def test_recall_of_all_images_is_torch_fidelitys():
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.5, 1, (70, 6)).astype(np.float32), rng.normal(size=(50, 6)).astype(np.float32)
    recall = figures.recall_of_parts(x, y)
    assert recall(partition(70, 0).everything) == pytest.approx(figures.precision_recall(x, y)[1], abs=1e-7)
    assert recall(np.arange(20)) == pytest.approx(figures.precision_recall(x[:20], y)[1], abs=1e-7)
