"""What each suite consists of, and what is fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

STEP_TIME = "step time"
FREE_STEP_TIME = "free-running step time"
CALL_TIME = "network call time"
SAMPLING_TIME = "sampling time"
SAMPLING_MEAN = "sampling time, geometric mean over cells"

MARGIN = 0.01
ALPHA = 0.05


@dataclass(frozen=True)
class Suite:
    """One entry of `--suite`.

    Attributes:
        name: as on the command line.
        work: what is measured in blocks: training steps, whole sampled batches, or nothing.
        parity_steps: matched optimisation steps of the parity check.
        summary: one line for people.
    """

    name: str
    work: Literal["training", "sampling"] | None
    parity_steps: int
    summary: str


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("train-speed", "training", 20,
              "alternating step times, epochs, memory, cold start; parity as a gate"),
        Suite("sample-speed", "sampling", 0,
              "alternating whole batches of DDIM and DDPM samples; equal images as a gate"),
        Suite("parity", None, 50,
              "the same weights, batches and noise through every arm: outputs, gradients, steps"),
        Suite("all", "training", 50, "train-speed with the full parity suite"),
    )
}
