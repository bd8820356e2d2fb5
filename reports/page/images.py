"""Sampled images as blocks: the journal names files of the run folder, and nothing it says about them is trusted."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness.record.events import SamplesDrawn
from reports.page.blocks import Images, Raster
from reports.suites.sampling.facts import cell_words
from reports.text import plural, size
from reports.view.run import RunView

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
        fault = f"the file cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
    if fault:
        return fault
    kind = kind_of(data)
    if isinstance(kind, str):
        return kind
    mime, width, height = kind
    if not (0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS):
        return "the file claims a size that no sampled image has"
    return File(data, mime, width, height, quote(real.relative_to(root).as_posix()))


def unreadable(root: Path, real: Path, room: int) -> str | None:
    """Why a resolved path must not be read; None when it may."""
    if root not in real.parents:
        return "the recorded path leads out of the run folder"
    if not real.is_file():
        return "the file is not there"
    taken = real.stat().st_size
    return f"the file takes {size(taken)}, more than the report has room for" if taken > room else None


def kind_of(data: bytes) -> tuple[str, int, int] | str:
    """Type, width and height by an image's first and last bytes, or what is wrong with it."""
    if data.startswith(PNG) and len(data) > 32:
        if data[-8:-4] != PNG_END:
            return "the PNG file has no end: it was cut off"
        return "image/png", *struct.unpack(">II", data[16:24])
    if data.startswith(GIF) and len(data) > 13:
        if not data.endswith(GIF_END):
            return "the GIF file has no end: it was cut off"
        return "image/gif", *struct.unpack("<HH", data[6:10])
    return "the file is neither a PNG nor a GIF image"


def blocks(view: RunView) -> tuple[Images, ...]:
    """Per cell the grids of all arms side by side, then their denoising."""
    groups: dict[str, dict[str, SamplesDrawn]] = {}
    for drawn in view.run.of(SamplesDrawn):
        groups.setdefault(drawn.cell, {})[drawn.arm] = drawn
    shelf = Shelf(view)
    found: list[Images] = []
    for cell, arms in groups.items():
        drew = {arm.name for arm in view.arms if arm.slot in arms}
        # An arm that is there twice draws once.
        ordered = [arms.get(arm.slot) or arm.slot for arm in view.arms if arm.slot in arms or arm.name not in drew]
        seeds = " and ".join(str(seed) for seed in sorted({drawn.seed for drawn in arms.values()}))
        words = cell_words(cell)
        found.append(Images(f"Images by {words}, seed {seeds}", shelf.grids(ordered)))
        found.append(Images(f"Denoising by {words}, seed {seeds}", shelf.animations(ordered), moving=True))
    return tuple(found)


class Shelf:
    """Loads images until the room for all of them is used up."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.left = MOST_BYTES_IN_ALL

    def grids(self, drawn: Sequence[SamplesDrawn | str]) -> tuple[Raster, ...]:
        """The grid of every arm; a slot alone stands for an arm that drew nothing."""
        return tuple(self.nothing(one) if isinstance(one, str) else self.raster(one, one.grid) for one in drawn)

    def animations(self, drawn: Sequence[SamplesDrawn | str]) -> tuple[Raster, ...]:
        """The GIF of every arm."""
        return tuple(self.nothing(one) if isinstance(one, str) else self.animation(one) for one in drawn)

    def animation(self, drawn: SamplesDrawn) -> Raster:
        """The GIF of one arm, or why there is none."""
        if drawn.gif is not None:
            return self.raster(drawn, drawn.gif, "from noise, denoised ")
        label, reason = self.view.label(drawn.arm), drawn.why_no_gif or "no reason recorded"
        return Raster(drawn.arm, label, "", "", reason=reason)

    def nothing(self, slot: str) -> Raster:
        """An arm that drew nothing."""
        return Raster(slot, self.view.label(slot), "", "", reason="no images of this arm were recorded")

    def raster(self, drawn: SamplesDrawn, name: str, how: str = "") -> Raster:
        """One image file of one arm."""
        label = self.view.label(drawn.arm)
        alt = f"{plural(drawn.images, 'image')} {how}by {label}: {cell_words(drawn.cell)}, seed {drawn.seed}"
        caption = f"{plural(drawn.images, 'image')}; weights: {drawn.weights}"
        return self.file(drawn.arm, alt, caption, name)

    def file(self, slot: str, alt: str, caption: str, name: str) -> Raster:
        """The image file that a line of one arm names, or why it cannot be shown."""
        label = self.view.label(slot)
        file = load(self.view.run.path, name, self.left)
        if isinstance(file, str):
            return Raster(slot, label, alt, caption, reason=f"{file}: {name}")
        self.left -= len(file.data)
        return Raster(slot, label, alt, caption, file.uri, file.link, file.width, file.height)
