"""What packages that are installed beside this one add: suites, kinds of journal lines, chapters of the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from impls import plugins

# An entry point names a module with any of SUITES, EVENTS and CHAPTERS, each a tuple.
GROUP = "ddpm_bench.suites"


def offered(name: str) -> Iterator[tuple[Any, str]]:
    """What the modules list under `name`, each with where it comes from, for an error line.

    Raises:
        UsageError: a package that offers something cannot be loaded.
    """
    for module, where in plugins.offered(GROUP):
        for one in getattr(module, name, ()):
            yield one, where
