"""Arrays of strangers' npz and npy files: nothing is unpickled, and nothing unpacked that its header does not bear."""

from __future__ import annotations

import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError
from impls.evaluation.inputs.spool import spooled
from messages import tell

# Of a zip file with members, and of one without.
_ZIPS, _NPY = (b"PK\x03\x04", b"PK\x05\x06"), ".npy"
_HEADERS: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_CHUNK = 1 << 20
# Photographs pack to a half, drawings to a tenth: what shrinks so far and is so large was made to fill a disk.
_MOST_PACKED, _BOMB_BYTES = 200, 1 << 28


def kind(path: Path) -> str:
    """What stands at a path: "file" or "folder".

    Raises:
        UsageError: nothing, or neither (a pipe, a device), or it cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise UsageError(tell("{path}: no such file or folder", path=path)) from None
    except (OSError, ValueError) as error:
        raise UsageError(tell("{path}: cannot be read: {reason}", path=path,
                              reason=getattr(error, "strerror", None) or error)) from error
    if stat.S_ISDIR(mode):
        return "folder"
    # A pipe would be waited for.
    if not stat.S_ISREG(mode):
        raise UsageError(tell("{path}: neither a file nor a folder: write what it gives into a file", path=path))
    return "file"


def names(path: Path) -> list[str] | None:
    """Names of the arrays in an npz file; None for anything else.

    Raises:
        UsageError: the file cannot be read.
    """
    with _reading(path), path.open("rb") as file:
        if not _is_archive(file):
            return None
        with zipfile.ZipFile(file) as archive:
            return [name.removesuffix(_NPY) for name in archive.namelist()]


def load(path: Path, name: str | None) -> NDArray[Any]:
    """One array, memory-mapped.

    Args:
        path: an npz file, or npy.
        name: of the array in an npz file; None for an npy file.

    Raises:
        UsageError: it cannot be read, is damaged, holds Python objects, or is larger than its file can be.
    """
    with _reading(path), path.open("rb") as file:
        if name is None:
            single: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return single
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(name if name in archive.namelist() else name + _NPY)
            with archive.open(info) as member:
                return _unpacked(member, info)


def _unpacked(member: IO[bytes], info: zipfile.ZipInfo) -> NDArray[Any]:
    numpy_format: Any = np.lib.format
    header = _HEADERS.get(numpy_format.read_magic(member))
    if header is None:
        raise ValueError(f"its member {info.filename} is of an unknown version")
    shape, fortran, dtype = header(member)
    if dtype.hasobject:
        raise ValueError(f"its member {info.filename} holds Python objects, which are never unpickled")
    size, promised = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
    if size != promised:
        raise ValueError(f"its member {info.filename} has shape {shape}, which are {size} bytes, and room for "
                         f"{promised}")
    if size > max(_BOMB_BYTES, _MOST_PACKED * info.compress_size):
        raise ValueError(f"its member {info.filename} would unpack {info.compress_size} bytes to {size}, which no "
                         "pictures do")
    return spooled(iter(lambda: member.read(_CHUNK), b""), shape, dtype, "F" if fortran else "C")


def _is_archive(file: IO[bytes]) -> bool:
    found = file.read(len(_ZIPS[0])) in _ZIPS
    file.seek(0)
    return found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Translate what reading a damaged or foreign file raises."""
    try:
        yield
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    except Exception as error:  # Bytes of a stranger: whatever zipfile or numpy stumbles over, the file is to blame.
        reason = plain(str(error)) or type(error).__name__
        raise UsageError(tell("{path}: not an npz or npy file of plain arrays ({reason}): write it with numpy.savez",
                              path=path, reason=reason)) from error


def plain(text: str) -> str:
    """A stranger's words in one line that no terminal obeys."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))[:300]
