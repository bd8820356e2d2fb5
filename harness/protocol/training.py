"""Messages for a trainer: epochs and losses; states, outputs and gradients through safetensors files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.protocol.life import Command, Done, Message, Reply
from impls.registry import Device


class EpochTime(Message):
    """One epoch: synchronised ends, host-side stamps of the enqueueing, and waits for batches."""

    start_ns: int
    end_ns: int
    gap_ns: int | None
    step_start_ns: list[int]
    loader_wait_ns: list[int]


class EpochTimes(Reply):
    """All epochs of one request."""

    kind: Literal["epoch-times"] = "epoch-times"
    epochs: list[EpochTime]


class SwapTimes(Reply):
    """Durations of steps of the trainer that was built, and of the other arm's with what it tells of its operators."""

    kind: Literal["swap-times"] = "swap-times"
    plain_ns: list[int]
    swapped_ns: list[int]
    operators: dict[str, str]


class Swap(Command[SwapTimes]):
    """Build a trainer of an arm of the same framework beside the one that was built, and step both in turn.

    `images` are the first of the file; `rounds` windows of `steps` each, after `warm` steps of the new one. Another
    `experiment` than that of the trainer that was built leaves something out.
    """

    op: Literal["swap"] = "swap"
    arm: str
    experiment: dict[str, Any] | None = None
    device: Device
    threads: int
    data_path: str
    images: int | None = None
    warm: int
    rounds: int
    steps: int


class Kernels(Message):
    """All launches of one kernel, or of one class of them, in one phase of the profiled steps."""

    name: str
    phase: str
    operator_class: str | None
    count: int
    ns: float


class ProfileSums(Reply):
    """What a profiler told; without a tool where the arm has none.

    `longest` are the kernels that took most; `by_class` sums up all.
    """

    kind: Literal["profile-sums"] = "profile-sums"
    tool: str | None
    note: str
    by_class: list[Kernels]
    longest: list[Kernels]


class Profile(Command[ProfileSums]):
    """Take steps under the framework's profiler, and write what ran when as a gzipped Chrome trace."""

    op: Literal["profile"] = "profile"
    arm: str
    steps: int
    output: str


class Epochs(Command[EpochTimes]):
    """Run whole epochs."""

    op: Literal["epochs"] = "epochs"
    epochs: int
    steps: int = Field(description="optimisation steps in an epoch")


class LossValues(Reply):
    """Losses, oldest first."""

    kind: Literal["loss-values"] = "loss-values"
    losses: list[float]
    loss_scale: float | None = Field(None, description="what the loss is multiplied by now; None where it is not")
    skipped: int | None = Field(None, description="steps left out since the trainer began, for their overflow")


class ReadLosses(Command[LossValues]):
    """Losses since the last reading."""

    op: Literal["losses"] = "losses"


class SaveState(Command[Done]):
    """Write the trainer's state."""

    op: Literal["save-state"] = "save-state"
    path: str


class LoadState(Command[Done]):
    """Go on from a written state."""

    op: Literal["load-state"] = "load-state"
    path: str


class Predict(Command[Done]):
    """The network's output for arrays `x` and `t` of one file, written to another as `eps`.

    A network with inputs of its own (`impls.backend.Probing`) writes its outputs for them, whatever the file holds.
    """

    op: Literal["predict"] = "predict"
    inputs: str
    output: str


class Gradients(Command[LossValues]):
    """Every gradient of the next batch, written by name; answered with the one loss."""

    op: Literal["gradients"] = "gradients"
    output: str
