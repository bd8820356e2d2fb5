"""Which parts of a run there is something to tell of."""

from __future__ import annotations

from harness.record.events import PartName
from harness.record.run import RecordedRun


def parts_of(run: RecordedRun) -> tuple[PartName, ...]:
    """The part of the run; of several, those that recorded anything, or the first of them."""
    if len(run.parts) < 2:
        return run.parts
    lines = [set(map(id, run.part(part).events)) for part in run.parts]
    shared = set.intersection(*lines)
    return tuple(part for part, own in zip(run.parts, lines, strict=True) if own - shared) or run.parts[:1]
