"""A recorded trace on disk: one npz a group, so that no trace is ever in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast
from zipfile import BadZipFile

import numpy as np

from impls.errors import UsageError
from impls.recipe.trace import Arrays, Call
from impls.store.files import written
from messages import tell

CALLS = "calls.json"
# Bytes of a file that is read at once: finding each array's place in it again takes longer.
AT_ONCE = 64 << 20


class TraceFolder:
    """A trace that is written and read group by group.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers: dict[tuple[str, int], int] = {}

    def __call__(self, group: str, arrays: Arrays) -> None:
        """Write a group.

        Raises:
            UsageError: the disk does not take it.
        """
        place = self._place(group)
        with written(place):
            self.path.mkdir(parents=True, exist_ok=True)
            np.savez(place, **arrays)

    def finish(self, calls: Sequence[Call]) -> None:
        """Write which calls there were.

        Raises:
            UsageError: the disk does not take it.
        """
        with written(self.path / CALLS):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / CALLS).write_text(json.dumps([asdict(call) for call in calls]), encoding="utf-8")

    def calls(self) -> list[Call]:
        """Every call, in order."""
        return [Call(**one) for one in json.loads((self.path / CALLS).read_text(encoding="utf-8"))]

    def read(self, group: str) -> Arrays:
        """The arrays of a group, of a large one each read when it is asked for; empty where there is no such group.

        Raises:
            UsageError: the file is damaged.
        """
        place = self._place(group)
        if not place.exists():
            return {}
        try:
            found = np.load(place, allow_pickle=False)
            if place.stat().st_size > AT_ONCE:
                # Closes itself when nobody reads it any more.
                return cast(Arrays, found)
            with found:
                return dict(found)
        except (OSError, ValueError, BadZipFile) as error:
            raise UsageError(tell("{path}: cannot be read: {reason}: trace again", path=place, reason=error)) from error

    def of(self, name: str, nth: int) -> Arrays | None:
        """See `impls.recipe.trace.Feed`."""
        if not self._numbers:
            self._numbers = {(call.name, call.nth): call.number for call in self.calls()}
        number = self._numbers.get((name, nth))
        return None if number is None else {**self.read(f"run {number}"), **self.read(f"back {number}")}  # English

    def gradients(self) -> Arrays:
        """See `impls.recipe.trace.Feed`."""
        return self.read("gradients")

    def _place(self, group: str) -> Path:
        return self.path / f"{group.replace(' ', '-')}.npz"
