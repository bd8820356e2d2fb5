"""What a step of a run is called: a training step, a call of the network while sampling, or either."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """The words for one step.

    Attributes:
        step: one of them, in full.
        steps: several.
        time: how long one takes, as an axis or a row calls it.
        short: one of them where the context is clear.
        doing: what a run of such steps does.
    """

    step: str
    steps: str
    time: str
    short: str
    doing: str


TRAINING = Unit("step", "steps", "step time", "step", "training")
SAMPLING = Unit("network call", "network calls", "time per call", "call", "sampling")
# A run that trains and samples, where a figure covers both.
EITHER = Unit("step", "steps", "time per step", "step", "training and sampling")
