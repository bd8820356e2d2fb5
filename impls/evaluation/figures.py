"""All figures of one set of images, from its features and those of the real images.

The published ones are computed by torch-fidelity's own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    calc_cdist_full,
    prc_features_to_metric,
)

from impls.evaluation import distances, intervals
from impls.evaluation.distances import Rows
from impls.evaluation.inputs.statistics import Published
from impls.evaluation.intervals import NONE, Interval, Partition, Study, jackknife
from impls.evaluation.networks import Extracted, FeatureSpec, Floats
from impls.evaluation.results import Difference, Figure, Metric
from messages import marked, recorded

# Fewer leave the covariance of Inception's features without full rank.
FULL_RANK = 2048
NO_SCORE = marked("the Inception Score is defined over Inception's classes")
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
# Of each side: all pairs of distances are held in memory.
PRC_MOST = 10_000
NEIGHBOURS = 3
IS_SPLITS = 10
NO_FEATURES = marked("needs features of the real images; the reference is statistics alone")
Statistics = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Real:
    """What is known of the real images.

    Attributes:
        features: theirs (m, d); None where only statistics were published.
        statistics: the Gaussian of these for torch-fidelity's distance.
        fitted: the same for ours.
    """

    features: Floats | None
    statistics: Statistics
    fitted: distances.Reference

    @classmethod
    def of(cls, features: Floats) -> Real:
        """With the Gaussian fitted to the features."""
        return cls(features, statistics(features), distances.Reference(features))

    @classmethod
    def published(cls, found: Published) -> Real:
        """The Gaussian alone.

        Raises:
            UsageError: its covariance is none.
        """
        return cls(None, {"mu": found.mean, "sigma": found.covariance}, found.fitted())


@dataclass(frozen=True)
class Found:
    """The figures of one set, and what a difference to another set needs.

    Attributes:
        figures: all of them.
        study: of the distance.
        interval: how the intervals were made, for people.
    """

    figures: list[Figure]
    study: Study
    interval: str


def figures(drawn: Extracted, real: Real, spec: FeatureSpec, seed: int) -> Found:
    """Every figure of a set of two images or more."""
    n = len(drawn.features)
    plan = intervals.partition(n, seed)
    study = intervals.study(distances.Sample(drawn.features, real.fitted), plan)
    # Published means are float64, and torch-fidelity wants both alike.
    ours = statistics(drawn.features.astype(real.statistics["mu"].dtype, copy=False))
    published = fid_statistics_to_metric(ours, real.statistics, False)
    value = float(published[KEY_METRIC_FID])
    # The interval lies around the published figure; the two computations agree to rounding.
    found = [_figure("fd", value, jackknife(value, study.left_out))]
    if study.extrapolated is None:
        found.append(_none("fd-extrapolated", recorded("needs {count} images", count=intervals.LADDER_LEAST)))
    else:
        found.append(_figure("fd-extrapolated", study.extrapolated,
                             jackknife(study.extrapolated, study.extrapolated_left_out)))
    found += [_kid(drawn, real, plan, seed), _score(drawn, plan, spec, seed), *_precision_recall(drawn, real, seed)]
    return Found(found, study, _interval(plan))


def difference(a: int, b: int, one: Found, other: Found, images: int) -> Difference:
    """The distance of set `a` less that of set `b`: the same images of both are left out together."""
    first, second = one.figures[0].value, other.figures[0].value
    if first is None or second is None:
        raise ValueError("a distance always has a value")
    value = first - second
    interval = jackknife(value, one.study.left_out - other.study.left_out)
    return Difference(a=a, b=b, images=images, value=value, ci_low=interval.low, ci_high=interval.high)


def warnings(images: int, spec: FeatureSpec) -> list[str]:
    """What a reader must know before quoting the distance."""
    found = []
    if images >= intervals.LADDER_LEAST and images // 4 <= spec.feature_size:
        found.append(recorded("the distance at infinitely many images is a rough guess: a quarter of {images} images "
                              "is fewer than the {features} features, and there the bias does not fall with 1/n",
                              images=images, features=spec.feature_size))
    if images >= FULL_RANK and images > spec.feature_size:
        return found
    needed = max(FULL_RANK, spec.feature_size + 1)
    found.append(
        recorded("{images} images are fewer than the {needed} that the distance needs; the covariance of {features} "
                 "features over so few has no full rank: it is biased upwards; compare it only at the same number of "
                 "images, and rather use the KID, which is unbiased", images=images, needed=needed,
                 features=spec.feature_size) if images <= spec.feature_size else
        recorded("{images} images are fewer than the {needed} that the distance needs: it is biased upwards; compare "
                 "it only at the same number of images, and rather use the KID, which is unbiased", images=images,
                 needed=needed))
    return found


def statistics(features: NDArray[Any]) -> Statistics:
    """Mean and covariance as torch-fidelity computes them."""
    found: Statistics = fid_features_to_statistics(torch.from_numpy(features))
    return found


def inception_score(logits: NDArray[Any], seed: int) -> float:
    """The Inception Score over ten splits; at least ten images."""
    return float(isc_features_to_metric(torch.from_numpy(logits), IS_SPLITS, True, seed)[KEY_METRIC_ISC_MEAN])


def score_of_parts(logits: NDArray[Any], seed: int) -> Callable[[Rows], float]:
    """Inception Score as a function of which images are used; every image stays in the split that it is in."""
    # As torch-fidelity shuffles: drawn anew for every subset, the splits alone would double the spread.
    order = np.random.RandomState(seed).permutation(len(logits))
    splits = [order[i * len(order) // IS_SPLITS : (i + 1) * len(order) // IS_SPLITS] for i in range(IS_SPLITS)]

    def score(rows: Rows) -> float:
        kept = [split[np.isin(split, rows)] for split in splits]
        return float(np.mean([isc_features_to_metric(torch.from_numpy(logits[part]), 1, False)[KEY_METRIC_ISC_MEAN]
                              for part in kept if len(part)]))

    return score


def precision_recall(drawn: NDArray[Any], real: NDArray[Any]) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019); more than `NEIGHBOURS` images of each."""
    found = prc_features_to_metric(torch.from_numpy(drawn), torch.from_numpy(real), prc_neighborhood=NEIGHBOURS,
                                   verbose=False)
    return float(found[KEY_METRIC_PRECISION]), float(found[KEY_METRIC_RECALL])


