"""Checkpoints: safetensors with JSON metadata, written atomically; one format for both frameworks, never a pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save_file

from impls.backend import Arrays, TrainerState
from impls.errors import CheckpointError, UsageError
from impls.recipe.config import ExperimentConfig, validated
from impls.recipe.randomness import STREAMS
from impls.recipe.scaling import LossScale
from impls.store.files import replacement
from impls.store.tensors import TensorFile
from messages import tell

FORMAT = "ddpm-bench checkpoint"  # English
FORMAT_VERSION = "1"
Kind = Literal["ema", "raw"]
_GROUPS = ("params", "ema", "exp_avg", "exp_avg_sq")


class Note(BaseModel):
    """What a training says in a checkpoint about itself, beside its state; None where it did not.

    Attributes:
        arm: what wrote it, e.g. "jittor:onednn".
        dataset: name of the data set.
        dataset_sha256: hash of its images.
        validation_loss: loss on the held-out images at this step, of the averaged weights where there are any.
        framework: what computed it, with its version.
        processor: on which device.
        threads: CPU threads of an operator, which decide about the last digits in some arms.
        ranks: how many processes trained together, which decides about the last digits and dropout's masks.
        streams: which keyed streams its steps drew from: `impls.recipe.randomness.STREAMS`.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")
    arm: str | None = None
    dataset: str | None = None
    dataset_sha256: str | None = None
    validation_loss: float | None = None
    framework: str | None = None
    processor: str | None = None
    threads: int | None = None
    ranks: int = 1
    streams: int = STREAMS


@dataclass(frozen=True)
class Params:
    """Weights of a training.

    Attributes:
        arrays: by state-dict name, float32.
        kind: averaged ("ema"), or as the optimiser left them ("raw").
        step: optimisation steps behind them.
        config: the experiment that they belong to.
    """

    arrays: Arrays
    kind: Kind
    step: int
    config: ExperimentConfig


def save_state(path: Path, state: TrainerState, config: ExperimentConfig, note: Note | None = None) -> None:
    """Write everything a training needs to go on; `path` is either the old file or the whole new one at any moment.

    Raises:
        CheckpointError: the folder cannot be written, or a tensor is not finite.
    """
    tensors = {
        f"{group}.{name}": array
        for group in _GROUPS
        for name, array in (getattr(state, group) or {}).items()
    }
    for name, array in tensors.items():
        _check_values(path, name, array)
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "step": str(state.step),
        "ema": "false" if state.ema is None else "true",
        "config": config.model_dump_json(),
        "note": (note or Note()).model_dump_json(),
        # The file itself sorts its tensors.
        "order": dumps(list(state.params)),
    }
    if state.loss_scale is not None:
        metadata["loss_scale"] = state.loss_scale.model_dump_json()
    save_arrays(path, tensors, metadata)


def load_state(path: Path) -> tuple[TrainerState, ExperimentConfig]:
    """The training and the configuration that `save_state` wrote.

    Raises:
        CheckpointError: the file is missing, truncated, a pickle, of another program, inconsistent or not finite.
    """
    file, has_ema = _opened(path)
    step = _step(path, file.metadata)
    scale = _loss_scale(path, file.metadata, step)
    groups = {group: _read_group(file, group) for group in _GROUPS}
    state = TrainerState(
        step=step,
        params=groups["params"],
        ema=groups["ema"] if has_ema else None,
        exp_avg=groups["exp_avg"],
        exp_avg_sq=groups["exp_avg_sq"],
        loss_scale=scale,
    )
    return state, _config(path, file.metadata)


def load_params(path: Path, which: Kind | None = None) -> Params:
    """The weights of a training alone: of the file, only they are read.

    Args:
        path: what `save_state` wrote.
        which: averaged or raw weights; None takes the averaged ones where there are any.

    Raises:
        CheckpointError: as `load_state`, but for values that are not read; or it lacks the weights that are asked for.
    """
    file, has_ema = _opened(path)
    if which == "ema" and not has_ema:
        raise CheckpointError(tell("{path}: holds no averaged weights: choose the raw ones", path=path))
    kind: Kind = which or ("ema" if has_ema else "raw")
    arrays = _read_group(file, "ema" if kind == "ema" else "params")
    return Params(arrays, kind, _step(path, file.metadata), _config(path, file.metadata))


def read_note(path: Path) -> Note:
    """What `save_state` was told about the training; reads the file's header only.

    Raises:
        CheckpointError: the file is missing, truncated or no checkpoint.
    """
    text = TensorFile(path).metadata.get("note", "{}")
    try:
        # Those from before there was a version drew from the first.
        return Note.model_validate({"streams": 1, **loads(text)})
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(tell("{path}: the training's note inside is not readable: the file is damaged",
                                   path=path)) from error


