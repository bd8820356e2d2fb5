"""Which parts a run has."""

from __future__ import annotations

from harness.record.events import PartName
from harness.record.run import RecordedRun, own_part


def parts_of(run: RecordedRun) -> tuple[PartName, ...]:
    """The parts that the run declared; where that line is lost, those that its other lines name."""
    return run.parts or tuple(dict.fromkeys(part for event in run.events if (part := own_part(event))))
