"""Ranks that look at images together: which images each looks at, and that all features meet bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impls.errors import UsageError
from impls.evaluation.networks import Extracted
from impls.ranks import Ranks
from impls.tools.evaluate import shared
from impls.tools.team import Settled, Team

sys.path.append(str(Path(__file__).parents[1] / "train"))

from thread_ranks import every_rank  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 3), np.uint8)


@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 9))
def test_every_image_is_looked_at_once_in_the_batches_of_one_process(count, batch_size, size):
    parts = [shared.rows(count, batch_size, Ranks(rank, size)) for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert all(part.start % batch_size == 0 for part in parts if part)


def looked(images, logits=True):
    """Features whose last bits show where a batch begins, as those of a real network may."""
    flat = images.reshape(len(images), -1).astype(np.float32) / 7
    flat[:: 8] *= np.float32(1.0000001)
    return Extracted(flat, -flat[:, :5] if logits else None, 1.0)


@pytest.mark.parametrize(("size", "batch_size", "logits"), [(2, 8, True), (3, 8, False), (4, 64, True)])
def test_the_features_of_all_ranks_are_those_of_one_process(monkeypatch, size, batch_size, logits):
    monkeypatch.setattr(shared, "ROWS", 7)
    one = looked(IMAGES, logits)
    for found in every_rank(size, lambda group: shared.look(
            lambda images: looked(images, logits), IMAGES, batch_size, Team(group))):
        np.testing.assert_array_equal(found.features, one.features)
        assert found.features.dtype == np.float32 and (found.logits is None) == (not logits)
        if logits:
            np.testing.assert_array_equal(found.logits, one.logits)


def test_a_rank_whose_network_fails_ends_all():
    def work(group):
        def extract(images):
            if group.ranks.rank == 1:
                raise UsageError("the network gave NaN")
            return looked(images)

        together = Team(group)
        with together.ending_together():
            shared.look(extract, IMAGES, 8, together)

    first, second = every_rank(2, work)
    assert isinstance(second, Settled) and "the network gave NaN" in str(second) and isinstance(first, SystemExit)


def test_other_images_have_another_digest():
    other = IMAGES.copy()
    other[3, 0, 0, 0] ^= 1
    assert shared.digest([IMAGES]) == shared.digest([IMAGES.copy()]) != shared.digest([other])
    assert shared.digest([IMAGES, other]) != shared.digest([other, IMAGES])
