"""A training small enough for tests, the same in both frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np

from impls.backend import TrainerState
from impls.recipe.config import ExperimentConfig, merged, preset

SMALL_MODEL = {"image_size": 16, "base_channels": 16, "channels": [16, 32], "attention_resolutions": [8], "groups": 8,
               "blocks_per_level": 1, "dropout": 0.0}
SMALL_TRAIN = {"batch_size": 4, "warmup_steps": 0, "randomness": "matched", "ema_decay": 0.9}


def config(model: dict[str, Any] | None = None, train: dict[str, Any] | None = None, seed: int = 0) -> ExperimentConfig:
    """The preset `tiny`, made smaller still."""
    overrides = {"seed": seed, "model": {**SMALL_MODEL, **(model or {})}, "train": {**SMALL_TRAIN, **(train or {})}}
    return merged(preset("tiny"), overrides, "test")


def images(count: int = 12, size: int = 16) -> np.ndarray:
    """Images (count, size, size, 3), uint8, all different."""
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def trainer(fw, data: np.ndarray | None = None, options: tuple[str, ...] = (), **overrides: Any):
    """A trainer on the CPU with one thread."""
    chosen = config(**overrides)
    data = images(size=chosen.model.image_size) if data is None else data
    return fw.backend.create(options, "cpu", 1).trainer(chosen, data)


def weights(subject, seed: int) -> dict[str, np.ndarray]:
    """Weights without the zero-initialised gates, so that every layer is felt at the output."""
    rng = np.random.default_rng(seed)
    return {name: (rng.standard_normal(p.shape) / np.sqrt(np.prod(p.shape[1:]) if p.ndim > 1 else 10)
                   + (p.ndim == 1 and "norm" in name and name.endswith("weight"))).astype(np.float32)
            for name, p in subject.state().params.items()}


def set_weights(subject, arrays: dict[str, np.ndarray]) -> None:
    """Start `subject` at step 0 from these weights."""
    zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
    subject.load_state(TrainerState(0, arrays, arrays, zeros, zeros))


def device(subject) -> list[Any]:
    """What the framework's `to_device` needs besides the array: PyTorch's its device, Jittor's nothing."""
    return [subject.device] if hasattr(subject, "device") else []
