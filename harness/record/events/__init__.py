"""The journal's vocabulary: one frozen model per kind of line. This is the results schema, version 1.

Times ending in `_ns` are CLOCK_MONOTONIC nanoseconds (comparable between processes of one boot) or durations; every
quantity that could not be read is None and has a `reason` beside it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from harness.record.events.base import (
    SCHEMA_VERSION,
    SELF_CHECK,
    ArmEntry,
    ArmSlot,
    Event,
    PartName,
    Severity,
    SteadyClass,
    Word,
)
from harness.record.events.quality import (
    Figure,
    ImagesSampled,
    Metric,
    NearestImages,
    Quality,
    QualityDifference,
    ReferenceFeatures,
    Rung,
    Trained,
)
from harness.record.events.run import (
    BlockState,
    Case,
    DatasetRecorded,
    EnvironmentRecorded,
    Finding,
    Resumed,
    RunEnded,
    RunStarted,
    Verdict,
)
from harness.record.events.sampling import SampleAgreement, SamplesDrawn, Trap
from harness.record.events.telemetry import Energy, MonitorState, Sample
from harness.record.events.timing import (
    Epoch,
    Losses,
    Memory,
    Overhead,
    ParityResult,
    Peak,
    StepCost,
    SyncProof,
    WarmUp,
    Window,
    WorkerStarted,
)

AnyEvent = Annotated[
    RunStarted
    | EnvironmentRecorded
    | DatasetRecorded
    | WorkerStarted
    | WarmUp
    | Window
    | Epoch
    | Losses
    | Memory
    | Peak
    | StepCost
    | Overhead
    | SyncProof
    | Trap
    | SamplesDrawn
    | SampleAgreement
    | Trained
    | ImagesSampled
    | ReferenceFeatures
    | Quality
    | QualityDifference
    | NearestImages
    | Sample
    | MonitorState
    | Energy
    | ParityResult
    | Finding
    | Case
    | BlockState
    | Verdict
    | Resumed
    | RunEnded,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)

__all__ = [
    "AnyEvent",
    "ArmEntry",
    "ArmSlot",
    "BlockState",
    "Case",
    "DatasetRecorded",
    "EVENT",
    "Energy",
    "EnvironmentRecorded",
    "Epoch",
    "Event",
    "Figure",
    "Finding",
    "ImagesSampled",
    "Losses",
    "Memory",
    "Metric",
    "MonitorState",
    "NearestImages",
    "Overhead",
    "ParityResult",
    "PartName",
    "Peak",
    "Quality",
    "QualityDifference",
    "ReferenceFeatures",
    "Resumed",
    "RunEnded",
    "RunStarted",
    "Rung",
    "SCHEMA_VERSION",
    "SELF_CHECK",
    "Sample",
    "SampleAgreement",
    "SamplesDrawn",
    "Severity",
    "SteadyClass",
    "StepCost",
    "SyncProof",
    "Trained",
    "Trap",
    "Verdict",
    "WarmUp",
    "Window",
    "Word",
    "WorkerStarted",
]
