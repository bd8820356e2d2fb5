"""The journal's vocabulary: one frozen model per kind of line. This is the results schema, version 1.

Times ending in `_ns` are CLOCK_MONOTONIC nanoseconds (comparable between processes of one boot) or durations; every
quantity that could not be read is None and has a `reason` beside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA_VERSION = 1
# Ends the metric of a verdict on an arm against itself.
SELF_CHECK = " (self-check)"

ArmSlot = Literal["A", "B", "C", "D", "E", "F", "G", "H"]
Severity = Literal["info", "warning", "error"]
SteadyClass = Literal["flat", "warmup", "slowdown", "no-steady-state"]
Word = Literal["A-faster", "B-faster", "equivalent", "inconclusive", "not-comparable"]


class Event(BaseModel):
    """Base of all journal lines: `t_ns` is the monotonic stamp of the writing."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    t_ns: int = 0


class ArmEntry(BaseModel):
    """One arm of the run: `slot` is its letter in the run, `name` the text of `--arms`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slot: ArmSlot
    name: str


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
    """The machine: flat name -> value or None; `reasons` says why a value is None; `starred` must match to compare."""

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


class WorkerStarted(Event):
    """A worker process is built: what it proved to run and what starting cost.

    `cache` says whether this start compiled anything: "cold" a fresh cache folder, "warm" nothing compiled,
    "partial" something compiled into an existing cache, None when the backend cannot tell.
    """

    type: Literal["worker"] = "worker"
    arm: ArmSlot
    block: int
    role: Literal["measure", "parity", "epochs", "cold-start"] = "measure"
    pid: int
    spawn_ns: int = Field(description="process launch until it connected")
    import_ns: int = Field(description="framework import and device initialisation")
    build_ns: int = Field(description="network, optimiser and data built")
    first_step_ns: int = Field(description="first optimisation step, synchronised, compilation included")
    first_stamp_ns: int = Field(description="monotonic start of the first step")
    compile_ns: int | None = Field(None, description="first step less a typical step; None before that is known")
    cache: Literal["cold", "warm", "partial"] | None = None
    parameter_count: int
    info: dict[str, Any] = Field(description="BackendInfo as JSON")


class WarmUp(Event):
    """All steps before measuring, every one kept, with the detector's verdict on them."""

    type: Literal["warmup"] = "warmup"
    arm: ArmSlot
    block: int
    start_ns: list[int]
    step_ns: list[int]
    classification: SteadyClass
    steady_from: int | None = Field(description="index of the first steady step; None without a steady state")
    capped: bool = Field(description="stopped by the cap, not by the detector")


class Window(Event):
    """One measured window. `kind` stepwise: synchronised after every step; free: synchronised at its ends only.

    `sample`: one whole batch of images, from noise to uint8 on the host; a step is a network call. `sweep`: the same at
    other batch sizes, measured once. `pair` numbers the pairs of a block (of a cell, where there are cells) from 0;
    `position` is 0 for the arm that ran first in the pair.
    """

    type: Literal["window"] = "window"
    kind: Literal["stepwise", "free", "sample", "sweep"]
    arm: ArmSlot
    block: int
    pair: int
    position: int
    start_ns: int
    end_ns: int
    steps: int
    step_ns: list[int] = Field(description="stepwise: one duration per step; else empty")
    cell: str | None = Field(None, description="sample, sweep: method and network calls, e.g. ddim-50")
    images: int | None = Field(None, description="sample, sweep: images in the batch")
    others_cpu_ns: dict[ArmSlot, int] = Field({}, description="CPU time the waiting arms used during this window")


class Epoch(Event):
    """One whole pass over `images` images; `gap_ns` is from the last step before it to its first step.

    `start_ns`..`end_ns` is the epoch, synchronised at both ends;
    `step_start_ns` are host-side stamps of the enqueueing.
    """

    type: Literal["epoch"] = "epoch"
    arm: ArmSlot
    block: int
    epoch: int
    loader: Literal["resident", "native"]
    num_workers: int
    images: int
    start_ns: int
    end_ns: int
    gap_ns: int | None
    step_start_ns: list[int]
    loader_wait_ns: list[int]


class Losses(Event):
    """Training losses from `first_step` on.

    `matched`: the same weights, data and noise in every arm; `control`: the same with perturbed weights.
    """

    type: Literal["losses"] = "losses"
    arm: ArmSlot
    block: int
    randomness: Literal["native", "matched", "control"]
    first_step: int
    losses: list[float]


class Memory(Event):
    """Memory of one worker at the end of its block."""

    type: Literal["memory"] = "memory"
    arm: ArmSlot
    block: int
    rss_peak_bytes: int | None
    device_allocated_bytes: int | None
    device_peak_bytes: int | None
    device_reserved_bytes: int | None
    reason: str | None = None


