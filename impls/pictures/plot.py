"""Matplotlib with a backend and a style of ours, whatever a notebook, a site or a user has set for their figures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# What says how everybody else's figures are drawn, and fails the import where it names what is not installed.
FOREIGN = ("MPLBACKEND", "MATPLOTLIBRC")


@contextmanager
def style(rc: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's own defaults and the Agg backend, with `rc` laid over them, for as long as the block lasts.

    Args:
        rc: settings of this figure's style.
    """
    mpl = imported()
    with mpl.rc_context({**mpl.rcParamsDefault, **(rc or {}), "backend": "agg"}):
        yield


def imported(manual: bool = True) -> Any:
    """Matplotlib, imported past its configuration; without a writable home it keeps its font list nowhere.

    Args:
        manual: whether `help` shall list the properties of what it draws with; writing these lists is a quarter of the
            import, and in a process that runs one command of ours nobody reads them.
    """
    before = {name: os.environ[name] for name in FOREIGN if name in os.environ}
    try:
        os.environ.pop("MPLBACKEND", None)
        # A file named here is the only one that is read, and this one is empty.
        os.environ["MATPLOTLIBRC"] = os.devnull
        # That its cache is a temporary folder is nothing that a reader of ours could mend or need.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        import matplotlib as mpl

        if not manual:
            _without_manual()
    finally:
        os.environ.pop("MATPLOTLIBRC")
        os.environ.update(before)
    return mpl


def _without_manual() -> None:
    from matplotlib.artist import Artist

    name = "_update_set_signature_and_docstring"
    writer = vars(Artist).get(name)
    # Where a release calls it otherwise, it writes its manual.
    if writer is not None:
        setattr(Artist, name, classmethod(lambda kind: None))
        try:
            import matplotlib.figure  # noqa: F401 - everything that is drawn with comes along
        finally:
            setattr(Artist, name, writer)
