"""TensorBoard's event files, read without it: records around protocol buffers (tensorflow/core/util/event.proto).

What stands in a file is not trusted: every length is held against what is left of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from messages import tell

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Numbers of fields in event.proto, summary.proto and tensor.proto.
STEP, SUMMARY = 2, 5
VALUE = 1
TAG, SIMPLE_VALUE, TENSOR = 1, 2, 8
DTYPE, TENSOR_CONTENT, FLOAT_VAL, DOUBLE_VAL = 1, 4, 5, 6
FLOAT, DOUBLE = 1, 2
# One scalar takes less than a hundred bytes; pictures and graphs, which are larger, are passed over.
LARGEST_SCALAR = 1 << 16
MOST_BYTES = 1 << 30


def scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of every scalar, in order; a torn end is left out.

    Raises:
        ValueError: this is no event file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        for number in range(MOST_BYTES):
            head = file.read(12)
            if len(head) < 12:
                return
            (length,) = struct.unpack("<Q", head[:8])
            if length > MOST_BYTES:
                if number == 0:
                    raise ValueError(tell("no event file"))
                return
            if length > LARGEST_SCALAR:
                file.seek(length + 4, 1)
                continue
            data = file.read(length + 4)
            if len(data) < length + 4:
                return
            try:
                yield from _of_event(data[:length])
            except (ValueError, struct.error, UnicodeDecodeError) as error:
                if number == 0:
                    raise ValueError(tell("no event file")) from error
                return


def _of_event(data: bytes) -> Iterator[tuple[str, int, float]]:
    step, summaries = 0, []
    for number, kind, value in _fields(data):
        if (number, kind) == (STEP, VARINT):
            step = int(value)
        elif (number, kind) == (SUMMARY, BYTES):
            summaries.append(value)
    for summary in summaries:
        for number, kind, value in _fields(summary):
            if (number, kind) == (VALUE, BYTES):
                tag, found = _of_value(value)
                if found is not None:
                    yield tag, step, found


def _of_value(data: bytes) -> tuple[str, float | None]:
    tag, found = "", None
    for number, kind, value in _fields(data):
        if (number, kind) == (TAG, BYTES):
            tag = value.decode()
        elif (number, kind) == (SIMPLE_VALUE, FIXED32):
            (found,) = struct.unpack("<f", value)
        elif (number, kind) == (TENSOR, BYTES):
            found = _of_tensor(value)
    return tag, found


def _of_tensor(data: bytes) -> float | None:
    """The number of a tensor of one element; None for any other."""
    dtype, content = 0, b""
    for number, kind, value in _fields(data):
        if (number, kind) == (DTYPE, VARINT):
            dtype = int(value)
        elif number in (TENSOR_CONTENT, FLOAT_VAL, DOUBLE_VAL) and kind in (BYTES, FIXED32, FIXED64):
            content = value
    code = {FLOAT: "<f", DOUBLE: "<d"}.get(dtype)
    return struct.unpack(code, content)[0] if code and len(content) == struct.calcsize(code) else None


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, kind and content of every field of a message; a varint as its decimal digits."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            # As a signed 64-bit number.
            yield key >> 3, kind, str(value - (1 << 64) if value >> 63 else value).encode()
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"unknown kind {kind}")
        if size > len(data) - at:
            raise ValueError("a field ends behind its message")
        yield key >> 3, kind, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number ends behind its message")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if not byte & 128:
            return value & ((1 << 64) - 1), at
    raise ValueError("a number of more than 64 bits")
