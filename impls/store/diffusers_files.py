"""Which files of a diffusers folder hold its weights, and all their arrays by diffusers' names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.errors import CheckpointError, UsageError
from impls.recipe.config import read_json
from impls.store.tensors import TensorFile
from messages import tell

_STEM = "diffusion_pytorch_model"
WEIGHTS_FILE = f"{_STEM}.safetensors"
INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
# A variant, such as fp16, stands before the last suffix; diffusers before 0.33 wrote it before ".safetensors" in both.
_WEIGHTS = re.compile(rf"{_STEM}(\.(?!.*-\d{{5}}-of-)[^.]+)?\.safetensors(\.index(\.[^.]+)?\.json)?")
# Number types that float32 holds exactly.
_EXACT = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def is_weights(path: Path) -> bool:
    """Whether a file's name is one that diffusers gives to weights, or to the index of their shards."""
    return _WEIGHTS.fullmatch(path.name) is not None and os.path.isfile(path)


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds weights by diffusers' names, also such as cannot be read."""
    return any(folder.glob(f"{_STEM}*"))


def at_default(raw: Mapping[str, Any], path: Path) -> frozenset[str]:
    """The keys that a configuration of diffusers lists as left at their default, whatever it says of them.

    Args:
        raw: the configuration.
        path: its file.

    Raises:
        CheckpointError: the list is none.
    """
    keys = raw.get("_use_default_values", [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(tell("{path}: _use_default_values is {keys}, not a list of keys: correct the file",
                                   path=path, keys=f"{keys!r:.80}"))
    return frozenset(keys)


def weights_file(folder: Path) -> Path:
    """The file that a folder's weights are read from: the index of shards, else the whole file, else the only variant.

    Diffusers takes the first two in this order.

    Raises:
        CheckpointError: there is none, or variants to choose from.
    """
    for name in (INDEX_FILE, WEIGHTS_FILE):
        if os.path.isfile(folder / name):
            return folder / name
    variants = sorted(path for path in folder.glob(f"{_STEM}.*") if is_weights(path))
    if len(variants) == 1:
        return variants[0]
    if variants:
        names = " and ".join(path.name for path in variants)
        raise CheckpointError(tell("{folder}: holds {names}: name one of these files", folder=folder, names=names))
    if any(folder.glob(f"{_STEM}*.bin")):
        raise CheckpointError(tell("{folder}: holds its weights only as a pickle (.bin), which can run any code and "
                                   "is never read: load it with diffusers and save it with safe_serialization=True",
                                   folder=folder))
    raise CheckpointError(tell("{path}: no such file: save the model with safe_serialization=True",
                               path=folder / WEIGHTS_FILE))


def read_weights(path: Path) -> tuple[dict[str, NDArray[np.float32]], str]:
    """All arrays of a weights file or of the shards that an index names, as float32; and what they were stored in.

    Raises:
        CheckpointError: unreadable, incomplete, or numbers that float32 does not hold exactly.
    """
    files = _shards(path) if path.suffix == ".json" else [TensorFile(path)]
    stored = sorted({kind for file in files for kind in file.dtypes.values()})
    other = next((kind for kind in stored if kind not in _EXACT), None)
    if other is not None:
        raise CheckpointError(tell("{path}: holds {kind} numbers: save the model in {known}", path=path, kind=other,
                                   known=", ".join(_EXACT.values())))
    arrays = {name: file.read(name).astype(np.float32, copy=False) for file in files for name in file.shapes}
    return arrays, " and ".join(_EXACT[kind] for kind in stored)


def _shards(index: Path) -> list[TensorFile]:
    """The shards that an index names, each with exactly the arrays that the index says.

    Raises:
        CheckpointError: no such index, a shard is missing or outside the folder, or an array is elsewhere.
    """
    try:
        places: Any = read_json(index).get("weight_map")
    except UsageError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(tell("{index}: weight_map does not say which array is in which file", index=index))
    found, names = [], sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(tell("{index}: {name} is not the name of a .safetensors file in this folder",
                                       index=index, name=f"{name!r:.80}"))
        if not os.path.isfile(index.parent / name):
            raise CheckpointError(tell("{index}: its shard {name} is missing: copy the whole folder", index=index,
                                       name=name))
    for name in names:
        shard = TensorFile(index.parent / name)
        astray = shard.shapes.keys() ^ {key for key, place in places.items() if place == name}
        if astray:
            raise CheckpointError(tell("{index}: {array} is not where this index says, in {name}: index and shards "
                                       "are not of one model", index=index, array=min(astray), name=name))
        found.append(shard)
    return found
