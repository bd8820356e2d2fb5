"""What work will take, for people, before it begins: room on a disk, and time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from messages import marked, tell

# (at least so many seconds, a unit's seconds, its name)
_UNITS = ((172_800.0, 86_400.0, marked("days")), (5_400.0, 3_600.0, "h"), (90.0, 60.0, "min"), (0.0, 1.0, "s"))


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """A time for people, as an estimate deserves it: two digits."""
    unit, name = next((unit, name) for least, unit, name in _UNITS if seconds >= least)
    number = seconds / unit
    return f"{number:.1f} {tell(name)}" if number < 10 and unit > 1 else f"{number:.0f} {tell(name)}"


def free_bytes(folder: Path) -> tuple[int, Path]:
    """What is left on the disk of a folder, which need not exist yet, and the next one above it that does."""
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free, folder
