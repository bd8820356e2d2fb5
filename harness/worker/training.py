"""Commands of a worker that move arrays: through files, safetensors only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.protocol import life, sampling, training
from harness.protocol.life import Command, Reply
from impls.backend import Images, Sampler, Trainer
from impls.recipe.config import ExperimentConfig
from impls.store import checkpoint


def with_trainer(command: Command[Any], trainer: Trainer, config: ExperimentConfig | None) -> Reply:
    """Save or load a state, predict, or write gradients.

    Raises:
        RuntimeError: the command is none of these.
        CheckpointError: a file cannot be read or written, or does not fit.
    """
    match command:
        case training.SaveState():
            if config is None:
                raise RuntimeError("a trainer without a configuration")
            checkpoint.save_state(Path(command.path), trainer.state(), config)
        case training.LoadState():
            trainer.load_state(checkpoint.load_state(Path(command.path))[0])
        case training.Predict():
            inputs = checkpoint.load_arrays(Path(command.inputs))
            eps = trainer.predict(inputs["x"], inputs["t"])
            checkpoint.save_arrays(Path(command.output), {"eps": np.ascontiguousarray(eps, np.float32)})
        case training.Gradients():
            loss, gradients = trainer.gradients()
            checkpoint.save_arrays(Path(command.output), gradients)
            return training.LossValues(losses=[loss])
        case _:
            raise RuntimeError(f"unexpected command {command.op}")
    return life.Done()


def load_weights(sampler: Sampler, path: Path) -> None:
    """Give a sampler the weights of a file."""
    sampler.load(checkpoint.load_arrays(path))


def draw(command: sampling.Draw, sampler: Sampler) -> life.Done:
    """Sample a batch and write it with moments of its denoising, evenly spaced, the last one being the images."""
    wanted = set(np.linspace(1, command.steps, min(command.frames, command.steps)).round().astype(int).tolist())
    frames: list[Images] = []

    def keep(calls: int, read: Callable[[], Images]) -> None:
        if calls in wanted:
            frames.append(read())

    images = sampler.sample(command.images, command.seed, command.method, command.steps, on_step=keep)
    checkpoint.save_arrays(Path(command.output), {"images": images, "frames": np.stack(frames)})
    return life.Done()
