"""Reader of IDX files (the format of MNIST and Fashion-MNIST), plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impls.errors import DataError
from messages import tell

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
        raise DataError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    except (EOFError, zlib.error) as error:
        raise DataError(tell("{path}: truncated or damaged gzip file: copy it here again", path=path)) from error
    if len(data) > MAX_BYTES:
        raise DataError(tell("{path}: larger than {most} MiB: not an IDX file of the MNIST family", path=path,
                             most=MAX_BYTES >> 20))
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
        raise DataError(tell("{source}: {count} bytes are too few for an IDX file: copy it here again", source=source,
                             count=len(data)))
    magic, n, height, width = _HEADER.unpack_from(data)
    if magic != _UINT8_3D:
        raise DataError(tell("{source}: starts with {found}, not with {expected}: not an IDX file of images",
                             source=source, found=f"{magic:#010x}", expected=f"{_UINT8_3D:#010x}"))
    expected, found = n * height * width, len(data) - _HEADER.size
    if found != expected or expected == 0:
        raise DataError(tell("{source}: {found} bytes of pixels, its header says {expected}: copy it here again",
                             source=source, found=found, expected=expected))
    return np.frombuffer(data, dtype=np.uint8, offset=_HEADER.size).reshape(n, height, width)
