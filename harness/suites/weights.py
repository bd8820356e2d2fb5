"""Weights that are sampled from: given by the user, or random and the same in every arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError
from impls.recipe.randomness import stream
from impls.registry import leading_arm
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.options import BenchConfig
    from harness.processes.session import Session
    from harness.protocol import life
    from impls.recipe.config import ExperimentConfig
    from impls.store.weights import Weights

OUTPUT_SCALE = 0.2


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int, image_channels: int,
                   perturbation: float = 0.0) -> dict[str, NDArray[np.float32]]:
    """Keyed random weights, nothing zero: std 1 / sqrt(fan-in), norms 1 + 0.1 n, biases 0.1 n.

    The layer that makes the image is smaller by `OUTPUT_SCALE`: it starts at zero in training, and at full size all
    gradients, and with them the rounding noise in those that are zero in exact arithmetic, would be too large for
    the absolute floor of the parity check.

    Args:
        shapes: the network's parameter names and shapes.
        seed: seed of the experiment.
        image_channels: output channels of the network.
        perturbation: standard deviation of noise added to every weight (the control of the parity check).
    """
    params: dict[str, NDArray[Any]] = {}
    for name, shape in shapes.items():
        normal = stream(seed, f"parity weights {name}").standard_normal(shape)  # English
        if len(shape) > 1:
            output = len(shape) == 4 and shape[0] == image_channels
            value = normal * (OUTPUT_SCALE if output else 1.0) / math.sqrt(math.prod(shape[1:]))
        else:
            value = 0.1 * normal + (1.0 if name.endswith("weight") else 0.0)
        if perturbation:
            value = value + perturbation * stream(seed, f"parity perturbation {name}").standard_normal(shape)  # English
        params[name] = value.astype(np.float32)
    return params


def build_sampler(bench: Bench, session: Session, experiment: ExperimentConfig) -> life.Built:
    """Have a worker build a sampler with the run's weights; without any, the first one tells what they look like.

    Raises:
        WorkerFailedError: it cannot.
    """
    from harness.bench import SLOW_LIMIT_S, plain
    from harness.protocol.life import BuildSampler
    from impls.store.checkpoint import save_arrays

    if bench.weights is None:
        raise RuntimeError("a suite that samples without a place for its weights")
    bare = plain(experiment)
    if not bench.weights.exists():
        built = session.ask(BuildSampler(experiment=bare), SLOW_LIMIT_S)
        save_arrays(bench.weights, random_weights(built.shapes, experiment.seed, experiment.model.image_channels))
    return session.ask(BuildSampler(experiment=bare, weights=str(bench.weights)), SLOW_LIMIT_S)


def origin(given: Weights | None) -> str:
    """Where the sampled weights come from, for the journal."""
    if given is None:
        return recorded("random, the same in every arm")
    return recorded("{weights}, SHA-256 {sha}", weights=given.description, sha=given.sha256()[:12])


def model_paths(config: BenchConfig) -> dict[str, Path]:
    """Arm name -> weights, from `--model-path PATH` for all arms or `--model-path ARM=PATH` for each.

    Raises:
        UsageError: an arm has none or two.
    """
    names = list(dict.fromkeys(arm.name for arm in config.compared))
    found: dict[str, Path] = {}
    for text in config.model_path:
        own = leading_arm(text)
        named, path = (None, text) if own is None else (own[0].name, own[1])
        targets = names if named is None else [named]
        if named is not None and named not in names:
            raise UsageError(tell("--model-path {text}: arm {arm} is not in --arms {arms}", text=text, arm=repr(named),
                                  arms=config.arms))
        for target in targets:
            if target in found:
                raise UsageError(tell("--model-path {text}: arm {arm} has weights already ({path})", text=text,
                                      arm=target, path=found[target]))
            found[target] = Path(path)
    missing = [name for name in names if name not in found]
    if found and missing:
        raise UsageError(tell("--model-path: arm {arm} has no weights: give {arm}=PATH too, or one PATH for all arms",
                              arm=missing[0]))
    return found
