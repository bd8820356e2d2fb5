"""What packages that are installed beside this one add: suites, kinds of journal lines, chapters of the report."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

# An entry point names a module with any of SUITES, EVENTS and CHAPTERS, each a tuple.
GROUP = "ddpm_bench.suites"


def offered(name: str) -> Iterator[tuple[Any, str]]:
    """What the modules list under `name`, each with where it comes from, for an error line."""
    for point in entry_points(group=GROUP):
        for one in getattr(point.load(), name, ()):
            yield one, f"entry point {point.name!r} ({point.value})"
