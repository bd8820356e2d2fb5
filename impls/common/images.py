"""Images for people and for evaluation: float -> uint8, grid PNG, denoising GIF, npz."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_uint8(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in [-1, 1] as uint8 (N, H, W, C): clipped, then rounded, never truncated.

    The inverse of x / 127.5 - 1 for all 256 values.
    """
    scaled = np.rint((np.clip(x, -1, 1) + 1) * 127.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))