def save_arrays(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    """Write named arrays, and texts about them, atomically as a safetensors file.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path, durable=True) as scratch:
            scratch.touch()
            mode = scratch.stat().st_mode
            save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, scratch, metadata)
            # Safetensors makes its file readable to nobody else.
            scratch.chmod(mode)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(tell("{path}: cannot write the checkpoint: {reason}", path=path,
                                   reason=_one_line(error))) from error


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The named arrays of any safetensors file.

    Raises:
        CheckpointError: the file is missing, truncated or not safetensors.
    """
    file = TensorFile(path)
    return {name: file.read(name) for name in file.shapes}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened(path: Path) -> tuple[TensorFile, bool]:
    """A checkpoint whose header is right, and whether it holds averaged weights; no value is read."""
    file = TensorFile(path)
    if file.metadata.get("format") != FORMAT:
        raise CheckpointError(
            tell("{path}: a safetensors file of another program, not a training checkpoint: give one that training "
                 "wrote", path=path)
        )
    if file.metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            tell("{path}: checkpoint format {found}, this program reads {known}: use the program version that "
                 "wrote it", path=path, found=repr(file.metadata.get("format_version")),
                 known=repr(FORMAT_VERSION))
        )
    shapes: dict[str, dict[str, tuple[int, ...]]] = {group: {} for group in _GROUPS}
    for key, shape in file.shapes.items():
        group, _, name = key.partition(".")
        if group not in shapes or not name:
            raise CheckpointError(tell("{path}: unknown tensor {key}: the file is damaged, use an earlier checkpoint",
                                       path=path, key=repr(key)))
        if file.dtypes[key] != "F32":
            raise CheckpointError(tell("{path}: tensor {key} is {kind}, expected F32", path=path, key=repr(key),
                                       kind=file.dtypes[key]))
        shapes[group][name] = shape
    has_ema = file.metadata.get("ema") == "true"
    for group in ("exp_avg", "exp_avg_sq", *(("ema",) if has_ema else ())):
        wrong = shapes[group].items() ^ shapes["params"].items()
        if wrong:
            raise CheckpointError(tell("{path}: {group}.{name} does not match the weights: the file is damaged, use "
                                       "an earlier checkpoint", path=path, group=group, name=min(wrong)[0]))
    return file, has_ema


def _read_group(file: TensorFile, group: str) -> dict[str, NDArray[Any]]:
    prefix, order = f"{group}.", _order(file)
    arrays = {}
    for key in file.shapes:
        if key.startswith(prefix):
            array = arrays[key.removeprefix(prefix)] = file.read(key)
            _check_values(file.path, key, array)
    return {name: arrays[name] for name in sorted(arrays, key=lambda name: order.get(name, len(order)))}


def _order(file: TensorFile) -> dict[str, int]:
    """Place of each parameter in its network; empty in a file from before that was told."""
    try:
        names = loads(file.metadata.get("order", "[]"))
    except (JSONDecodeError, RecursionError) as error:
        raise CheckpointError(tell("{path}: the order of the weights is not JSON: the file is damaged",
                                   path=file.path)) from error
    return {str(name): place for place, name in enumerate(names if isinstance(names, list) else [])}


def _check_values(path: Path, name: str, array: NDArray[Any]) -> None:
    if array.dtype != np.float32:
        raise CheckpointError(tell("{path}: tensor {name} is {kind}, expected float32", path=path, name=repr(name),
                                   kind=array.dtype))
    if not np.isfinite(array).all():
        raise CheckpointError(tell("{path}: tensor {name} holds NaN or infinity: go on from an earlier checkpoint",
                                   path=path, name=repr(name)))


def _step(path: Path, metadata: Mapping[str, str]) -> int:
    text = metadata.get("step", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise CheckpointError(tell("{path}: step {value} is not a step number: the file is damaged", path=path,
                                   value=f"{text!r:.40}"))
    return int(text)


def _loss_scale(path: Path, metadata: Mapping[str, str], step: int) -> LossScale | None:
    if "loss_scale" not in metadata:
        return None
    try:
        scale = LossScale.model_validate_json(metadata["loss_scale"])
    except ValidationError as error:
        raise CheckpointError(tell("{path}: the loss scale inside is not readable: the file is damaged",
                                   path=path)) from error
    if scale.skipped > step:
        raise CheckpointError(tell("{path}: {skipped} of {step} steps were left out: the file is damaged", path=path,
                                   skipped=scale.skipped, step=step))
    return scale


def _config(path: Path, metadata: Mapping[str, str]) -> ExperimentConfig:
    try:
        return validated(loads(metadata["config"]), tell("{path}: configuration", path=path))
    except (KeyError, JSONDecodeError, RecursionError) as error:
        raise CheckpointError(tell("{path}: the configuration inside is not JSON: the file is damaged",
                                   path=path)) from error
    except UsageError as error:
        raise CheckpointError(str(error)) from error


def _one_line(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return " ".join(str(strerror or error).split())
