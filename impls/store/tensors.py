"""A safetensors file: its header checked at once, its arrays read one by one, so that only what is wanted is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from impls.errors import CheckpointError
from messages import marked, tell

# What the files start with that people offer by mistake: pickle protocols 2-5, a torch.save zip, HDF5, numpy.
_FOREIGN = {
    b"\x80": marked("a pickle, which can run any code and is never read"),
    b"PK\x03\x04": marked("a zip archive (torch.save writes pickles into one), which is never read"),
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": marked("a numpy file"),
}
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}


class TensorFile:
    """What a safetensors file holds.

    Attributes:
        path: the file.
        metadata: the texts in its header.
        shapes: shape of every array by name.
        dtypes: the header's word for its number type, e.g. "BF16".
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            CheckpointError: the file is missing, truncated, a pickle, or no safetensors file.
        """
        self.path = path
        header, self._data = _header(path)
        self.metadata: Mapping[str, str] = header.pop("__metadata__", None) or {}
        self.shapes = {name: tuple(map(int, entry["shape"])) for name, entry in header.items()}
        self.dtypes = {name: str(entry["dtype"]) for name, entry in header.items()}
        self._starts = {name: int(entry["data_offsets"][0]) for name, entry in header.items()}

    def read(self, name: str) -> NDArray[Any]:
        """One array; bfloat16, which numpy lacks, as the float32 of the same value.

        Raises:
            CheckpointError: a number type that numpy lacks, or the file cannot be read any more.
        """
        kind, shape = self.dtypes[name], self.shapes[name]
        if kind not in _TYPES:
            raise CheckpointError(tell("{path}: {name} holds {kind} numbers, a number type that numpy lacks",
                                       path=self.path, name=name, kind=kind))
        count = math.prod(shape)
        try:
            with self.path.open("rb") as file:
                file.seek(self._data + self._starts[name])
                array = np.fromfile(file, _TYPES[kind], count)
        except OSError as error:
            raise CheckpointError(tell("{path}: cannot read {name}: {reason}", path=self.path, name=name,
                                       reason=error.strerror or error)) from error
        if len(array) != count:
            raise CheckpointError(tell("{path}: truncated while it was read", path=self.path))
        if kind == "BF16":
            # Bfloat16 is the upper half of a float32.
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.reshape(shape)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file that safetensors itself accepts, and where its data starts."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(tell("{path}: cannot read the checkpoint: {reason}", path=path,
                                   reason=error.strerror or error)) from error
    for magic, kind in _FOREIGN.items():
        # A safetensors file starts with its header's length, 8 bytes, and then the header's brace.
        if start.startswith(magic) and start[8:9] != b"{":
            raise CheckpointError(tell("{path}: {kind}: give a .safetensors file", path=path, kind=tell(kind)))
    try:
        # Checks that the arrays lie side by side and end where the file does.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return json.loads(file.read(length)), 8 + length
    except (OSError, SafetensorError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise CheckpointError(
            tell("{path}: truncated or not a safetensors file ({reason}): use an earlier checkpoint or another copy",
                 path=path, reason=reason)
        ) from error
