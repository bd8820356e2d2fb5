"""Checkpoints: safetensors with JSON metadata, written atomically; one format for both frameworks, never a pickle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from impls.backend import Arrays, TrainerState
from impls.errors import CheckpointError, UsageError
from impls.recipe.config import ExperimentConfig, validated
from impls.store.files import replacement

FORMAT = "ddpm-bench checkpoint"
FORMAT_VERSION = "1"
_GROUPS = ("params", "ema", "exp_avg", "exp_avg_sq")
# What the files start with that people offer by mistake: pickle protocols 2-5, a torch.save zip, HDF5, numpy.
_FOREIGN = {
    b"\x80": "a pickle, which can run any code and is never read",
    b"PK\x03\x04": "a zip archive (torch.save writes pickles into one), which is never read",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy file",
}


class Note(BaseModel):
    """What a training says in a checkpoint about itself, beside its state; None where it did not.

    Attributes:
        arm: what wrote it, e.g. "jittor:onednn".
        dataset: name of the data set.
        dataset_sha256: hash of its images.
        validation_loss: loss on the held-out images at this step, of the averaged weights where there are any.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")
    arm: str | None = None
    dataset: str | None = None
    dataset_sha256: str | None = None
    validation_loss: float | None = None


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
    }
    save_arrays(path, tensors, metadata)


def load_state(path: Path) -> tuple[TrainerState, ExperimentConfig]:
    """The training and the configuration that `save_state` wrote.

    Raises:
        CheckpointError: the file is missing, truncated, a pickle, of another program, inconsistent or not finite.
    """
    tensors, metadata = _read(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a safetensors file of another program, not a training checkpoint: give one that training wrote"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {metadata.get('format_version')!r}, this program reads {FORMAT_VERSION!r}: "
            "use the program version that wrote it"
        )
    groups: dict[str, dict[str, NDArray[Any]]] = {group: {} for group in _GROUPS}
    for key, array in tensors.items():
        group, _, name = key.partition(".")
        if group not in groups or not name:
            raise CheckpointError(f"{path}: unknown tensor {key!r}: the file is damaged, use an earlier checkpoint")
        _check_values(path, key, array)
        groups[group][name] = array
    has_ema = metadata.get("ema") == "true"
    for group in ("exp_avg", "exp_avg_sq", *(("ema",) if has_ema else ())):
        _check_same_shapes(path, group, groups[group], groups["params"])
    state = TrainerState(
        step=_step(path, metadata),
        params=groups["params"],
        ema=groups["ema"] if has_ema else None,
        exp_avg=groups["exp_avg"],
        exp_avg_sq=groups["exp_avg_sq"],
    )
    return state, _config(path, metadata)


def read_note(path: Path) -> Note:
    """What `save_state` was told about the training; reads the file's header only.

    Raises:
        CheckpointError: the file is missing, truncated or no checkpoint.
    """
    with _opened(path) as file:
        text = dict(file.metadata() or {}).get("note", "{}")
    try:
        return Note.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointError(f"{path}: the training's note inside is not readable: the file is damaged") from error


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
        raise CheckpointError(f"{path}: cannot write the checkpoint: {_one_line(error)}") from error


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The named arrays of any safetensors file.

    Raises:
        CheckpointError: the file is missing, truncated or not safetensors.
    """
    return _read(path)[0]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The safetensors file `path`; whatever is wrong with it, also inside the block, is a CheckpointError."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    for magic, kind in _FOREIGN.items():
        # A safetensors file starts with its header's length, 8 bytes, and then the header's brace.
        if start.startswith(magic) and start[8:9] != b"{":
            raise CheckpointError(f"{path}: {kind}: give a .safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: truncated or not a safetensors file ({_one_line(error)}): use an earlier checkpoint"
        ) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: holds a number type that numpy lacks ({_one_line(error)})") from error


def _check_values(path: Path, name: str, array: NDArray[Any]) -> None:
    if array.dtype != np.float32:
        raise CheckpointError(f"{path}: tensor {name!r} is {array.dtype}, expected float32")
    if not np.isfinite(array).all():
        raise CheckpointError(f"{path}: tensor {name!r} holds NaN or infinity: go on from an earlier checkpoint")


def _check_same_shapes(path: Path, group: str, arrays: Arrays, params: Arrays) -> None:
    wrong = [name for name in {*arrays, *params}
             if name not in arrays or name not in params or arrays[name].shape != params[name].shape]
    if wrong:
        raise CheckpointError(
            f"{path}: {group}.{min(wrong)} does not match the weights: the file is damaged, use an earlier checkpoint"
        )


def _step(path: Path, metadata: Mapping[str, str]) -> int:
    text = metadata.get("step", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise CheckpointError(f"{path}: step {text!r:.40} is not a step number: the file is damaged")
    return int(text)


def _config(path: Path, metadata: Mapping[str, str]) -> ExperimentConfig:
    try:
        return validated(loads(metadata["config"]), f"{path}: configuration")
    except (KeyError, JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the configuration inside is not JSON: the file is damaged") from error
    except UsageError as error:
        raise CheckpointError(str(error)) from error


def _one_line(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return " ".join(str(strerror or error).split())
