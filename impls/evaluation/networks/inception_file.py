"""The published weights of the FID's Inception network: where they may lie, and their download. Needs no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from impls.data.array_cache import default_folder, file_digest
from impls.data.download import STALL_S, arriving, fetch
from impls.errors import DataError, UsageError
from messages import tell

NAME = "weights-inception-2015-12-05-6726825d.pth"
BYTES = 95_628_359
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{NAME}"


def own_folder() -> Path:
    """Where the download goes."""
    return default_folder() / "inception"


def hub_folder() -> Path:
    """Where torch.hub, and with it torch-fidelity itself, keeps downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def find(asked: Path | None = None) -> Path | None:
    """The file that was asked for, else the first of the usual places that has one; None when there is none.

    Raises:
        UsageError: the file that was asked for does not exist.
    """
    if asked is not None:
        if not asked.is_file():
            raise UsageError(tell("--inception_weights {asked}: no such file", asked=asked))
        return asked
    return next((folder / NAME for folder in (own_folder(), hub_folder()) if (folder / NAME).is_file()), None)


def download(say: Callable[[str], None]) -> Path:
    """Fetch the published file into our cache; it gets its name only when its hash is right.

    Raises:
        DataError: the server cannot be reached, the transfer stalls, the content is not the published one, or the
            folder cannot be written.
    """
    folder = own_folder()
    say(tell("downloading Inception's weights ({size} MB) from {url} into {folder}; gives up after {seconds} s "
             "without any progress", size=f"{BYTES / 1e6:.0f}", url=URL, folder=folder, seconds=f"{STALL_S:.0f}"))
    with arriving(folder / NAME, tell("choose another folder with XDG_CACHE_HOME")) as partial:
        try:
            fetch(URL, partial)
            found = file_digest(partial)
            if found != SHA256:
                raise DataError(tell("what {url} sent has SHA-256 {found}, expected {sha256}", url=URL, found=found,
                                     sha256=SHA256))
            os.replace(partial, folder / NAME)
        except (DataError, OSError) as error:
            raise DataError(tell("Inception's weights are neither in {folder} nor in {other} and could not be "
                                 "downloaded ({error}): put {name} from {url} into {folder}, name it with "
                                 "--inception_weights, or choose --features efficientnet-lite0", folder=folder,
                                 other=hub_folder(), error=error, name=NAME, url=URL)) from error
    return folder / NAME


def read_checked(path: Path, sha256: str | None) -> tuple[bytes, str]:
    """The file's content, read once, and its SHA-256, which is the published one or else the one that was named.

    Raises:
        UsageError: it cannot be read, or has another hash.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(tell("{path}: cannot be read: {reason}", path=path, reason=error.strerror)) from error
    found, wanted = hashlib.sha256(content).hexdigest(), (sha256 or SHA256).lower()
    if found != wanted:
        raise UsageError(
            tell("{path}: SHA-256 is {found}, --inception_sha256 names {wanted}: remove it or name another file",
                 path=path, found=found, wanted=wanted) if sha256 else
            tell("{path}: SHA-256 is {found}, the published file has {wanted}: remove it or name another file; weights "
                 "of your own need --inception_sha256 {found}", path=path, found=found, wanted=wanted))
    return content, found
