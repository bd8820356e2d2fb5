"""What only a trainer does: epochs and losses, and states, outputs and gradients through safetensors files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.protocol.life import Done
from harness.protocol.training import (
    Epochs,
    EpochTime,
    EpochTimes,
    Gradients,
    LoadState,
    LossValues,
    Predict,
    SaveState,
)
from harness.worker.loops import Clock, undisturbed
from impls.backend import Trainer
from impls.recipe.config import ExperimentConfig
from impls.store import checkpoint


def epochs(trainer: Trainer, command: Epochs, clock: Clock) -> EpochTimes:
    """Whole epochs, synchronised between them; a gap ends when the next first batch is there."""
    trainer.loader_wait_ns()
    done: list[EpochTime] = []
    step, steps = trainer.step, command.steps
    stamps = [0] * steps
    for _ in range(command.epochs):
        trainer.synchronize()
        with undisturbed():
            start = clock()
            for index in range(steps):
                stamps[index] = clock()
                step()
            trainer.synchronize()
            end = clock()
        waits = trainer.loader_wait_ns()
        gap = stamps[0] - done[-1].end_ns + (waits[0] if waits else 0) if done else None
        done.append(EpochTime(start_ns=start, end_ns=end, gap_ns=gap, step_start_ns=stamps[:], loader_wait_ns=waits))
    return EpochTimes(epochs=done)


def losses(trainer: Trainer) -> LossValues:
    """Losses since the last reading."""
    return LossValues(losses=trainer.losses())


def save_state(trainer: Trainer, command: SaveState, config: ExperimentConfig) -> Done:
    """Write the state with the recipe that it belongs to; CheckpointError when it cannot be written."""
    checkpoint.save_state(Path(command.path), trainer.state(), config)
    return Done()


def load_state(trainer: Trainer, command: LoadState) -> Done:
    """Go on from a written state; CheckpointError when it cannot be read or does not fit."""
    trainer.load_state(checkpoint.load_state(Path(command.path))[0])
    return Done()


def predict(trainer: Trainer, command: Predict) -> Done:
    """The network's output for arrays of a file; CheckpointError when a file cannot be read or written."""
    inputs = checkpoint.load_arrays(Path(command.inputs))
    eps = trainer.predict(inputs["x"], inputs["t"])
    checkpoint.save_arrays(Path(command.output), {"eps": np.ascontiguousarray(eps, np.float32)})
    return Done()


def gradients(trainer: Trainer, command: Gradients) -> LossValues:
    """Write every gradient of the next batch; CheckpointError when they cannot be written."""
    loss, values = trainer.gradients()
    checkpoint.save_arrays(Path(command.output), values)
    return LossValues(losses=[loss])
