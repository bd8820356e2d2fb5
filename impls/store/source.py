"""The program's own code as one hash, which a git commit tells only where nothing was changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

CODE = (".py", ".cc", ".h")


def source_sha256(root: Path, folders: Sequence[str]) -> str:
    """A hash of the names and the contents of all code in some folders of `root`.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(path for name in folders for path in (root / name).rglob("*") if path.suffix in CODE):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
