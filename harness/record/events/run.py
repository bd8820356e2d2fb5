"""Lines about the run itself: how it began, how it ended, what it found, what it decided."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.record.events.base import SCHEMA_VERSION, ArmEntry, ArmSlot, Event, PartName, Severity, Word
from impls.recipe.precision import Precision
from messages import marked

# What a session's time goes to, as `RunEnded.spent_s` names it; a gate is whatever stands before what is measured.
CORE, COLD, BLOCKS = "core", "cold starts", "blocks"  # English
GATE = marked("parity")


class RunStarted(Event):
    """First line: what was asked for. `declared` holds what was fixed before any measurement."""

    type: Literal["run"] = "run"
    schema_version: int = SCHEMA_VERSION
    run_id: str
    suite: str
    started_utc: str
    command: list[str]
    arms: list[ArmEntry]
    bench: dict[str, Any] = Field(description="the resolved BenchConfig")
    experiment: dict[str, Any] = Field(description="the resolved ExperimentConfig")
    config_sha256: str
    declared: dict[str, Any] = Field(description="metric, margin, alpha, looks, pairs, blocks, seed, time limit")


class EnvironmentRecorded(Event):
    """The machine: flat name -> value or None; `reasons` says why a value is None; `starred` must match to compare.

    A run that went on in a changed environment has another such line; the blocks after it were measured there.
    """

    type: Literal["environment"] = "environment"
    facts: dict[str, str | int | float | bool | None]
    reasons: dict[str, str] = {}
    starred: list[str] = []


class DatasetRecorded(Event):
    """The images that were used and why these."""

    type: Literal["dataset"] = "dataset"
    name: str
    images: int
    shape: list[int] = Field(description="height, width, channels")
    sha256: str
    why: str


class PairRecorded(Event):
    """The user's own models that were measured in place of the U-Net; `files` are those that the first one imports."""

    type: Literal["pair"] = "pair"
    name: str
    sha256: str = Field(description="of all files together")
    files: dict[str, str] = Field(description="SHA-256 by path in the folder of the first, which is the pair's file")


class Finding(Event):
    """Something a reader must know: rendered as it stands, never computed by the report."""

    type: Literal["finding"] = "finding"
    severity: Severity
    code: str
    message: str
    advice: str | None = None
    arm: ArmSlot | None = None
    block: int | None = None


class Case(Event):
    """Status of one unit of work: (arm, block) of a suite, or a whole-run part such as parity."""

    type: Literal["case"] = "case"
    subject: ClassVar = ("case_id",)
    case_id: str
    arm: ArmSlot | None
    block: int | None
    status: Literal["measured", "failed", "skipped"]
    reason: str | None = None
    log: str | None = Field(None, description="log file relative to the run folder")
    log_tail: list[str] = []
    part: PartName | None = Field(None, description="what was done; None for what all parts of a run share")


class BlockState(Event):
    """End of a block: whether its numbers are clean, and whether it stands for an earlier dirty one."""

    type: Literal["block"] = "block"
    subject: ClassVar = ("block",)
    block: int
    order_seed: int
    dirty: bool
    reasons: list[str] = []
    repeats: int | None = Field(None, description="the dirty block that this one repeats")
    part: PartName | None = Field(None, description="what was timed")


class Verdict(Event):
    """`ratio` is time A / time B: above 1 means B is faster."""

    type: Literal["verdict"] = "verdict"
    subject: ClassVar = ("metric", "arm_a", "arm_b", "cell")
    metric: str
    arm_a: ArmSlot
    arm_b: ArmSlot
    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    blocks: int
    word: Word
    reason: str | None = None
    next_action: str | None = None
    mean_ratio: float | None = Field(None, description="ratio of mean times: what a job pays, spikes included")
    sign_flip_p: float | None = None
    block_log_ratios: list[float] = []
    further_blocks: int | None = None
    alpha: float | None = Field(None, description="1 - level of the interval, after Holm's step-down where it applies")
    look: int | None = Field(None, description="the planned look that gave it, or that the run ended before, from 1; "
                                                "None where only one was planned")
    looks: int | None = Field(None, description="how many were planned")
    look_reached: bool = Field(True, description="whether as many blocks were measured as that look was planned at; "
                                                 "false where the run ended before")
    look_alpha: float | None = Field(None, description="what all comparisons share at this look")
    cell: str | None = Field(None, description="sampling: method and network calls, e.g. ddim-50; None for their mean")
    part: PartName | None = Field(None, description="what was timed")
    kind: str | None = Field(None, description="kind of the windows that it rests on")
    precision: Precision | None = Field(None, description="the number format that both arms proved; None where they "
                                                          "differ, and for float32 on the CPU")


class Resumed(Event):
    """The run goes on after an interruption: earlier lines of `discarded_blocks` are measured again and don't count."""

    type: Literal["resume"] = "resume"
    resumed_utc: str
    discarded_blocks: list[int]


class RunEnded(Event):
    """Last line of a run that was not cut off."""

    type: Literal["end"] = "end"
    status: Literal["complete", "failed", "interrupted"]
    exit_code: int
    wall_s: float
    spent_s: dict[str, float] = Field({}, description="seconds of this session by what they went to: core (compiled "
                                                      "before the first import), parity, cold starts, blocks")
