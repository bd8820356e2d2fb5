"""CIFAR-10's training images: downloaded, and read from the archive or its unpacked folder, without trusting either."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from impls.data import download
from impls.data.array_cache import file_digest
from impls.errors import DataError
from messages import marked, tell


@dataclass(frozen=True)
class Release:
    """What is published of CIFAR-10 (the checksums are torchvision's, too).

    Attributes:
        url: where the archive comes from.
        archive: the archive's file name.
        folder: the folder inside the archive.
        md5: the archive's MD5.
        batches: the training batches' file names and MD5s, in order.
        images_per_batch: images in each of them.
    """

    url: str
    archive: str
    folder: str
    md5: str
    batches: tuple[tuple[str, str], ...]
    images_per_batch: int


RELEASE = Release(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    md5="c58f30108f718f92721af3b95e74349a",
    batches=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    images_per_batch=10_000,
)
_MAX_BATCH_BYTES = 1 << 26
_AGAIN = marked("delete it and copy or download it again")


def fetch(root: Path, release: Release, echo: Callable[[str], None]) -> None:
    """Download the archive into `root`; what is there stays untouched until the checked archive is complete.

    Raises:
        DataError: the server cannot be reached, the transfer stalls, or the folder cannot be written.
    """
    echo(tell("downloading CIFAR-10 (170 MB) from {url} into {folder}; gives up after {seconds} s without any progress",
              url=release.url, folder=root, seconds=f"{download.STALL_S:.0f}"))
    with download.arriving(root / release.archive, tell("choose another folder")) as partial:
        download.fetch(release.url, partial)
        check(partial, release)
        os.replace(partial, root / release.archive)


def find(root: Path, release: Release = RELEASE) -> Path | None:
    """The archive under `root`, else the unpacked folder, else None."""
    for path in (root / release.archive, root / release.folder):
        if path.exists():
            return path
    return None


def check(path: Path, release: Release = RELEASE) -> None:
    """Compare the MD5 of the archive, or of every training batch of the unpacked folder, with the published one.

    Raises:
        DataError: it cannot be read, or is truncated or changed, or a batch is missing.
    """
    if path.is_dir():
        for _ in _folder_batches(path, release):
            pass
        return
    with _readable(path):
        found = file_digest(path, "md5")
    if found != release.md5:
        raise DataError(tell("{path}: truncated or changed: its MD5 is {found}, CIFAR-10's is {md5}: {again}",
                             path=path, found=found, md5=release.md5, again=tell(_AGAIN)))


def read(path: Path, release: Release = RELEASE) -> NDArray[np.uint8]:
    """The training images as uint8 (N, 32, 32, 3).

    Args:
        path: the archive or the unpacked folder, as `find` returns it.
        release: what the data must be.

    Raises:
        DataError: a file is missing, truncated, changed, or holds anything but images.
    """
    batches = _folder_batches(path, release) if path.is_dir() else _archive_batches(path, release)
    bar = tqdm(batches, total=len(release.batches), desc=tell("reading CIFAR-10"), unit=tell("batch"), disable=None,
               leave=False)
    return np.concatenate([_images(data, place, release) for place, data in bar])


def _folder_batches(folder: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    for name, md5 in release.batches:
        path = folder / name
        with _readable(path), path.open("rb") as file:
            data = file.read(_MAX_BATCH_BYTES + 1)
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DataError(tell("{path}: truncated or changed: its MD5 is {found}, the published one {md5}: {again}",
                                 path=path, found=found, md5=md5, again=tell(_AGAIN)))
        yield str(path), data


def _archive_batches(archive: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    check(archive, release)
    with _readable(archive), tarfile.open(archive, "r:gz") as tar:
        members = {member.name: member for member in _safe_members(tar, archive)}
        for name, _ in release.batches:
            place = f"{archive}: {release.folder}/{name}"
            member = members.get(f"{release.folder}/{name}")
            stream = tar.extractfile(member) if member is not None and member.isreg() else None
            if stream is None:
                raise DataError(tell("{place} is missing: {again}", place=place, again=tell(_AGAIN)))
            yield place, stream.read(_MAX_BATCH_BYTES + 1)


def _safe_members(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or not (member.isreg() or member.isdir()):
            raise DataError(tell("{archive}: member {name} is a link, a device or outside the folder: {again}",
                                 archive=archive, name=repr(member.name), again=tell(_AGAIN)))
        yield member


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain values; any other name in the pickle is refused before it is looked up."""

    ALLOWED = frozenset({
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    })

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(tell("refers to {module}.{name}", module=module, name=name))
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(tell("refers to outside objects"))


def _images(data: bytes, place: str, release: Release) -> NDArray[np.uint8]:
    try:
        # Python 2 wrote the published batches: latin1 keeps the bytes of its strings.
        content = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # A hostile pickle can make the unpickler raise anything at all.
        raise DataError(tell("{place}: not a CIFAR-10 batch ({error}): {again}", place=place, error=error,
                             again=tell(_AGAIN))) from error
    pixels = content.get("data") if isinstance(content, dict) else None
    shape = (release.images_per_batch, 3 * 32 * 32)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise DataError(tell("{place}: not a CIFAR-10 batch (no uint8 pixels of shape {shape}): {again}", place=place,
                             shape=shape, again=tell(_AGAIN)))
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Translate what reading a missing, unreadable or damaged file raises."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(tell("{path}: missing: {again}", path=path, again=tell(_AGAIN))) from error
    except OSError as error:
        raise DataError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(tell("{path}: not a readable archive ({error}): {again}", path=path, error=error,
                             again=tell(_AGAIN))) from error
