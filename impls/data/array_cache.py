"""Cache of image arrays as .npy files for memory-mapping; a SHA-256 beside each file tells when it is damaged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from impls.errors import DataError
from impls.store.files import replacement
from messages import tell

Images = NDArray[np.uint8]


def default_folder() -> Path:
    """$XDG_CACHE_HOME/ddpm-bench, by default ~/.cache/ddpm-bench."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm-bench"


def cached(path: Path, build: Callable[[], Images], echo: Callable[[str], None]) -> str:
    """Make sure that `path` holds what `build` returns, building it only when it is absent or damaged.

    Args:
        path: the .npy file; its name must change whenever the result of `build` would.
        build: makes the images, uint8 (N, H, W, C).
        echo: told when a damaged file is built again.

    Returns:
        SHA-256 of the file.

    Raises:
        DataError: the folder cannot be written, or `build` raised it.
    """
    checksum = path.with_name(path.name + ".sha256")
    try:
        if path.exists():
            found = file_digest(path)
            if checksum.exists() and checksum.read_text(encoding="ascii", errors="replace").strip() == found:
                return found
            echo(tell("{path}: the cached images are damaged: building them again", path=path))
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error
    images = np.ascontiguousarray(build())
    try:
        # Several runs may prepare the same data at once: the last one replaces what the others wrote by the same.
        with replacement(path, durable=True) as scratch, scratch.open("wb") as file:
            np.save(file, images)
        digest = file_digest(path)
        with replacement(checksum, durable=True) as scratch:
            scratch.write_text(digest + "\n", encoding="ascii")
    except OSError as error:
        raise _unusable(path, error) from error
    return digest


def open_images(path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """The cached images as a read-only memory map: uint8 (N, H, W, C).

    Raises:
        DataError: the file is gone or holds something else.
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(tell("{path}: no usable cached images ({error}): prepare the data set again", path=path,
                             error=error)) from error
    if not isinstance(images, np.memmap) or images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(tell("{path}: not uint8 images (N, H, W, C): prepare the data set again", path=path))
    return images


def file_digest(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Hash of a file's content in hexadecimal; MD5 where the publisher gives no other."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _unusable(path: Path, error: OSError) -> DataError:
    return DataError(
        tell("{folder}: the image cache cannot be used: {reason}: free some space or choose another folder with "
             "XDG_CACHE_HOME", folder=path.parent, reason=error.strerror or error)
    )