class Peak(Event):
    """The machine's best float32 matrix-product rate in this run, as measured by one arm."""

    type: Literal["peak"] = "peak"
    arm: ArmSlot
    matmul_n: int
    flops: float = Field(description="floating-point operations per second")


class StepCost(Event):
    """Analytic cost of one optimisation step at the run's batch size: the same count for every arm."""

    type: Literal["step-cost"] = "step-cost"
    forward_flop_per_image: int
    step_flop: int


class Overhead(Event):
    """Harness windows against a bare loop of the same steps in the same process, paired."""

    type: Literal["overhead"] = "overhead"
    arm: ArmSlot
    what: Literal["harness", "monitors"]
    bare_ns: list[int]
    harness_ns: list[int]


class SyncProof(Event):
    """Evidence that `synchronize` waits: pending work falls to its base, and k times the steps take k times as long."""

    type: Literal["sync-proof"] = "sync-proof"
    arm: ArmSlot
    pending_before: int | None
    pending_after: int | None
    pending_base: int | None
    steps_short: int
    steps_long: int
    short_ns: int
    long_ns: int


class Trap(Event):
    """The same chain timed wrongly and rightly, after one start: when it was asked for, and when it was finished."""

    type: Literal["trap"] = "trap"
    arm: ArmSlot
    block: int
    cell: str
    images: int
    unsynchronised_ns: int
    synchronised_ns: int


class SamplesDrawn(Event):
    """Images of one arm from the run's seed: a grid and a GIF of the denoising, as files of the run folder.

    `why_no_gif` says why `gif` is None.
    """

    type: Literal["samples"] = "samples"
    arm: ArmSlot
    cell: str
    seed: int
    images: int
    weights: str = Field(description="where the weights come from")
    grid: str = Field(description="PNG, relative to the run folder")
    gif: str | None = Field(None, description="GIF, relative to the run folder")
    why_no_gif: str | None = None


class SampleAgreement(Event):
    """Images of arm `arm_b` against those of `arm_a`: the same weights, seed and settings.

    `within_one` is the share of all uint8 values that differ by at most one level.
    """

    type: Literal["sample-agreement"] = "sample-agreement"
    arm_a: ArmSlot
    arm_b: ArmSlot
    cell: str
    images: int
    within_one: float
    largest: int = Field(description="largest difference in levels")
    tolerance: float
    passed: bool
    reason: str | None = None


class Sample(Event):
    """One telemetry sample of `source` ("host", "process:A", "gpu:0"); `values` has units in its names."""

    type: Literal["sample"] = "sample"
    source: str
    values: dict[str, float | int | None]


class MonitorState(Event):
    """Whether a telemetry source works; `reason` when it does not or stopped."""

    type: Literal["monitor"] = "monitor"
    source: str
    available: bool
    reason: str | None = None
    static: dict[str, str | int | float | None] = {}


class Energy(Event):
    """Energy of one device over a window from its counter; None with the reason when unreadable."""

    type: Literal["energy"] = "energy"
    source: str
    arm: ArmSlot
    block: int
    start_ns: int
    end_ns: int
    energy_mj: int | None
    steps: int
    reason: str | None = None


class ParityResult(Event):
    """Arm `arm_b` against `arm_a` on the same weights and batches; a None figure was not measured.

    `loss_rel_diff` and `control_rel_diff` are per step; the control is arm A against itself, its weights perturbed by
    1e-7.
    """

    type: Literal["parity"] = "parity"
    arm_a: ArmSlot
    arm_b: ArmSlot
    preset: str
    batch_size: int
    parameters_equal: bool
    forward_max_abs: float | None
    gradient_worst_rel: float | None
    gradient_worst_name: str | None
    adam_max_abs: float | None
    loss_rel_diff: list[float]
    control_rel_diff: list[float]
    tolerances: dict[str, float]
    passed: bool
    reason: str | None = None


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
    case_id: str
    arm: ArmSlot | None
    block: int | None
    status: Literal["measured", "failed", "skipped"]
    reason: str | None = None
    log: str | None = Field(None, description="log file relative to the run folder")
    log_tail: list[str] = []


class BlockState(Event):
    """End of a block: whether its numbers are clean, and whether it stands for an earlier dirty one."""

    type: Literal["block"] = "block"
    block: int
    order_seed: int
    dirty: bool
    reasons: list[str] = []
    repeats: int | None = Field(None, description="the dirty block that this one repeats")


class Verdict(Event):
    """`ratio` is time A / time B: above 1 means B is faster."""

    type: Literal["verdict"] = "verdict"
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
    cell: str | None = Field(None, description="sampling: method and network calls, e.g. ddim-50; None for their mean")


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