def recall_of_parts(drawn: NDArray[Any], real: NDArray[Any]) -> Callable[[Rows], float]:
    """Recall as a function of which drawn images are used; the distances are computed once."""
    own = calc_cdist_full(torch.from_numpy(drawn), torch.from_numpy(drawn))
    to_real = calc_cdist_full(torch.from_numpy(real), torch.from_numpy(drawn))

    def recall(rows: Rows) -> float:
        chosen = torch.from_numpy(np.sort(rows))
        radii = own[chosen][:, chosen].kthvalue(NEIGHBOURS + 1).values
        return float((to_real[:, chosen] <= radii).any(dim=1).float().mean())

    return recall


def _kid(drawn: Extracted, real: Real, plan: Partition, seed: int) -> Figure:
    """The kernel distance: the mean over random subsets."""
    if real.features is None:
        return _none("kid", NO_FEATURES)
    ours, theirs = drawn.features, real.features
    found = kid_features_to_metric(
        torch.from_numpy(ours), torch.from_numpy(theirs), kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SUBSET_SIZE, len(ours), len(theirs)), rng_seed=seed, verbose=False)
    value = float(found[KEY_METRIC_KID_MEAN])
    if not plan.groups:
        return _figure("kid", value, NONE)
    left_out = intervals.kid_left_out(ours, theirs[: PRC_MOST], plan)
    # The choice of the subsets leaves a variance of its own.
    choice = float(found[KEY_METRIC_KID_STD]) ** 2 / KID_SUBSETS
    return _figure("kid", value, jackknife(value, left_out, choice))


def _score(drawn: Extracted, plan: Partition, spec: FeatureSpec, seed: int) -> Figure:
    if not spec.inception_score or drawn.logits is None:
        return _none("is", NO_SCORE)
    logits = drawn.logits
    if len(logits) < IS_SPLITS:
        return _none("is", recorded("needs {count} images", count=IS_SPLITS))
    value = inception_score(logits, seed)
    left_out = intervals.left_out(plan, score_of_parts(logits, seed))
    return _figure("is", value, jackknife(value, left_out))


def _precision_recall(drawn: Extracted, real: Real, seed: int) -> list[Figure]:
    if real.features is None:
        return [_none("precision", NO_FEATURES), _none("recall", NO_FEATURES)]
    ours, theirs = drawn.features[: PRC_MOST], real.features[: PRC_MOST]
    if min(len(ours), len(theirs)) <= NEIGHBOURS:
        reason = recorded("needs {count} images", count=NEIGHBOURS + 1)
        return [_none("precision", reason), _none("recall", reason)]
    precision, recall = precision_recall(ours, theirs)
    plan = intervals.partition(len(ours), seed)
    interval = NONE
    if plan.groups:
        spread = jackknife(recall, intervals.left_out(plan, recall_of_parts(ours, theirs)))
        if spread.low is not None and spread.high is not None:
            interval = Interval(max(0.0, spread.low), min(1.0, spread.high))
    return [_figure("precision", precision, intervals.wilson(precision, len(ours))),
            _figure("recall", recall, interval)]


def _figure(metric: Metric, value: float, interval: Interval) -> Figure:
    few = recorded("no interval: needs {count} images", count=intervals.GROUPS[-1][0])
    return Figure(metric=metric, value=value, ci_low=interval.low, ci_high=interval.high,
                  reason=few if interval.low is None else None)


def _none(metric: Metric, reason: str) -> Figure:
    return Figure(metric=metric, value=None, reason=reason)


def _interval(plan: Partition) -> str:
    if not plan.groups:
        return recorded("95 %, Wilson's for precision alone; the real images are taken as given")
    size = len(plan.groups[0][0])
    return recorded("95 %, t over a jackknife that leaves out each of {groups} random groups of {size} images; "
                    "Wilson's for precision; the real images are taken as given", groups=len(plan.groups), size=size)
