"""What exported tables are made of: columns that several have, and how the rows of one come from a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from harness.record.events import Event
from harness.record.run import RecordedRun

RunId = Annotated[str, "name of the run's folder"]  # English
Slot = Annotated[str, "the arm's letter in the run"]  # English
OptionalSlot = Annotated[str | None, "the arm's letter in the run; null for the whole run"]  # English
Arm = Annotated[str | None, "the arm as in `--arms`; null where the journal does not name it"]  # English
Block = Annotated[int, "number of the block: fresh processes of every arm"]  # English
Pair = Annotated[int, "number of the pair of windows in its block (and cell, where there are cells)"]  # English
Position = Annotated[int, "0 for the arm that ran first in the pair"]  # English
Kind = Annotated[str, "stepwise, free, sample or sweep; see `window` in the results schema"]  # English
Cell = Annotated[str | None, "sampling: method and network calls, such as ddim-50; else null"]  # English
Images = Annotated[int | None, "images in a sampled batch; null where the journal gives none"]  # English
Dirty = Annotated[bool | None, "whether the machine was disturbed during the block; null where the block has no end: "
                               "it was cut short, and reports and verdicts leave it out"]  # English


@dataclass(frozen=True)
class Exported:
    """A table of one suite.

    Attributes:
        kind: what a row is: a named tuple whose docstring and annotations describe it.
        told: of a run, for each row the line that it tells of, and what else stands in its columns.
    """

    kind: type[Any]
    told: Callable[[RecordedRun], Iterable[tuple[Event, Mapping[str, Any]]]]
