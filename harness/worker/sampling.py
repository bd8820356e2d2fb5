"""What only a sampler does: whole batches of images, timed, rehearsed, drawn into a file, or timed carelessly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from harness.collector import without_collector
from harness.protocol import life, sampling, timing
from harness.worker.loops import Clock
from impls.backend import Images, Sampler
from impls.store import checkpoint


class _EnoughError(Exception):
    """The rehearsal is over."""


def batch(sampler: Sampler, command: sampling.Batch, clock: Clock) -> timing.Span:
    """One batch; a whole one has been read to the host when it ends, so nothing is left to wait for."""
    if command.calls is not None:
        return _rehearse(sampler, command, command.calls, clock)
    images, seed, method, steps = command.images, command.seed, command.method, command.steps
    sampler.synchronize()
    with without_collector():
        start = clock()
        sampler.sample(images, seed, method, steps)
        end = clock()
    return timing.Span(start_ns=start, end_ns=end, steps=steps)


def _rehearse(sampler: Sampler, command: sampling.Batch, calls: int, clock: Clock) -> timing.Span:
    """The first `calls` network calls of a batch, so that whatever it needs is compiled."""

    def stop(done: int, _read: object) -> None:
        if done >= calls:
            raise _EnoughError

    start = clock()
    with suppress(_EnoughError):
        sampler.sample(command.images, command.seed, command.method, command.steps, on_step=stop)
    sampler.synchronize()
    return timing.Span(start_ns=start, end_ns=clock(), steps=calls)


def draw(sampler: Sampler, command: sampling.Draw) -> life.Done:
    """Sample a batch and write it with moments of its denoising, evenly spaced, the last one being the images."""
    wanted = set(np.linspace(1, command.steps, min(command.frames, command.steps)).round().astype(int).tolist())
    frames: list[Images] = []

    def keep(calls: int, read: Callable[[], Images]) -> None:
        if calls in wanted:
            frames.append(read())

    images = sampler.sample(command.images, command.seed, command.method, command.steps, on_step=keep)
    checkpoint.save_arrays(Path(command.output), {"images": images, "frames": np.stack(frames)})
    return life.Done()


def trap(sampler: Sampler, command: sampling.SpringTrap, clock: Clock) -> sampling.TrapTimes:
    """What a clock says that does not wait for the device, and what it says after waiting."""
    images, seed, steps = command.images, command.seed, command.steps
    sampler.synchronize()
    with without_collector():
        start = clock()
        sampler.enqueue(images, seed, steps)
        asked = clock()
        sampler.synchronize()
        end = clock()
    return sampling.TrapTimes(unsynchronised_ns=asked - start, synchronised_ns=end - start)
