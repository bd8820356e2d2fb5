"""Which parts of a run there is something to tell of."""

from __future__ import annotations

from harness.record.events import PartName
from harness.record.run import RecordedRun, own_part


def parts_of(run: RecordedRun) -> tuple[PartName, ...]:
    """The declared part; of several, those that recorded anything, or the first of them.

    Where the declaration is lost, the parts that other lines name.
    """
    declared = run.parts
    if len(declared) < 2:
        return declared or tuple(dict.fromkeys(part for event in run.events if (part := own_part(event))))
    lines = [set(map(id, run.part(part).events)) for part in declared]
    shared = set.intersection(*lines)
    return tuple(part for part, own in zip(declared, lines, strict=True) if own - shared) or declared[:1]
