"""What `--model_path` names: the weights of a checkpoint of ours or of a diffusers folder, with their configuration."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from impls.backend import Arrays
from impls.errors import CheckpointError
from impls.recipe.config import ExperimentConfig, SampleConfig, preset
from impls.store.checkpoint import Kind, load_params
from impls.store.diffusers import load_diffusers
from impls.store.diffusers_files import WEIGHTS_FILE, holds_weights, is_weights
from impls.store.scheduler import SCHEDULER_FILE, read_scheduler
from impls.store.trainfolder import CHECKPOINTS, checkpoints
from impls.store.unet2d import CONFIG_FILE
from messages import recorded, tell


@dataclass(frozen=True)
class Weights:
    """A network's weights and where they come from.

    Attributes:
        config: the experiment that they belong to.
        params: the arrays by state-dict name, float32.
        step: optimisation steps behind them; None where it is not known.
        kind: averaged ("ema"), as the optimiser left them ("raw"), or of a diffusers folder.
        path: the file that they were read from.
        description: all of this in one line.
    """

    config: ExperimentConfig
    params: Arrays
    step: int | None
    kind: Literal["ema", "raw", "diffusers"]
    path: Path
    description: str

    def sha256(self) -> str:
        """Hash of names, shapes and values: the same weights have the same one, whatever file they lie in."""
        digest = hashlib.sha256()
        for name in sorted(self.params):
            array = np.ascontiguousarray(self.params[name], dtype="<f4")
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()


def find_checkpoint(path: Path) -> Path:
    """A checkpoint's file: `path` itself, or the one of the most steps in the folder `path` or in its `checkpoints/`.

    Raises:
        CheckpointError: there is no such file or folder, or no checkpoint in it.
    """
    # Not Path's own questions: they raise where a name is too long.
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise CheckpointError(tell("{path}: no such file or folder: name a checkpoint or a folder of a training",
                                       path=path))
        return path
    newest = _newest(path)
    if newest is not None:
        return newest
    raise CheckpointError(tell("{path}: holds no step-*.safetensors, neither does its {folder}/, and it is no folder "
                               "of a diffusers model ({config} and {weights})", path=path, folder=CHECKPOINTS,
                               config=CONFIG_FILE, weights=WEIGHTS_FILE))


def load_weights(path: Path, which: Kind | None = None) -> Weights:
    """The weights that `path` names.

    Args:
        path: a checkpoint's file, a folder with checkpoints (see `find_checkpoint`), or a diffusers `UNet2DModel`
            folder, also as the `unet/` of a pipeline's folder, or one of the files of weights there.
        which: averaged or raw weights of a checkpoint; None takes the averaged ones where it has them.

    Raises:
        CheckpointError: missing, damaged, foreign, or without the weights that were asked for.
    """
    folder = diffusers_folder(path)
    if folder is not None:
        return _from_diffusers(path, folder, which)
    file = find_checkpoint(path)
    found = load_params(file, which)
    name = "EMA" if found.kind == "ema" else "raw"
    description = recorded("{name} weights of {file}, preset {preset}, {step} training steps", name=name, file=file,
                           preset=found.config.preset, step=found.step)
    return Weights(found.config, found.arrays, found.step, found.kind, file, description)


def _newest(folder: Path) -> Path | None:
    found = checkpoints(folder) or checkpoints(folder / CHECKPOINTS)
    return found[-1] if found else None


def diffusers_folder(path: Path) -> Path | None:
    """The folder of a diffusers model that `path` means; None when it means something else."""
    if is_weights(path):
        return path.parent
    # A training's folder has a config.json too, of another kind.
    if _newest(path) is not None:
        return None
    return next((folder for folder in (path, path / "unet")
                 if os.path.isfile(folder / CONFIG_FILE) and holds_weights(folder)), None)


def _from_diffusers(path: Path, folder: Path, which: Kind | None) -> Weights:
    if which == "raw":
        raise CheckpointError(tell("{folder}: a diffusers folder has one set of weights and does not say which: leave "
                                   "the choice out", folder=folder))
    model = load_diffusers(folder, path if is_weights(path) else None)
    config = preset("ddpm").model_copy(update={"model": model.config})
    places = (folder / SCHEDULER_FILE, folder.parent / "scheduler" / SCHEDULER_FILE)
    scheduler = next((file for file in places if file.is_file()), None)
    if scheduler is None:
        origin = recorded("diffusion of preset ddpm (no scheduler_config.json)")
    else:
        diffusion, sample = read_scheduler(scheduler)
        config = config.model_copy(update={"diffusion": diffusion, "sample": sample})
        origin = recorded("diffusion and sampling of {scheduler}, which says: {sampling}", scheduler=scheduler,
                          sampling=_sampling(sample))
    description = recorded("diffusers weights of {file} ({stored}), {origin}", file=model.file, stored=model.stored,
                           origin=origin)
    return Weights(config, model.params, None, "diffusers", model.file, description)


def _sampling(sample: SampleConfig) -> str:
    text = recorded("{clipping}, {spacing} timesteps", spacing=sample.spacing, clipping=recorded(
        "x_0 clipped to {limit}, eps of DDIM as predicted", limit=f"{sample.clip_range:g}") if sample.clip else
        recorded("x_0 not clipped"))
    if sample.steps_offset:
        text = recorded("{settings}, steps_offset {offset}", settings=text, offset=sample.steps_offset)
    return text if sample.set_alpha_to_one else recorded("{settings}, DDIM ends at timestep 0", settings=text)
