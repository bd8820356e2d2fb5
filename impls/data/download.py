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
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass, urlopen

from tqdm import tqdm

from impls.errors import DataError
from impls.store.files import staging
from messages import shown, tell

STALL_S = 45.0
# Of any single wait for the server; without it a lost connection hangs for ever.
SOCKET_TIMEOUT_S = 15
_POLL_S = 0.2
# A slower server than one block in `STALL_S` counts as stalled.
_BLOCK = 1 << 18
# Of a strange answer, in one line.
_MOST_SAID = 200
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
            raise DataError(tell("{folder}: cannot be written: {reason}: {advice}", folder=path.parent,
                                 reason=error.strerror, advice=advice)) from error
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
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output,
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        ) as process,
    ):
        try:
            size, since = -1, time.monotonic()
            while process.poll() is None:
                now, grown = time.monotonic(), _size(folder)
                if grown != size:
                    size, since = grown, now
                elif now - since > stall_s:
                    raise DataError(tell("nothing arrived for {seconds} s, or next to nothing",
                                         seconds=f"{stall_s:.0f}"))
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
        output.seek(0)
        said = output.read().strip()
    if process.returncode:
        raise DataError(shown(said.split("\n")[-1]) or tell("the download ended with status {status}",
                                                            status=process.returncode))


def main(url: str, path: str) -> int:
    """Fetch `url` into the file `path`; 0 when all of it is there."""
    try:
        source = urlopen(url, timeout=SOCKET_TIMEOUT_S)
    except Exception as error:  # A stranger's answer: whatever urllib stumbles over, the stranger is to blame.
        return _failed(_refusal(error), url)
    headers = getattr(source, "headers", None)
    if headers is not None and headers.get_content_type() == "text/html":
        source.close()
        return _failed(tell("a web page came in place of the file, from {url}: the login of a network or a proxy?",
                            url=source.url),
                       url)
    # What is still to come; None where the server does not tell.
    size = getattr(source, "length", None)
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=Path(path).name, mininterval=0.5)
    try:
        with bar, source, Path(path).open("wb") as file:
            while block := source.read(_BLOCK):
                bar.update(file.write(block))
    except (OSError, HTTPException, ValueError) as error:
        return _failed(tell("the download broke off: {error}", error=error), url)
    if size is not None and bar.n < size:
        return _failed(tell("the download broke off: {count} bytes are missing", count=size - bar.n), url)
    return 0


def _refusal(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return tell("the server answers {code}: {reason}", code=error.code, reason=error.reason)
    if isinstance(error, OSError):
        return tell("the server does not answer: {reason}", reason=getattr(error, "reason", error))
    return tell("no web server answers: {error}", error=error)


def _failed(reason: str, url: str) -> int:
    """Say why as the last line, whatever a stranger put into it; 1."""
    place = urlsplit(url)
    proxy = None if proxy_bypass(place.hostname or "") else getproxies().get(place.scheme)
    # Its address may hold a password.
    address = (proxy or "").rpartition("@")[2].rpartition("://")[2]
    through = tell(" (through the proxy {address})", address=address.rstrip("/")) if proxy else ""
    line = " ".join(reason.split())
    print("".join(char if char.isprintable() else "?" for char in line)[:_MOST_SAID] + through)
    return 1


def _size(folder: Path) -> int:
    # A file may be renamed between being listed and being looked at.
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return -1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
