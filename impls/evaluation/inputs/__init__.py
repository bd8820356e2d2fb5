"""Image sets: drawn ones from files and folders that are never unpickled, real ones also from a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impls.data.datasets import NAMES, prepare
from impls.errors import UsageError
from impls.evaluation.inputs import arrays
from impls.evaluation.inputs.folder import centre_square, open_folder
from impls.evaluation.inputs.spool import in_order, spooled
from impls.evaluation.inputs.statistics import MU, SIGMA, Published, read_statistics
from messages import recorded, tell

Images = NDArray[np.uint8]
# Ours, and that of improved-diffusion and guided-diffusion.
KEYS = ("images", "arr_0")
# A spread needs two.
LEAST = 2
# What a CPU computes features of in about a minute; CUDA takes all.
CPU_IMAGES = 5000
DATA_SET = "data set"  # English
Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Images before they are read.

    Attributes:
        what: they are images of a "file", a "folder" or a "data set".
        count: how many there are.
        size: (H, W) of each.
        first: the first so many, uint8 (N, H, W, C) with C = 1 or 3, perhaps memory-mapped; whether to be quiet.
    """

    what: str
    count: int
    size: tuple[int, int]
    first: Callable[[int, bool], Images]


def open_images(path: Path, resize: int | None = None) -> Source:
    """The images of an npz file (`images`, or `arr_0`), of an npy file, or of a folder of PNG and JPEG files.

    Args:
        path: of the file or folder.
        resize: side to which every image of another size is brought.

    Raises:
        UsageError: it cannot be read, or holds something else than two images or more.
    """
    if arrays.kind(path) == "folder":
        folder = open_folder(path, resize)
        return Source("folder", len(folder.files), folder.size, folder.first)
    return _of_array(_array(path), "file", str(path), resize)


def _of_array(images: Images, what: str, name: str, resize: int | None) -> Source:
    if images.dtype != np.uint8:
        raise UsageError(tell("{name}: the images are {kind}, expected uint8 of 0 to 255: round and convert them "
                              "(values that are NaN have no image)", name=name, kind=images.dtype))
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise UsageError(tell("{name}: the images have shape {shape}, expected (N, H, W, C) with C = 1 or 3", name=name,
                              shape=images.shape))
    if len(images) < LEAST:
        raise UsageError(tell("{name}: holds {count} images, at least {least} are needed, and thousands for a figure "
                              "that means something", name=name, count=len(images), least=LEAST))
    if resize is None or images.shape[1:3] == (resize, resize):
        return Source(what, len(images), (images.shape[1], images.shape[2]), lambda count, quiet: images[:count])

    def resized(number: int) -> Images:
        image = images[number]
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        return np.asarray(centre_square(picture, resize)).reshape(resize, resize, -1)

    def first(count: int, quiet: bool) -> Images:
        parts = (image.tobytes() for image in in_order(resized, range(count),
                                                           tell("resizing {name}", name=Path(name).name), quiet))
        return spooled(parts, (count, resize, resize, images.shape[3]))

    return Source(what, len(images), (resize, resize), first)


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
        dataset: name of the data set, or of the file or folder.
        source: every image there is.
    """

    dataset: str
    source: Source

    def count(self, asked: int | None, device: str) -> int:
        """How many images are used.

        Raises:
            UsageError: more were asked for than there are.
        """
        there = self.source.count
        if asked is None:
            return there if device == "cuda" else min(there, CPU_IMAGES)
        if asked > there:
            raise UsageError(tell("--reference_images {asked}: {dataset} has {there} images", asked=asked,
                                  dataset=self.dataset, there=there))
        return asked

    def split(self, count: int, resize: int | None) -> str:
        """Which images are used, for people."""
        there, what = self.source.count, self.source.what
        if what == DATA_SET:
            used = (recorded("all {count} training images, without flips", count=f"{there:,}") if count == there else
                    recorded("the first {count} of {all} training images, without flips", count=f"{count:,}",
                             all=f"{there:,}"))
        else:
            used = (recorded("all {count} images of the {what}", count=f"{there:,}", what=what) if count == there else
                    recorded("the first {count} of {all} images of the {what}", count=f"{count:,}", all=f"{there:,}",
                             what=what))
        return used if resize is None else recorded(
            "{some}, brought to {size}x{size} where they had another size (centre square, Pillow's bicubic filter)",
            some=used, size=resize)


def brought(resize: int) -> str:
    """How images got this size, for people."""
    return recorded("brought to {size}x{size} where they had another size (centre square, Pillow's bicubic filter)",
                    size=resize)


def open_reference(name: str, data_root: Path | None, say: Say, resize: int | None = None) -> Reference | Published:
    """The training split of a data set, the images of a file or folder, or published statistics of such.

    Raises:
        UsageError: neither a data set nor something usable.
    """
    if name in NAMES:
        dataset = prepare(name, data_root, echo=say)
        return Reference(dataset.name, _of_array(dataset.open(), DATA_SET, dataset.name, resize))
    path = Path(name)
    try:
        what = arrays.kind(path)
    except UsageError as error:
        raise UsageError(tell("--reference {error}; the data sets are {names}", error=error,
                              names=", ".join(NAMES))) from None
    held = (arrays.names(path) if what == "file" else None) or []
    if {MU, SIGMA} <= set(held):
        if not set(KEYS) & set(held):
            return read_statistics(path)
        say(tell("{path}: holds images and statistics: the images are taken, the statistics are not", path=path))
    return Reference(path.name, open_images(path, resize))


def _array(path: Path) -> Images:
    held = arrays.names(path)
    if held is None:
        return arrays.load(path, None)
    key = next((key for key in KEYS if key in held), None)
    if key is None and {MU, SIGMA} <= set(held):
        raise UsageError(tell("{path}: holds statistics ({mu}, {sigma}) and no images: it can be a --reference only",
                              path=path, mu=MU, sigma=SIGMA))
    if key is None:
        others = arrays.plain(", ".join(held[:8])) or "nothing"
        raise UsageError(tell("{path}: has no array {names}, only {others}: save the images under the name {key}",
                              path=path, names=tell(" or ").join(map(repr, KEYS)), others=others, key=KEYS[0]))
    return arrays.load(path, key)
