"""What other packages add by entry points; one that cannot be loaded is named with its package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from impls.errors import UsageError
from messages import tell


def offered(group: str) -> Iterator[tuple[Any, str]]:
    """What the entry points of a group name, each with where it comes from, for an error line.

    Raises:
        UsageError: one cannot be loaded.
    """
    for point in entry_points(group=group):
        where = tell("entry point {name} ({value}) of {package}", name=repr(point.name), value=point.value,
                     package=_package(point))
        try:
            found = point.load()
        except Exception as error:
            # Somebody else's code, which may fail in any way.
            raise UsageError(tell("{where}: cannot be loaded: {kind}: {error}: mend or remove that package",
                                  where=where, kind=type(error).__name__, error=error)) from error
        yield found, where


def _package(point: EntryPoint) -> str:
    made_by = getattr(point, "dist", None)
    return tell("a package without a name") if made_by is None else f"{made_by.name} {made_by.version}"
