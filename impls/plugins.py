"""What other packages add by entry points; one that cannot be loaded is named with its package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from impls.errors import UsageError


def offered(group: str) -> Iterator[tuple[Any, str]]:
    """What the entry points of a group name, each with where it comes from, for an error line.

    Raises:
        UsageError: one cannot be loaded.
    """
    for point in entry_points(group=group):
        where = f"entry point {point.name!r} ({point.value}) of {_package(point)}"
        try:
            found = point.load()
        except Exception as error:
            # Somebody else's code, which may fail in any way.
            raise UsageError(f"{where}: cannot be loaded: {type(error).__name__}: {error}: mend or remove that "
                             "package") from error
        yield found, where


def _package(point: EntryPoint) -> str:
    made_by = getattr(point, "dist", None)
    return "a package without a name" if made_by is None else f"{made_by.name} {made_by.version}"
