"""The exported table of figures about drawn images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from harness.record.events import Event, Quality
from harness.record.run import RecordedRun
from reports.export.columns import Arm, Cell, Exported, RunId, Slot


class QualityRow(NamedTuple):
    """Every figure about a set of drawn images."""

    run_id: RunId
    arm_slot: Slot
    arm: Arm
    cell: Cell
    train_steps: Annotated[int | None, "training steps of the weights; null for given weights"]
    extractor: Annotated[str, "network that looked at the images"]
    label: Annotated[str, "what the distance over that network is called"]
    images: Annotated[int, "images in the set"]
    metric: Annotated[str, "fd, fd-extrapolated, kid, is, precision or recall"]
    value: Annotated[float | None, "the figure; null with a reason"]
    ci_low: Annotated[float | None, "lower end of its 95 % interval"]
    ci_high: Annotated[float | None, "upper end of its 95 % interval"]
    reason: Annotated[str | None, "why there is no value"]


def told(run: RecordedRun) -> Iterator[tuple[Event, Mapping[str, Any]]]:
    """Figure by figure."""
    for quality in run.of(Quality):
        for figure in quality.figures:
            yield quality, dict(figure)


TABLES = {"quality": Exported(QualityRow, told)}
