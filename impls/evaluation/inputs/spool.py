"""Images in a temporary file without a name: as many as the disk holds, whatever memory there is."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from impls.devices import default_threads
from impls.errors import UsageError
from messages import tell

Item = TypeVar("Item")
Made = TypeVar("Made")
# So much work a thread is begun before the first of it is fetched.
_AHEAD = 4


def spooled(parts: Iterable[Any], shape: Sequence[int], dtype: Any = np.uint8, order: str = "C") -> NDArray[Any]:
    """The bytes of all parts, one after another, as one read-only memory map of this shape.

    Args:
        parts: buffers; together as many bytes as the array has.
        shape: of the array.
        dtype: of its elements.
        order: "C", or "F" where the first index runs fastest.

    Raises:
        UsageError: the disk of temporary files cannot hold them.
        ValueError: there were other than so many bytes.
    """
    size, place = math.prod(shape) * np.dtype(dtype).itemsize, tempfile.gettempdir()
    advice = tell("free some space or choose another folder with TMPDIR")
    if size > (free := shutil.disk_usage(place).free):
        raise UsageError(tell("{place}: {size} MB of images do not fit into its {free} MB: {advice}", place=place,
                              size=f"{size / 1e6:.0f}", free=f"{free / 1e6:.0f}", advice=advice))
    with tempfile.TemporaryFile() as file:
        try:
            for part in parts:
                file.write(part)
            file.flush()
        except OSError as error:
            raise UsageError(tell("{place}: cannot be written: {reason}: {advice}", place=place,
                                  reason=error.strerror or error, advice=advice)) from error
        if file.tell() != size:
            raise ValueError(f"holds {file.tell()} bytes of pixels, and {size} are needed")
        if not size:
            return np.empty(tuple(shape), dtype)
        return np.memmap(file, dtype, "r", 0, tuple(shape), "F" if order == "F" else "C")


def in_order(work: Callable[[Item], Made], items: Sequence[Item], title: str, quiet: bool) -> Iterator[Made]:
    """`work` of every item, done by threads, in the items' order; only a few results wait at a time.

    Args:
        work: may raise, which ends everything.
        items: what there is to do.
        title: what the progress bar says.
        quiet: no progress bar.
    """
    threads = default_threads()
    pending: deque[Future[Made]] = deque()
    # A file gets a line now and then, a terminal a moving bar.
    pace = 0.1 if sys.stderr.isatty() else 10.0
    bar = tqdm(total=len(items), desc=title, unit=tell("image"), disable=quiet, mininterval=pace, leave=False)
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > _AHEAD * threads:
                yield pending.popleft().result()
                bar.update()
        while pending:
            yield pending.popleft().result()
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
