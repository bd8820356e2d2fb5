"""Image sets from files: npz or npy, checked before anything is computed, never unpickled."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError

Images = NDArray[np.uint8]
KEY = "images"
# A spread needs two.
LEAST = 2
_ZIP = b"PK\x03\x04"


def read_images(path: Path) -> Images:
    """The images of a file, uint8 (N, H, W, 3), at least two; grey ones are repeated to three channels.

    Args:
        path: .npz with key `images`, or .npy.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    images = _array(path)
    if images.dtype != np.uint8:
        raise UsageError(f"{path}: the images are {images.dtype}, expected uint8 of 0 to 255: round and convert them "
                         "(values that are NaN have no image)")
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise UsageError(f"{path}: the images have shape {images.shape}, expected (N, H, W, C) with C = 1 or 3")
    if len(images) < LEAST:
        raise UsageError(f"{path}: holds {len(images)} images, at least {LEAST} are needed, and thousands for a figure "
                         "that means something")
    return images if images.shape[3] == 3 else np.repeat(images, 3, axis=3)


def sha256_of(images: Images) -> str:
    """SHA-256 of the shape and the values."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), 1024):
        digest.update(images[start : start + 1024].tobytes())
    return digest.hexdigest()


def _member(path: Path, file: BinaryIO) -> NDArray[Any]:
    with np.load(file, allow_pickle=False) as archive:
        if KEY not in archive.files:
            names = ", ".join(archive.files[:8]) or "nothing"
            raise UsageError(f"{path}: has no array {KEY!r}, only {names}: save the images under that name")
        found: NDArray[Any] = archive[KEY]
        if not isinstance(found, np.ndarray):
            raise ValueError(f"its member {KEY!r} is no array")
        return found


def _array(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            archive = file.read(len(_ZIP)) == _ZIP
            file.seek(0)
            if archive:
                return _member(path, file)
        single: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return single
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError, KeyError,
            OverflowError) as error:
        raise UsageError(f"{path}: not an npz or npy file of plain arrays ({error}): write it with numpy.savez"
                         ) from error
