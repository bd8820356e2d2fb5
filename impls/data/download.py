"""Downloads in a child process that is stopped when its file no longer grows, so that nobody waits for ever.

The child is `-m impls.data.download URL FILE`. Progress goes to stderr; when it fails, the reason is the last line of
its stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from tqdm import tqdm

from impls.errors import DataError
from impls.store.files import staging

STALL_S = 45.0
# Of any single wait for the server; without it a lost connection hangs for ever.
SOCKET_TIMEOUT_S = 15
_POLL_S = 0.2
_PACKAGES = Path(__file__).parents[2]


@contextmanager
def arriving(path: Path, advice: str) -> Iterator[Path]:
    """A name to download to, for as long as the block; what is whole and checked by then may be renamed to `path`.

    Raises:
        DataError: the folder cannot be written; `advice` says what to do.
    """
    with ExitStack() as opened:
        try:
            folder = opened.enter_context(staging(path))
        except OSError as error:
            raise DataError(f"{path.parent}: cannot be written: {error.strerror}: {advice}") from error
        yield folder / path.name


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path`, which is alone in its folder.

    Raises:
        DataError: the server cannot be reached, or the transfer stalls or breaks off.
    """
    watch([sys.executable, "-m", "impls.data.download", url, str(path)], path.parent, STALL_S)


def watch(command: Sequence[str], folder: Path, stall_s: float) -> None:
    """Run `command`, which writes into `folder` and explains a failure in its last line of stdout.

    Raises:
        DataError: it failed, or `folder` did not grow for `stall_s` seconds.
    """
    path = os.pathsep.join([str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, env={**os.environ, "PYTHONPATH": path}
        ) as process,
    ):
        try:
            size, since = -1, time.monotonic()
            while process.poll() is None:
                now, grown = time.monotonic(), _size(folder)
                if grown != size:
                    size, since = grown, now
                elif now - since > stall_s:
                    raise DataError(f"nothing arrived for {stall_s:.0f} s")
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
        output.seek(0)
        said = output.read().strip()
    if process.returncode:
        raise DataError(said.split("\n")[-1] or f"the download ended with status {process.returncode}")


def main(url: str, path: str) -> int:
    """Fetch `url` into the file `path`; 0 when all of it is there."""
    try:
        source = urlopen(url, timeout=SOCKET_TIMEOUT_S)
    except (OSError, HTTPException) as error:
        print(f"the server does not answer: {getattr(error, 'reason', error)}")
        return 1
    # What is still to come; None where the server does not tell.
    size = getattr(source, "length", None)
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=Path(path).name, mininterval=0.5)
    try:
        with bar, source, Path(path).open("wb") as file:
            while block := source.read(1 << 18):
                bar.update(file.write(block))
    except (OSError, HTTPException) as error:
        print(f"the download broke off: {error}")
        return 1
    if size is not None and bar.n < size:
        print(f"the download broke off: {size - bar.n} bytes are missing")
        return 1
    return 0


def _size(folder: Path) -> int:
    # A file may be renamed between being listed and being looked at.
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return -1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
