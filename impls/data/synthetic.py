"""Images that need no data: plane waves and soft blobs in random colours, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from impls.recipe.randomness import stream

COUNT = 4096
SIZE = 32
SEED = 0
_WAVES = 3
_BLOBS = 2
_BLOCK = 512


def images(count: int = COUNT, size: int = SIZE, seed: int = SEED) -> NDArray[np.uint8]:
    """Varied, textured images: uint8 (count, size, size, 3); more images keep the first ones as they are."""
    out = np.empty((count, size, size, 3), dtype=np.uint8)
    for start in range(0, count, _BLOCK):
        block = _block(size, seed, start // _BLOCK)
        out[start : start + _BLOCK] = block[: count - start]
    return out


def _block(size: int, seed: int, index: int) -> NDArray[np.uint8]:
    random = stream(seed, "synthetic images", index)  # English
    grid = (np.arange(size) + 0.5) / size
    y, x = grid[:, None], grid[None, :]

    def draw(low: float, high: float, *more: int) -> NDArray[np.float64]:
        # Trailing axes of length 1 let a value per image spread over its pixels and channels.
        return random.uniform(low, high, size=(_BLOCK, *more, 1, 1))

    pixels = np.empty((_BLOCK, 3, size, size))
    pixels[:] = draw(0.2, 0.8, 3)
    for _ in range(_WAVES):
        angle, frequency, phase = draw(0, 2 * np.pi), draw(0.5, 6.0), draw(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        pixels += draw(-0.15, 0.15, 3) * wave[:, None]
    for _ in range(_BLOBS):
        centre_x, centre_y, width = draw(0.1, 0.9), draw(0.1, 0.9), draw(0.08, 0.3)
        blob = np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * width**2))
        pixels += draw(-0.5, 0.5, 3) * blob[:, None]
    rounded: NDArray[np.float64] = np.rint(np.clip(pixels, 0, 1) * 255)
    return rounded.astype(np.uint8).transpose(0, 2, 3, 1)
