"""Images of a run folder for a page: the journal names files, and nothing it says about them is trusted."""

from __future__ import annotations

import struct
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from messages import tell
from reports.page.blocks import Raster
from reports.text import size

MOST_BYTES = 4 * 2**20
# Of all images of one shelf together: the page is one file that a browser holds in memory.
MOST_BYTES_IN_ALL = 24 * 2**20
MOST_PIXELS = 8192
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
GIF, GIF_END = (b"GIF87a", b"GIF89a"), b"\x3b"


@dataclass(frozen=True)
class File:
    """An image file that was read and looks like one.

    Attributes:
        data: its bytes.
        mime: type by its first bytes.
        width: in pixels.
        height: in pixels.
        link: quoted address relative to the run folder.
    """

    data: bytes
    mime: str
    width: int
    height: int
    link: str

    @property
    def uri(self) -> str:
        """The file as a `data:` address."""
        return f"data:{self.mime};base64,{b64encode(self.data).decode('ascii')}"


def load(run_dir: Path, name: str, room: int = MOST_BYTES) -> File | str:
    """The image file that a journal names, or why it cannot be shown.

    Args:
        run_dir: the run folder, which the file must not lie outside of, links followed.
        name: path relative to it.
        room: bytes that may still be taken.
    """
    try:
        root = run_dir.resolve()
        real = (root / name).resolve()
        fault = unreadable(root, real, min(room, MOST_BYTES))
        data = b"" if fault else real.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        fault = tell("the file cannot be read ({reason})",
                     reason=getattr(error, "strerror", None) or type(error).__name__)
    if fault:
        return fault
    kind = kind_of(data)
    if isinstance(kind, str):
        return kind
    mime, width, height = kind
    if not (0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS):
        return tell("the file claims a size that no sampled image has")
    return File(data, mime, width, height, quote(real.relative_to(root).as_posix()))


def unreadable(root: Path, real: Path, room: int) -> str | None:
    """Why a resolved path must not be read; None when it may."""
    if root not in real.parents:
        return tell("the recorded path leads out of the run folder")
    if not real.is_file():
        return tell("the file is not there")
    taken = real.stat().st_size
    if taken <= room:
        return None
    return tell("the file takes {size}, more than the report has room for", size=size(taken))


def kind_of(data: bytes) -> tuple[str, int, int] | str:
    """Type, width and height by an image's first and last bytes, or what is wrong with it."""
    if data.startswith(PNG) and len(data) > 32:
        if data[-8:-4] != PNG_END:
            return tell("the PNG file has no end: it was cut off")
        return "image/png", *struct.unpack(">II", data[16:24])
    if data.startswith(GIF) and len(data) > 13:
        if not data.endswith(GIF_END):
            return tell("the GIF file has no end: it was cut off")
        return "image/gif", *struct.unpack("<HH", data[6:10])
    return tell("the file is neither a PNG nor a GIF image")


class Shelf:
    """Loads images of a run folder until the room for all of them is used up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = MOST_BYTES_IN_ALL

    def file(self, slot: str, label: str, alt: str, caption: str, name: str) -> Raster:
        """The image file that a line of one arm names, or why it cannot be shown."""
        file = load(self.folder, name, self.left)
        if isinstance(file, str):
            return Raster(slot, label, alt, caption, reason=tell("{reason}: {name}", reason=file, name=name))
        self.left -= len(file.data)
        return Raster(slot, label, alt, caption, file.uri, file.link, file.width, file.height)
