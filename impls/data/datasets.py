"""Training images: cifar10, fashion-mnist, digits, synthetic -> uint8 NHWC arrays, cached and memory-mapped.

Grey images have one channel. A network of three gets them repeated, in a cache file of their own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from impls.data import cifar, idx, synthetic
from impls.data.array_cache import Images, cached, default_folder, open_images
from impls.errors import DataError
from messages import plural, recorded, shown, tell

DatasetName = Literal["auto", "cifar10", "fashion-mnist", "digits", "synthetic"]
NAMES: tuple[DatasetName, ...] = get_args(DatasetName)
COLOUR, GREY = 3, 1
# What "auto" will be shows only when it has been looked for.
CHANNELS = {"cifar10": COLOUR, "fashion-mnist": GREY, "digits": GREY, "synthetic": COLOUR}
Echo = Callable[[str], None]

SIZE = 32
# Part of every cache file's name: raise it when the conversion below changes.
_CONVERSION = "1"
FASHION_FILES = ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte")
FASHION_SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# Of the unpacked file: MNIST's has the same name and shape, and packers differ in how they compress it.
FASHION_SHA256 = "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"


@dataclass(frozen=True)
class Dataset:
    """Training images in a memory-mapped file, the same for all implementations.

    Attributes:
        name: "cifar10", "fashion-mnist", "digits" or "synthetic", never "auto".
        path: .npy file of uint8 NHWC.
        images: how many.
        shape: (height, width, channels) of one.
        sha256: SHA-256 of the file.
        why: where the images come from and, after "auto", why these.
    """

    name: str
    path: Path
    images: int
    shape: tuple[int, int, int]
    sha256: str
    why: str

    def open(self) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
        """The images (N, H, W, C) as a read-only memory map."""
        return open_images(self.path)


@dataclass(frozen=True)
class Source:
    """Images before conversion.

    Attributes:
        name: the data set's name.
        fingerprint: changes whenever the images would.
        build: makes the images, uint8 (N, 32, 32, C) with the data set's own channels.
        why: where they come from.
    """

    name: str
    fingerprint: str
    build: Callable[[], Images]
    why: str

    def file(self, repeated: bool) -> str:
        """The name of the cache file, which changes whenever its images would."""
        own = f"/{GREY} channel" if CHANNELS[self.name] == GREY and not repeated else ""  # English
        key = hashlib.sha256(f"{_CONVERSION}/{self.name}/{self.fingerprint}{own}".encode()).hexdigest()[:16]
        return f"{self.name}-{key}.npy"


def prepare(name: str, data_root: Path | None = None, cache_dir: Path | None = None, echo: Echo = print,
            channels: int | None = None) -> Dataset:
    """Find, check, convert and cache the training images of a data set; later calls only check the cache.

    Args:
        name: one of `NAMES`; "auto" takes cifar10 where it is on disk or can be downloaded, else fashion-mnist where
            it is on disk, else digits.
        data_root: folder that holds, or will hold, what was downloaded; default: `data` in the cache folder.
        cache_dir: folder of the converted arrays; default: `ddpm-bench` in the user's cache folder.
        echo: called with one line for people whenever something takes time or is decided.
        channels: of the network that they are for; grey images are repeated for one of three. None takes the images
            as they are.

    Raises:
        DataError: unknown name, no such folder, data missing and not to be had, damaged, or images that have not so
            many channels.
    """
    if name not in NAMES:
        raise DataError(tell("unknown data set {name}: choose one of {names}", name=repr(name), names=", ".join(NAMES)))
    check_root(data_root)
    cache_dir = cache_dir or default_folder()
    source = _choose(name, data_root or cache_dir / "data", echo)
    own = CHANNELS[source.name]
    if channels not in (None, own) and (own, channels) != (GREY, COLOUR):
        raise DataError(tell("data set {name} has images of {own}, the network is for {channels}: choose another data "
                             "set, or another model.image_channels for a new network", name=source.name,
                             own=plural(own, "channel"), channels=channels))
    repeated = own == GREY and channels == COLOUR
    path = cache_dir / source.file(repeated)
    digest = cached(path, (lambda: source.build().repeat(COLOUR, axis=-1)) if repeated else source.build, echo)
    count, height, width, depth = open_images(path).shape
    shape = f"{height}x{width}x{depth}"
    echo(tell("data set {name}: {count} images {shape}, grey repeated; {source}", name=source.name, count=count,
              shape=shape, source=shown(source.why)) if repeated else
         tell("data set {name}: {count} images {shape}; {source}", name=source.name, count=count, shape=shape,
              source=shown(source.why)))
    return Dataset(source.name, path, count, (height, width, depth), digest, source.why)


def check_root(data_root: Path | None) -> None:
    """Refuse a folder that does not exist; what is given without one goes into our own.

    Raises:
        DataError: there is no such folder.
    """
    if data_root is not None and not os.path.isdir(data_root):
        raise DataError(tell("data folder {data_root}: no such folder: create it or correct the path",
                             data_root=data_root))


def _choose(name: str, root: Path, echo: Echo) -> Source:
    if name == "cifar10":
        return _find_cifar10(root) or _download_cifar10(root, echo)
    if name == "fashion-mnist":
        found = _find_fashion_mnist(root)
        if found is None:
            raise DataError(
                tell("fashion-mnist is neither in {root} nor in {fashion_system_folder}: put {fashion_files} from "
                     "https://github.com/zalandoresearch/fashion-mnist into {root}, or install the Debian package "
                     "dataset-fashion-mnist", root=root, fashion_system_folder=FASHION_SYSTEM_FOLDER,
                     fashion_files=FASHION_FILES[0])
            )
        return found
    if name == "digits":
        return _digits()
    if name == "synthetic":
        return _synthetic()
    return _automatic(root, echo)


def _automatic(root: Path, echo: Echo) -> Source:
    if found := _find_cifar10(root):
        return found
    try:
        return _download_cifar10(root, echo)
    except DataError as error:
        echo(str(error))
    if fashion := _find_fashion_mnist(root):
        return replace(fashion, why=recorded("{source} (auto: cifar10 is not in {root} and could not be downloaded)",
                                             source=fashion.why, root=root))
    digits = _digits()
    return replace(digits, why=recorded(
        "{source} (auto: cifar10 is not in {root} and could not be downloaded; fashion-mnist is neither there nor in "
        "{folder})", source=digits.why, root=root, folder=FASHION_SYSTEM_FOLDER))


def _find_cifar10(root: Path) -> Source | None:
    path = cifar.find(root, cifar.RELEASE)
    if path is None:
        return None
    # Also when the converted images are cached: a damaged original must not pass because it once was good.
    cifar.check(path, cifar.RELEASE)
    return Source("cifar10", cifar.RELEASE.md5, lambda: cifar.read(path, cifar.RELEASE),
                  recorded("read from {path}", path=path))


def _download_cifar10(root: Path, echo: Echo) -> Source:
    try:
        cifar.fetch(root, cifar.RELEASE, echo)
    except DataError as error:
        raise DataError(
            tell("cifar10 is not in {root} and could not be downloaded ({error}): put {archive} from {url} into "
                 "{root}, or choose --dataset fashion-mnist, digits or synthetic", root=root, error=error,
                 archive=cifar.RELEASE.archive, url=cifar.RELEASE.url)
        ) from error
    found = _find_cifar10(root)
    if found is None:
        raise DataError(tell("cifar10 was downloaded but is no longer in {root}: does another program clean this "
                             "folder?", root=root))
    return found


def _find_fashion_mnist(root: Path) -> Source | None:
    folders = (root, root / "fashion-mnist", root / "FashionMNIST" / "raw", FASHION_SYSTEM_FOLDER)
    candidates = [folder / file for folder in folders for file in FASHION_FILES]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return None
    data = idx.read_bytes(path)
    images = idx.parse_images(data, str(path))
    digest = hashlib.sha256(data).hexdigest()
    if digest != FASHION_SHA256:
        raise DataError(
            tell("{path}: not Fashion-MNIST's training images (plain MNIST, or changed): SHA-256 of the unpacked file "
                 "is {digest}, expected {fashion_sha256}: copy it here again", path=path, digest=digest,
                 fashion_sha256=FASHION_SHA256)
        )
    return Source("fashion-mnist", digest, lambda: padded(images),
                  recorded("read from {path}", path=path))


def padded(images: Images) -> Images:
    """Put a black border around grey, square images (N, H, H): uint8 (N, SIZE, SIZE, 1)."""
    border = (SIZE - images.shape[1]) // 2
    return np.pad(images, ((0, 0), (border, border), (border, border)))[..., None]


def _digits() -> Source:
    def build() -> Images:
        from PIL import Image
        from sklearn.datasets import load_digits

        grey = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
        resized = [Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for one in grey]
        return padded(np.stack([np.asarray(one) for one in resized]))

    return Source("digits", f"scikit-learn digits, bilinear to {SIZE}", build,  # English
                  recorded("scikit-learn's digits, always there"))


def _synthetic() -> Source:
    fingerprint = f"{synthetic.COUNT} images of {synthetic.SIZE}, seed {synthetic.SEED}"  # English
    return Source("synthetic", fingerprint, synthetic.images, recorded(
        "generated: {count} images of {size}, seed {seed}", count=synthetic.COUNT, size=synthetic.SIZE,
        seed=synthetic.SEED))
