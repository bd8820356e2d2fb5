"""Reader of IDX files (the format of MNIST and Fashion-MNIST), plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impls.errors import DataError

_UINT8_3D = 0x00000803
_HEADER = struct.Struct(">IIII")
# Far above any file of the MNIST family (47 MB); a gzip bomb stops here.
MAX_BYTES = 1 << 28


def read_bytes(path: Path) -> bytes:
    """The file's content, unpacked if it is gzipped.

    Raises:
        DataError: the file cannot be read, is truncated, or is larger than `MAX_BYTES`.
    """
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if gzipped:
                with gzip.open(file) as unpacked:
                    data = unpacked.read(MAX_BYTES + 1)
            else:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged gzip file: copy it here again") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB: not an IDX file of the MNIST family")
    return data


def parse_images(data: bytes, source: str) -> NDArray[np.uint8]:
    """The images of an IDX file's content: uint8 (N, H, W).

    Args:
        data: header (magic, N, H, W as big-endian uint32) and N x H x W bytes.
        source: where the data come from, for the error line.

    Raises:
        DataError: no IDX file of uint8 images, or its length does not fit its header.
    """
    if len(data) < _HEADER.size:
        raise DataError(f"{source}: {len(data)} bytes are too few for an IDX file: copy it here again")
    magic, n, height, width = _HEADER.unpack_from(data)
    if magic != _UINT8_3D:
        raise DataError(f"{source}: starts with {magic:#010x}, not with {_UINT8_3D:#010x}: not an IDX file of images")
    expected, found = n * height * width, len(data) - _HEADER.size
    if found != expected or expected == 0:
        raise DataError(f"{source}: {found} bytes of pixels, its header says {expected}: copy it here again")
    return np.frombuffer(data, dtype=np.uint8, offset=_HEADER.size).reshape(n, height, width)
