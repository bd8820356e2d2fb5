"""What each suite consists of, and what is fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STEP_TIME = "step time"
FREE_STEP_TIME = "free-running step time"
SAMPLING_TIME = "sampling time"
SAMPLING_MEAN = "sampling time, geometric mean over cells"

MARGIN = 0.01
ALPHA = 0.05


@dataclass(frozen=True)
class Suite:
    """One entry of `--suite`.

    Attributes:
        name: as on the command line.
        speed: whether step times are measured in blocks.
        parity_steps: matched optimisation steps of the parity check.
        summary: one line for people.
    """

    name: str
    speed: bool
    parity_steps: int
    summary: str


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("train-speed", True, 20, "alternating step times, epochs, memory, cold start; parity as a gate"),
        Suite("parity", False, 50, "the same weights, batches and noise through every arm: outputs, gradients, steps"),
        Suite("all", True, 50, "train-speed with the full parity suite"),
    )
}
