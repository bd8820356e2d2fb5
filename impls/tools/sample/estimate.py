"""What a set of images for evaluation will take, before it is drawn: room on the disk, and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from impls.backend import Images, Sampler
from impls.errors import UsageError
from impls.recipe.config import ModelConfig
from impls.store.shards import SHARDS
from impls.tools.cost import duration, free_bytes, megabytes
from impls.tools.sample.loop import Request
from messages import tell

# Trying what a network call takes costs as many calls as this; it is not tried where it would be much of the work.
TRIED_CALLS = 3
WORTH_CALLS = 200
# Beside the images: headers, the grid, and what a disk rounds up.
SPARE_BYTES = 2_000_000


class _EnoughError(Exception):
    """A chain was followed as far as it was wanted."""


def require_room(root: Path, model: ModelConfig, count: int) -> str:
    """Refuse a set that does not fit on its disk; how much it takes, and how much there is, in words.

    Args:
        root: where it is made: shards, and all images together twice.
        model: whose images.
        count: how many.

    Raises:
        UsageError: the disk has too little left.
    """
    each = model.image_channels * model.image_size**2
    try:
        there = sum(path.stat().st_size for path in (root / SHARDS).glob("*.npz"))
    except OSError:
        there = 0
    needed = 2 * count * each + max(0, count * each - there) + SPARE_BYTES
    free, place = free_bytes(root)
    if needed > free:
        raise UsageError(tell("--sample_root {root}: {count} images take {needed} there, the disk of {place} has "
                              "{free} left: make room, or choose another --sample_root", root=root, count=count,
                              needed=megabytes(needed), place=place, free=megabytes(free)))
    return tell("on the disk {needed}; {free} are free", needed=megabytes(needed), free=megabytes(free))


def call_s(sampler: Sampler, request: Request, nfe: int, images: int,
           clock: Callable[[], float] = time.perf_counter) -> float | None:
    """Seconds of a network call, tried with images that are thrown away; None where a chain is too short for that.

    Args:
        sampler: with its weights.
        request: the chain.
        nfe: its network calls.
        images: drawn at once.
        clock: seconds.
    """
    last, stamps = min(TRIED_CALLS, nfe), list[float]()
    if last < 2:
        return None

    def on_step(calls: int, read: Callable[[], Images]) -> None:
        # The first call may compile.
        if calls in (1, last):
            read()
            stamps.append(clock())
        if calls == last:
            raise _EnoughError

    with suppress(_EnoughError):
        sampler.sample(images, request.seed, request.method, request.steps, request.eta, on_step,
                       spacing=request.spacing, first=0)
    return (stamps[1] - stamps[0]) / (last - 1)


def forecast(seconds: float, batches: int, nfe: int, ranks: int) -> str:
    """How long the drawing will take.

    Args:
        seconds: of a network call.
        batches: that this process draws.
        nfe: network calls of one.
        ranks: that draw as many at the same time.
    """
    of_each = tell(" on each of {ranks} ranks", ranks=ranks) if ranks > 1 else ""
    return tell("about {time}: {batches} batches of {calls} network calls{of_each}, {seconds} s a call",
                time=duration(seconds * batches * nfe), batches=batches, calls=nfe, of_each=of_each,
                seconds=f"{seconds:.2g}")
