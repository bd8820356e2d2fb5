"""Images for people and for evaluation: float -> uint8, grid PNG, denoising GIF, npz."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impls.errors import UsageError
from impls.store.files import whole_file
from messages import tell

GAP, GAP_VALUE = 2, 255
CHANNELS = (1, 3)
# Browsers show frames of less than this for 100 ms.
GIF_LEAST_MS = 20
GIF_UNIT_MS = 10
# One frame is shown for at most 16 bits of units, and equal frames that follow each other become one.
GIF_MOST_MS = (2**16 - 1) * GIF_UNIT_MS


def require_picture(channels: int) -> None:
    """Refuse images that no picture can show, before they are drawn.

    Raises:
        UsageError: neither grey nor of three colours.
    """
    if channels not in CHANNELS:
        raise UsageError(tell("image_channels {channels}: a picture is grey (1) or of three colours (3), so that "
                              "images of this network cannot be written: sample it with Sampler.sample of "
                              "impls.backend instead", channels=channels))


def require_finite(x: NDArray[Any], first: int = 0, when: str = "") -> None:
    """Refuse what would become black and white pixels as if a network had drawn them.

    Args:
        x: of images (N, ...).
        first: number of the first image.
        when: words for the place in the chain, where it is known.

    Raises:
        UsageError: NaN or infinity; the message names the images.
    """
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if finite.all():
        return
    numbers = [first + int(index) for index in np.flatnonzero(~finite)]
    named = ", ".join(map(str, numbers[:3])) + (tell(" and {count} more", count=len(numbers) - 3)
                                                if len(numbers) > 3 else "")
    raise UsageError(
        tell("images {named} of this batch: NaN or infinity{when}: the network overflows: choose other weights (an "
             "earlier checkpoint, --weights ema or raw), or an arm without half precision", named=named, when=when)
        if len(numbers) > 1 else
        tell("image {named} of this batch: NaN or infinity{when}: the network overflows: choose other weights (an "
             "earlier checkpoint, --weights ema or raw), or an arm without half precision", named=named, when=when))


def to_uint8(x: NDArray[Any], first: int = 0, when: str = "") -> NDArray[np.uint8]:
    """Images (N, C, H, W) in [-1, 1] as uint8 (N, H, W, C): clipped, then rounded, never truncated.

    The inverse of x / 127.5 - 1 for all 256 values.

    Raises:
        UsageError: as `require_finite`, which takes `first` and `when`.
    """
    require_finite(x, first, when)
    scaled = np.rint((np.clip(x, -1, 1) + 1) * 127.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))


def grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, H, W, C) row by row in one near-square picture (H', W', C) with a small gap around each.

    Raises:
        UsageError: there is no image, or they are not uint8 (N, H, W, C).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise UsageError(tell("a grid needs uint8 images (N, H, W, C), got {kind} {shape}", kind=images.dtype,
                              shape=images.shape))
    columns = math.ceil(math.sqrt(len(images)))
    missing = -len(images) % columns
    # Every image brings the gap above it and to its left.
    tiles = np.pad(images, ((0, missing), (GAP, 0), (GAP, 0), (0, 0)), constant_values=GAP_VALUE)
    picture = np.vstack([np.hstack(list(tiles[i : i + columns])) for i in range(0, len(tiles), columns)])
    return np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=GAP_VALUE)


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write one picture (H, W, C) with C = 1 or 3.

    Raises:
        UsageError: the file cannot be written, or PNG has no such picture.
    """
    picture = _pillow(image)
    with whole_file(path) as partial:
        picture.save(partial, format="PNG")


def save_grid(path: Path, images: NDArray[np.uint8]) -> None:
    """Write images (N, H, W, C) as one near-square picture; see `grid`.

    Raises:
        UsageError: the file cannot be written, or there is nothing to show.
    """
    save_png(path, grid(images))


def save_gif(path: Path, frames: Sequence[NDArray[np.uint8]], total_ms: int) -> None:
    """Write pictures (H, W, C) as an endless GIF that takes `total_ms` per round.

    Raises:
        UsageError: as `gif_durations`, or the file cannot be written.
    """
    durations = gif_durations(len(frames), total_ms)
    first, *rest = [_pillow(frame) for frame in frames]
    with whole_file(path) as partial:
        first.save(partial, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def gif_durations(frames: int, total_ms: int) -> list[int]:
    """Milliseconds of every frame: multiples of GIF's 10 ms, as equal as they can be, the last one the longest.

    Their sum is `total_ms`, rounded to 10 ms where it is not a multiple.

    Raises:
        UsageError: there is no frame, or the time is too short or too long for them.
    """
    if frames < 1:
        raise UsageError(tell("a GIF needs at least one frame"))
    units = (total_ms + GIF_UNIT_MS // 2) // GIF_UNIT_MS
    each = units // frames
    if each * GIF_UNIT_MS < GIF_LEAST_MS:
        raise UsageError(tell("GIF time {time} ms is too short for {frames} frames: choose {least} ms or more, or "
                              "fewer frames", time=total_ms, frames=frames, least=frames * GIF_LEAST_MS))
    if total_ms > GIF_MOST_MS:
        raise UsageError(tell("GIF time {time} ms is too long: choose {most} ms or less", time=total_ms,
                              most=GIF_MOST_MS))
    return [each * GIF_UNIT_MS] * (frames - 1) + [(units - each * (frames - 1)) * GIF_UNIT_MS]


def save_npz(path: Path, images: NDArray[np.uint8], **more: NDArray[Any]) -> None:
    """Write images (N, H, W, C) under the key `images`, and further arrays under theirs; waits for the disk.

    Raises:
        UsageError: the file cannot be written.
    """
    # First in memory: on a full disk the half-open archive would complain a second time, on its own.
    archive = io.BytesIO()
    np.savez(archive, images=images, **more)
    with whole_file(path, durable=True) as partial:
        partial.write_bytes(archive.getbuffer())


def save_npy(path: Path, images: NDArray[np.uint8]) -> None:
    """Write images (N, H, W, C) for memory-mapping; waits for the disk.

    Raises:
        UsageError: the file cannot be written.
    """
    with whole_file(path, durable=True) as partial, partial.open("wb") as file:
        np.save(file, images, allow_pickle=False)


def _pillow(image: NDArray[np.uint8]) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in CHANNELS:
        raise UsageError(tell("a picture needs uint8 (H, W, 1) or (H, W, 3), got {kind} {shape}", kind=image.dtype,
                              shape=image.shape))
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
