"""What only a trainer does: epochs and losses, and states, outputs and gradients through safetensors files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.collector import without_collector
from harness.protocol import life, training
from harness.worker.loops import Clock
from impls.backend import Arrays, Trainer, loss_scale_of
from impls.recipe.config import ExperimentConfig
from impls.store import checkpoint


def epochs(trainer: Trainer, command: training.Epochs, clock: Clock) -> training.EpochTimes:
    """Whole epochs, synchronised between them; a gap ends when the next first batch is there."""
    trainer.loader_wait_ns()
    done: list[training.EpochTime] = []
    step, steps = trainer.step, command.steps
    stamps = [0] * steps
    for _ in range(command.epochs):
        trainer.synchronize()
        with without_collector():
            start = clock()
            for index in range(steps):
                stamps[index] = clock()
                step()
            trainer.synchronize()
            end = clock()
        waits = trainer.loader_wait_ns()
        gap = stamps[0] - done[-1].end_ns + (waits[0] if waits else 0) if done else None
        done.append(training.EpochTime(start_ns=start, end_ns=end, gap_ns=gap, step_start_ns=stamps[:],
                                       loader_wait_ns=waits))
    return training.EpochTimes(epochs=done)


def losses(trainer: Trainer) -> training.LossValues:
    """Losses since the last reading, and how they are scaled."""
    losses, scale = trainer.losses(), loss_scale_of(trainer)
    if scale is None:
        return training.LossValues(losses=losses)
    return training.LossValues(losses=losses, loss_scale=scale.scale, skipped=scale.skipped)


def save_state(trainer: Trainer, command: training.SaveState, config: ExperimentConfig) -> life.Done:
    """Write the state with the recipe that it belongs to; CheckpointError when it cannot be written."""
    checkpoint.save_state(Path(command.path), trainer.state(), config)
    return life.Done()


def load_state(trainer: Trainer, command: training.LoadState) -> life.Done:
    """Go on from a written state; CheckpointError when it cannot be read or does not fit."""
    trainer.load_state(checkpoint.load_state(Path(command.path))[0])
    return life.Done()


def predict(trainer: Trainer, command: training.Predict) -> life.Done:
    """The network's outputs; CheckpointError when a file cannot be read or written.

    For arrays of a file, unless the trainer's network has inputs of its own.
    """
    probe: Callable[[], Arrays] | None = getattr(trainer, "probe", None)
    if probe is not None:
        outputs = probe()
    else:
        inputs = checkpoint.load_arrays(Path(command.inputs))
        outputs = {"eps": trainer.predict(inputs["x"], inputs["t"])}
    checkpoint.save_arrays(Path(command.output),
                           {name: np.ascontiguousarray(value, np.float32) for name, value in outputs.items()})
    return life.Done()


def gradients(trainer: Trainer, command: training.Gradients) -> training.LossValues:
    """Write every gradient of the next batch; CheckpointError when they cannot be written."""
    loss, values = trainer.gradients()
    checkpoint.save_arrays(Path(command.output), values)
    return training.LossValues(losses=[loss])
