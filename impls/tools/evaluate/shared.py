"""Several ranks look at images together: each at some batches, and all features meet at every one of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from impls.evaluation.inputs import Images, sha256_of
from impls.evaluation.networks import Extracted, Floats
from impls.ranks import Ranks
from impls.tools.team import Team

# Rows of features that the ranks exchange at once.
ROWS = 1024


def rows(count: int, batch_size: int, ranks: Ranks) -> range:
    """The images that a rank looks at: whole batches, the same ones as of one process, so that no bit differs."""
    batches = -(-count // batch_size)
    first, after = (number * batches // ranks.size for number in (ranks.rank, ranks.rank + 1))
    return range(min(count, first * batch_size), min(count, after * batch_size))


def look(extract: Callable[[Images], Extracted], images: Images, batch_size: int, together: Team) -> Extracted:
    """Features of all images, of which every rank computes a part.

    Args:
        extract: looks at some of them, one at least.
        images: all of them, the same on every rank.
        batch_size: images that it looks at at once.
        together: the ranks.

    Raises:
        UsageError: as `extract`; of another rank as `SystemExit`.
    """
    began = time.perf_counter()
    own = rows(len(images), batch_size, together.ranks)
    found = extract(images[own.start : own.stop]) if own else None
    # Who failed says so here.
    together.agreed()
    logits = 0 if found is None or found.logits is None else found.logits.shape[1]
    told = together.told(f"{0 if found is None else found.features.shape[1]} {logits}")
    wide, more = (max(map(int, column)) for column in zip(*map(str.split, told), strict=True))
    whole: Floats = np.empty((len(images), wide + more), np.float32)
    for start in range(0, len(images), ROWS):
        part = np.zeros((min(ROWS, len(images) - start), wide + more))
        mine = range(max(start, own.start), min(start + len(part), own.stop))
        if mine and found is not None:
            at = slice(mine.start - own.start, mine.stop - own.start)
            columns = [found.features[at], *([] if found.logits is None else [found.logits[at]])]
            part[mine.start - start : mine.stop - start] = np.concatenate(columns, axis=1)
        # A sum of one number and zeros, in twice the digits: exactly that number.
        whole[start : start + len(part)] = together.group.total(part)
    features, rest = (np.ascontiguousarray(columns) for columns in (whole[:, :wide], whole[:, wide:]))
    return Extracted(features, rest if more else None, len(images) / (time.perf_counter() - began))


def digest(sets: Sequence[Images]) -> str:
    """What tells whether ranks look at the same images."""
    return hashlib.sha256("".join(map(sha256_of, sets)).encode()).hexdigest()[:16]
