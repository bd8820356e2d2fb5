"""The published figures, by torch-fidelity's own functions, from features that are already there."""

from __future__ import annotations

from collections.abc import Callable
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

from impls.evaluation.distances import Rows

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
# Of each side: all pairs of distances are held in memory.
PRC_MOST = 10_000
NEIGHBOURS = 3
IS_SPLITS = 10
Statistics = dict[str, NDArray[Any]]


def statistics(features: NDArray[Any]) -> Statistics:
    """Mean and covariance as torch-fidelity computes them."""
    found: Statistics = fid_features_to_statistics(torch.from_numpy(features))
    return found


def frechet(drawn: Statistics, real: Statistics) -> float:
    """The Fréchet distance as torch-fidelity computes it."""
    return float(fid_statistics_to_metric(drawn, real, False)[KEY_METRIC_FID])


def kid(drawn: NDArray[Any], real: NDArray[Any], seed: int) -> tuple[float, float]:
    """The kernel distance: mean over random subsets, and the variance that the choice of subsets leaves in it."""
    size = min(KID_SUBSET_SIZE, len(drawn), len(real))
    found = kid_features_to_metric(torch.from_numpy(drawn), torch.from_numpy(real), kid_subsets=KID_SUBSETS,
                                   kid_subset_size=size, rng_seed=seed, verbose=False)
    return float(found[KEY_METRIC_KID_MEAN]), float(found[KEY_METRIC_KID_STD]) ** 2 / KID_SUBSETS


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
