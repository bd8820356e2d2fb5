"""A training of three epochs in nine steps each, and what its folder holds."""

from __future__ import annotations

import numpy as np

from impls.store.checkpoint import load_state, read_note

DEFAULT = ("--batch_size", 4, "--num_epochs", 3, "--checkpoint", 1)
SHORT = (*DEFAULT, "--keep_last", 0)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(one, other):
    """Two checkpoints, by everything that they hold."""
    (left, left_config), (right, right_config) = load_state(one), load_state(other)
    assert (left.step, left_config, read_note(one)) == (right.step, right_config, read_note(other))
    for part in ("params", "ema"):
        for name, array in getattr(left, part).items():
            np.testing.assert_array_equal(array, getattr(right, part)[name])
    return True


def last(folder):
    return sorted((folder / "checkpoints").iterdir())[-1]
