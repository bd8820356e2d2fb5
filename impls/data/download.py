"""Runs a download in a child process that is stopped when its folder no longer grows, so that it never hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from impls.data import cifar
from impls.errors import DataError
from impls.store.files import staging

STALL_S = 45.0
_POLL_S = 0.2
_PACKAGES = Path(__file__).parents[2]


def cifar10(folder: Path, echo: Callable[[str], None]) -> Path:
    """Download CIFAR-10's archive into `folder`; what is there stays untouched until the checked archive is complete.

    Raises:
        DataError: the server cannot be reached, the transfer stalls, or the folder cannot be written.
    """
    url = cifar.RELEASE.url
    echo(f"downloading CIFAR-10 (170 MB) from {url} into {folder}; gives up after {STALL_S:.0f} s without any progress")
    archive = folder / cifar.RELEASE.archive
    with ExitStack() as opened:
        try:
            partial = opened.enter_context(staging(archive))
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror}: choose another folder") from error
        fetch([sys.executable, "-m", "impls.data.cifar_download", str(partial)], partial, STALL_S)
        cifar.check_archive(partial / cifar.RELEASE.archive, cifar.RELEASE)
        os.replace(partial / cifar.RELEASE.archive, archive)
    return archive


def fetch(command: Sequence[str], folder: Path, stall_s: float) -> None:
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
        lines = output.read().split("\n")
    if process.returncode:
        reasons = [line for line in lines if line.strip()]
        raise DataError(reasons[-1].strip() if reasons else f"the download ended with status {process.returncode}")


def _size(folder: Path) -> int:
    # A file may be renamed between being listed and being looked at.
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return -1
