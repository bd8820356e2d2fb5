"""A folder of PNG and JPEG files as images: what torch-fidelity and pytorch-fid make of them, or a refusal by name."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impls.errors import UsageError
from impls.evaluation.inputs.arrays import kind, plain
from impls.evaluation.inputs.spool import in_order, spooled
from messages import tell

SUFFIXES = (".png", ".jpg", ".jpeg")
# Pictures that others would read: left out in silence, they would change a figure.
_OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".jxl", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG")
_MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA")
_ORIENTATION = 0x0112
MOST_PIXELS = 1 << 26


@dataclass(frozen=True)
class Folder:
    """Pictures of one folder.

    Attributes:
        path: the folder.
        files: its pictures, in the order of their names; sub-folders and hidden files are left out.
        size: (H, W) of every image.
        resize: side to which all are brought; None where all must have the size of the first.
    """

    path: Path
    files: tuple[Path, ...]
    size: tuple[int, int]
    resize: int | None

    def first(self, count: int, quiet: bool) -> NDArray[np.uint8]:
        """The first `count` images, uint8 (count, H, W, 3).

        Raises:
            UsageError: a file is damaged, of another size, or no picture of 8 bits in grey or RGB.
        """
        # Filters belong to the process: here, where no thread changes them. Pillow warns of what is refused below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = in_order(self._pixels, self.files[:count], tell("reading {name}", name=self.path.name), quiet)
            return spooled(pixels, (count, *self.size, 3))

    def _pixels(self, path: Path) -> bytes:
        return _rgb(path, None if self.resize else self.size, self.resize).tobytes()


def open_folder(path: Path, resize: int | None) -> Folder:
    """The pictures of a folder, of which only the first is looked at yet.

    Raises:
        UsageError: there are fewer than two, or it is not plain which files are meant.
    """
    try:
        with os.scandir(path) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        raise UsageError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    folders = [entry.name for entry in visible if os.path.isdir(entry)]
    found = {entry.name: os.path.splitext(entry.name)[1].lower() for entry in visible}
    if "manifest.json" in found and "shards" in folders:
        raise UsageError(tell("{path}: a folder of python -m impls.sample --test: name its {file}, which the same "
                              "command finishes where it is missing", path=path, file=path / "images.npz"))
    files = tuple(path / name for name, suffix in found.items() if suffix in SUFFIXES and name not in folders)
    if len(files) < 2:
        inside = tell("; sub-folders are not looked into, name one: {folders}",
                      folders=", ".join(folders[:4])) if folders else ""
        raise UsageError(tell("{path}: holds {count} PNG or JPEG files, at least 2 are needed{inside}", path=path,
                              count=len(files), inside=inside))
    if other := next((name for name, suffix in found.items() if suffix in _OTHERS), None):
        raise UsageError(tell("{path}: holds {other} beside PNG and JPEG files, which alone are read: convert it or "
                              "take it away", path=path, other=other))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = _rgb(files[0], None, resize)
    return Folder(path, files, (first.shape[0], first.shape[1]), resize)


def centre_square(picture: Image.Image, side: int) -> Image.Image:
    """The picture, if it has this size; else its centre square, resized by Pillow's bicubic filter."""
    if picture.size == (side, side):
        return picture
    short = min(picture.size)
    left, top = (picture.width - short) // 2, (picture.height - short) // 2
    square = picture.crop((left, top, left + short, top + short))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def _rgb(path: Path, size: tuple[int, int] | None, resize: int | None) -> NDArray[np.uint8]:
    """One picture as uint8 (H, W, 3); `size` is what it must have."""
    if kind(path) != "file":
        raise UsageError(tell("{path}: a folder with the name of a picture: rename it", path=path))
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
            fault = _fault(picture, size)
            if fault is None:
                picture.load()
                fault = _hidden(picture)
            if fault is None:
                whole = picture.convert("RGB")
                return np.asarray(whole if resize is None else centre_square(whole, resize))
    except PermissionError as error:
        raise UsageError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror)) from error
    except Exception as error:  # Bytes of a stranger: whatever the decoder stumbles over, the file is to blame.
        reason = plain(str(error)) or type(error).__name__
        raise UsageError(tell("{path}: cannot be decoded as PNG or JPEG ({reason}): replace it or take it away",
                              path=path, reason=reason)) from error
    raise UsageError(f"{path}: {fault}")


def _fault(picture: Image.Image, size: tuple[int, int] | None) -> str | None:
    """What in the header speaks against a picture."""
    if picture.width * picture.height > MOST_PIXELS:
        return tell("{width}x{height} pixels are more than the {most} that are decoded", width=picture.width,
                    height=picture.height, most=MOST_PIXELS)
    if size is not None and (picture.height, picture.width) != size:
        return tell("{height}x{width} pixels, the first of the folder has {size}: give --resize N to bring all to one "
                    "size", height=picture.height, width=picture.width, size=f"{size[0]}x{size[1]}")
    if getattr(picture, "n_frames", 1) > 1:
        return tell("holds {count} frames: save one of them", count=getattr(picture, "n_frames", 0))
    # Pillow cuts 16 bits a channel to 8 by itself, where there are several channels.
    if picture.mode.startswith(("I", "F")) or ";16" in str(getattr(picture, "tile", "")):
        return tell("16 bits a channel: convert it to 8 bits")
    if picture.mode not in _MODES:
        return tell("colours in {mode}: convert it to RGB", mode=picture.mode)
    return None


def _hidden(picture: Image.Image) -> str | None:
    """What in the decoded content speaks against a picture."""
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        low, _ = picture.convert("RGBA").getchannel("A").getextrema()
        if isinstance(low, int | float) and low < 255:
            return tell("has transparent pixels: put it on a background")
    try:
        turned = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # Damaged notes beside a whole picture.
        return None
    return None if turned in (0, 1) else tell("is stored turned (EXIF orientation {turned}): turn its pixels",
                                              turned=turned)
