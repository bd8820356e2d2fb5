"""Messages for a sampler: whole batches of images."""

from __future__ import annotations

from typing import Literal

from harness.protocol.life import Command, Done, Reply
from harness.protocol.timing import Span
from impls.recipe.config import Method


class Batch(Command[Span]):
    """Sample one whole batch, from noise to uint8 on the host; answered with the network calls as steps.

    With `calls` only so many network calls are made, which compiles what the whole batch needs.
    """

    op: Literal["batch"] = "batch"
    method: Method
    steps: int
    images: int
    seed: int
    calls: int | None = None


class Draw(Command[Done]):
    """Sample a batch and write `images` and `frames` (moments of the denoising) to a file."""

    op: Literal["draw"] = "draw"
    method: Method
    steps: int
    images: int
    seed: int
    frames: int
    output: str


class TrapTimes(Reply):
    """From one start: until the work was asked for, and until it was finished."""

    kind: Literal["trap-times"] = "trap-times"
    unsynchronised_ns: int
    synchronised_ns: int


class SpringTrap(Command[TrapTimes]):
    """Time one DDIM batch without synchronising, and go on to its real end."""

    op: Literal["trap"] = "trap"
    steps: int
    images: int
    seed: int
