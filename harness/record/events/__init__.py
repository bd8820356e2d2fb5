"""The journal's vocabulary: one frozen model per kind of line. This is the results schema, version 1.

Times ending in `_ns` are CLOCK_MONOTONIC nanoseconds (comparable between processes of one boot) or durations; every
quantity that could not be read is None and has a `reason` beside it.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from harness.record.events import align, parity, quality, run, sampling, scaling, telemetry, timing, training, why
from harness.record.events.align import AlignedLayer as AlignedLayer
from harness.record.events.align import Alignment as Alignment
from harness.record.events.align import Culprit as Culprit
from harness.record.events.align import Difference as Difference
from harness.record.events.base import SCHEMA_VERSION as SCHEMA_VERSION
from harness.record.events.base import SELF_CHECK as SELF_CHECK
from harness.record.events.base import ArmEntry as ArmEntry
from harness.record.events.base import ArmSlot as ArmSlot
from harness.record.events.base import Event as Event
from harness.record.events.base import PartName as PartName
from harness.record.events.base import Severity as Severity
from harness.record.events.base import SteadyClass as SteadyClass
from harness.record.events.base import Word as Word
from harness.record.events.parity import ParityResult as ParityResult
from harness.record.events.quality import Figure as Figure
from harness.record.events.quality import ImagesSampled as ImagesSampled
from harness.record.events.quality import Metric as Metric
from harness.record.events.quality import NearestImages as NearestImages
from harness.record.events.quality import Quality as Quality
from harness.record.events.quality import QualityDifference as QualityDifference
from harness.record.events.quality import ReferenceFeatures as ReferenceFeatures
from harness.record.events.quality import Rung as Rung
from harness.record.events.quality import Trained as Trained
from harness.record.events.run import BLOCKS as BLOCKS
from harness.record.events.run import COLD as COLD
from harness.record.events.run import CORE as CORE
from harness.record.events.run import GATE as GATE
from harness.record.events.run import BlockState as BlockState
from harness.record.events.run import Case as Case
from harness.record.events.run import DatasetRecorded as DatasetRecorded
from harness.record.events.run import EnvironmentRecorded as EnvironmentRecorded
from harness.record.events.run import Finding as Finding
from harness.record.events.run import PairRecorded as PairRecorded
from harness.record.events.run import Resumed as Resumed
from harness.record.events.run import RunEnded as RunEnded
from harness.record.events.run import RunStarted as RunStarted
from harness.record.events.run import Verdict as Verdict
from harness.record.events.sampling import SampleAgreement as SampleAgreement
from harness.record.events.sampling import SamplesDrawn as SamplesDrawn
from harness.record.events.sampling import Trap as Trap
from harness.record.events.scaling import Estimate as Estimate
from harness.record.events.scaling import GroupStarted as GroupStarted
from harness.record.events.scaling import Mode as Mode
from harness.record.events.scaling import Point as Point
from harness.record.events.scaling import Predicted as Predicted
from harness.record.events.scaling import RanksSummed as RanksSummed
from harness.record.events.scaling import Scaled as Scaled
from harness.record.events.scaling import ScaledWindow as ScaledWindow
from harness.record.events.scaling import ScalingGate as ScalingGate
from harness.record.events.telemetry import Energy as Energy
from harness.record.events.telemetry import MonitorState as MonitorState
from harness.record.events.telemetry import Sample as Sample
from harness.record.events.timing import Memory as Memory
from harness.record.events.timing import Overhead as Overhead
from harness.record.events.timing import Peak as Peak
from harness.record.events.timing import StepCost as StepCost
from harness.record.events.timing import SyncProof as SyncProof
from harness.record.events.timing import WarmUp as WarmUp
from harness.record.events.timing import Window as Window
from harness.record.events.timing import WorkerStarted as WorkerStarted
from harness.record.events.training import Epoch as Epoch
from harness.record.events.training import Losses as Losses
from harness.record.events.why import Apart as Apart
from harness.record.events.why import Guess as Guess
from harness.record.events.why import IsolatedOperator as IsolatedOperator
from harness.record.events.why import Kernels as Kernels
from harness.record.events.why import LeftOut as LeftOut
from harness.record.events.why import Phases as Phases
from harness.record.events.why import Profiled as Profiled
from harness.record.events.why import Share as Share
from harness.record.events.why import StartUp as StartUp
from harness.record.events.why import Swapped as Swapped
from harness.record.events.why import Whole as Whole
from harness.record.plugins import offered
from impls.errors import UsageError
from messages import tell

SUBJECTS = (run, timing, training, sampling, quality, parity, why, align, scaling, telemetry)
# Every kind of line that these files define.
KINDS: tuple[type[Event], ...] = tuple(
    kind for subject in SUBJECTS for kind in vars(subject).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind.__module__ == subject.__name__)


@cache
def reader() -> TypeAdapter[Event]:
    """Understands a line of every kind: ours, and the `EVENTS` of installed packages.

    Raises:
        UsageError: what a package offers is no event with a `type` of its own.
    """
    kinds = {kind.model_fields["type"].default: kind for kind in KINDS}
    for kind, where in offered("EVENTS"):
        own = isinstance(kind, type) and issubclass(kind, Event) and kind.model_fields.get("type")
        if not own or own.default in kinds:
            raise UsageError(tell("{where}: each of its EVENTS must be an Event class with a type of its own",
                                  where=where))
        kinds[own.default] = kind
    union: Any = Annotated[reduce(or_, kinds.values()), Field(discriminator="type")]
    return TypeAdapter(union)
