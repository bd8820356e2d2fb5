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

# Blocks of training steps, of whole sampled batches; sets of images after a training; only the parity check.
Part = Literal["training", "sampling", "quality", "parity"]


@dataclass(frozen=True)
class Suite:
    """One entry of `--suite`.

    Attributes:
        name: as on the command line.
        parts: what is done one after another, each with a plan of its own.
        parity_steps: matched optimisation steps of the parity check.
        summary: one line for people.
    """

    name: str
    parts: tuple[Part, ...]
    parity_steps: int
    summary: str

    @property
    def trains(self) -> bool:
        """Whether training steps are measured or compared."""
        return "training" in self.parts or self.parity_steps > 0

    @property
    def samples(self) -> bool:
        """Whether images are drawn."""
        return "sampling" in self.parts or "quality" in self.parts


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("train-speed", ("training",), 20,
              "alternating step times, epochs, memory, cold start; parity as a gate"),
        Suite("sample-speed", ("sampling",), 0,
              "alternating whole batches of DDIM and DDPM samples; equal images as a gate"),
        Suite("quality", ("quality",), 0,
              "FID and its companions of every sampler setting, from given weights or after a training"),
        Suite("parity", ("parity",), 50,
              "the same weights, batches and noise through every arm: outputs, gradients, steps"),
        Suite("all", ("training", "sampling", "quality"), 50,
              "parity, train-speed, sample-speed and quality in one report"),
    )
}
