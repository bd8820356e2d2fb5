"""Counter-based random streams keyed by (seed, purpose, counters): the same numbers for both frameworks.

Layout (Philox4x64-10, Salmon et al. 2011):

- key word 0 is the seed;
- key word 1 is the 64-bit BLAKE2b digest of "purpose/number of counters";
- counter word 0 starts at 0 and is advanced by the generator itself;
- counter words 1 to 3 are the caller's counters, in order, the rest 0.

Two streams that differ in seed, purpose or any counter never share a block, since 2^64 draws would be needed to run
from one into the next. Nothing depends on what was drawn before, so a resumed training continues exactly.

What a training draws for an image belongs to (step, position in the whole batch), so that whoever computes a part of
the batch draws that part alone: noise has a stream for each position; flips and timesteps are the position's word of a
stream for the step, which a generator can begin at any block of four.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError
from messages import tell

# Which numbers a key gives, for whoever goes on with what another version began. 1: a step's noise, timesteps and flips
# were one stream each for the whole batch.
STREAMS = 2
_WORD = 2**64
_MAX_COUNTERS = 3
_BLOCK = 4


def stream(seed: int, purpose: str, *counters: int, block: int = 0) -> np.random.Generator:
    """A generator of its own for `purpose` at `counters`, for example ("noise", step, position).

    Args:
        seed: seed of the experiment, 0 <= seed < 2^64.
        purpose: what the numbers are for.
        counters: up to three numbers, each 0 <= c < 2^64.
        block: how many blocks of four 64-bit words are left out at its beginning.

    Raises:
        ValueError: a number is outside its range, or there are more than three counters.
    """
    if len(counters) > _MAX_COUNTERS:
        raise ValueError(f"a stream has at most {_MAX_COUNTERS} counters, got {len(counters)}")
    for name, number in [("seed", seed), *(("counter", counter) for counter in counters)]:
        if not 0 <= number < _WORD:
            raise ValueError(f"{name} {number} is outside 0..2^64-1")
    key = np.array([seed, _digest(purpose, len(counters))], dtype=np.uint64)
    position = np.array([block, *counters] + [0] * (_MAX_COUNTERS - len(counters)), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=position))


def batch_indices(seed: int, step: int, batch_size: int, n: int) -> NDArray[np.int64]:
    """Which images step `step` (from 0) trains on: int64 (batch_size,), without repeats.

    An epoch has n // batch_size steps; the images left over are dropped, other ones in every epoch.

    Raises:
        UsageError: the batch is larger than the data set, or not positive.
    """
    steps_per_epoch = n // batch_size if batch_size > 0 else 0
    if steps_per_epoch == 0:
        raise UsageError(tell("batch size {size}: the data set has {images} images, choose 1 to {images}",
                              size=batch_size, images=n))
    epoch, position = divmod(step, steps_per_epoch)
    return _epoch_order(seed, epoch, n)[position * batch_size : (position + 1) * batch_size].copy()


def flips(seed: int, step: int, batch_size: int, first: int = 0) -> NDArray[np.bool_]:
    """Which images of the batch are mirrored, each with probability one half: bool (batch_size,).

    Args:
        seed: seed of the experiment.
        step: from 0.
        batch_size: how many images, of the batch or of a part of it.
        first: position of the first of them in the whole batch.
    """
    return _uniform(seed, "flips", step, batch_size, first) < 0.5


def timesteps(seed: int, step: int, batch_size: int, T: int, first: int = 0) -> NDArray[np.int64]:
    """Timesteps of the batch, uniform over 0..T-1: int64 (batch_size,); see `flips`."""
    # Below T also after rounding, whatever T is.
    return (_uniform(seed, "timesteps", step, batch_size, first) * T).astype(np.int64)


def noise(seed: int, step: int, shape: tuple[int, ...], first: int = 0) -> NDArray[np.float32]:
    """Standard normal noise of the batch, or of its part from position `first`: float32 of `shape`, (B, ...)."""
    drawn = np.empty(shape, np.float32)
    generator = stream(seed, "noise", step, first)
    start = generator.bit_generator.state
    for position, image in enumerate(drawn.reshape(shape[0], -1), start=first):
        # Sets one generator back to its start, which takes an eighth of the time of making another.
        start["state"]["counter"][2] = position
        generator.bit_generator.state = start
        generator.standard_normal(out=image, dtype=np.float32)
    return drawn


def image_noise(seed: int, images: range, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise of sampling, every image from a stream of its own: float32 (len(images), *shape).

    Args:
        seed: seed of the sampling.
        images: numbers of the images.
        draw: which noise of an image: T for x_T, t for what is added on the way down from timestep t.
        shape: of one image, (C, H, W).
    """
    return np.stack([stream(seed, "image noise", image, draw).standard_normal(shape, dtype=np.float32)  # English
                     for image in images])


def _uniform(seed: int, purpose: str, step: int, count: int, first: int) -> NDArray[np.float64]:
    """Numbers `first` to `first + count - 1` of a step's, each of one word, uniform in [0, 1): (count,)."""
    blocks, before = divmod(first, _BLOCK)
    return stream(seed, purpose, step, block=blocks).random(before + count)[before:]


@lru_cache(maxsize=256)
def _digest(purpose: str, counters: int) -> int:
    return int.from_bytes(blake2b(f"{purpose}/{counters}".encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 for `epoch`: int64 (n,), read-only."""
    order = stream(seed, "epoch order", epoch).permutation(n).astype(np.int64, copy=False)  # English
    order.flags.writeable = False
    return order
