"""Which sections a run about image quality alone leaves out: those that tell of what it did not do."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record.events import (
    Epoch,
    Event,
    Losses,
    Memory,
    Overhead,
    ParityResult,
    SyncProof,
    WarmUp,
    Window,
    WorkerStarted,
)
from harness.record.run import RecordedRun
from reports.page.blocks import Section

NEEDS: dict[str, tuple[type[Event], ...]] = {
    "key-figures": (WarmUp, Window),
    "steps": (WarmUp, Window),
    "throughput": (Window,),
    "epochs": (Epoch,),
    "why": (WarmUp, Window),
    "memory": (Memory,),
    "cold-start": (WorkerStarted,),
    "losses": (Losses,),
    "parity": (ParityResult,),
    "trust": (Overhead, SyncProof),
    "arms": (WorkerStarted,),
    "reference": (Window,),
}


def told(sections: Sequence[Section], run: RecordedRun) -> list[Section]:
    """The sections that the run recorded anything for."""
    return [one for one in sections if one.anchor not in NEEDS or any(run.of(kind) for kind in NEEDS[one.anchor])]
