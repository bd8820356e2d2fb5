"""Image sets: drawn ones from files that are never unpickled, real ones from a data set or a file."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from impls.data.datasets import NAMES, prepare
from impls.errors import UsageError

Images = NDArray[np.uint8]
KEY = "images"
# A spread needs two.
LEAST = 2
# What a CPU computes features of in about a minute; CUDA takes all.
CPU_IMAGES = 5000
Say = Callable[[str], None]
_ZIP = b"PK\x03\x04"


def read_images(path: Path) -> Images:
    """The images of a file, uint8 (N, H, W, C) with C = 1 or 3, at least two.

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
    return images


def rgb(images: Images) -> Images:
    """Images (..., C) with C = 1 or 3 as a network of colours sees them: (..., 3), grey ones three times the same."""
    return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)


def sha256_of(images: Images) -> str:
    """SHA-256 of the shape and the values of images (N, H, W, C), as `rgb` shows them."""
    digest = hashlib.sha256(repr((*images.shape[:3], 3)).encode())
    for start in range(0, len(images), 1024):
        digest.update(rgb(images[start : start + 1024]).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Reference:
    """Real images.

    Attributes:
        dataset: name of the data set, or of the file.
        all_images: every image there is, uint8 (N, H, W, C) with C = 1 or 3, perhaps memory-mapped.
    """

    dataset: str
    all_images: Images

    def count(self, asked: int | None, device: str) -> int:
        """How many images are used.

        Raises:
            UsageError: more were asked for than there are.
        """
        there = len(self.all_images)
        if asked is None:
            return there if device == "cuda" else min(there, CPU_IMAGES)
        if asked > there:
            raise UsageError(f"--reference_images {asked}: {self.dataset} has {there} images")
        return asked

    def split(self, count: int) -> str:
        """Which images are used, for people."""
        there = len(self.all_images)
        used = f"all {there:,}" if count == there else f"the first {count:,} of {there:,}"
        return f"{used} training images, without flips" if self.dataset in NAMES else f"{used} images of the file"


def open_reference(name: str, data_root: Path | None, say: Say) -> Reference:
    """The training split of a data set, or the images of a file.

    Raises:
        UsageError: neither a data set nor a usable file.
    """
    if name in NAMES:
        dataset = prepare(name, data_root, echo=say)
        return Reference(dataset.name, dataset.open())
    if not Path(name).exists():
        raise UsageError(f"--reference {name}: neither a file nor one of {', '.join(NAMES)}")
    return Reference(Path(name).name, read_images(Path(name)))


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
