"""A trainer beside another of the same framework, of which one kind of operator is swapped: both step in turn."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import numpy as np

from harness.protocol import timing, training
from harness.worker.loops import Clock, stepwise
from impls.backend import Trainer
from impls.recipe.config import ExperimentConfig, validated
from impls.registry import parse_arm
from messages import tell


def swap(trainer: Trainer, config: ExperimentConfig, command: training.Swap, clock: Clock) -> training.SwapTimes:
    """Build the other trainer, warm it up, time windows of their steps in turn, and close the other.

    One process, so that nothing differs but the operators.
    """
    if command.experiment is not None:
        config = validated(command.experiment, tell("the runner's configuration"))
    images = np.load(command.data_path, mmap_mode="r", allow_pickle=False)
    other = parse_arm(command.arm).create(command.device, command.threads).trainer(config, images[: command.images])
    try:
        operators: Mapping[str, str] = other.info.operators
        window = timing.Stepwise(steps=command.steps)
        plain: list[int] = []
        swapped: list[int] = []
        stepwise(other, timing.Stepwise(steps=command.warm), clock)
        for number in range(command.rounds):
            # Turn about, so that neither always comes first.
            for which in (0, 1) if number % 2 else (1, 0):
                (swapped if which else plain).extend(stepwise(other if which else trainer, window, clock).step_ns)
    finally:
        other.close()
        del other
        gc.collect()
    return training.SwapTimes(plain_ns=plain, swapped_ns=swapped, operators=dict(operators))
