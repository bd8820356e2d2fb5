"""What the runner asks of a worker."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.protocol.base import Message


class Prewarm(Message):
    """Fill the arm's compile cache before its first import; answered by `Done`, with `Note`s before."""

    op: Literal["prewarm"] = "prewarm"
    arm: str
    device: Literal["cpu", "cuda"]


class Create(Message):
    """Import the framework and open the device; answered by `Created`."""

    op: Literal["create"] = "create"
    arm: str
    device: Literal["cpu", "cuda"]
    threads: int


class Build(Message):
    """Build a trainer over the first `images` images of the file; answered by `Built`. Closes an earlier trainer."""

    op: Literal["build"] = "build"
    experiment: dict[str, Any]
    data_path: str
    images: int | None = None


class BuildSampler(Message):
    """Build a sampler, with the weights of a file where one is given; answered by `Built`. Closes what was built."""

    op: Literal["build-sampler"] = "build-sampler"
    experiment: dict[str, Any]
    weights: str | None = None


class Batch(Message):
    """Sample one whole batch, from noise to uint8 on the host; answered by `Span` with the network calls.

    With `calls` only so many network calls are made, which compiles what the whole batch needs.
    """

    op: Literal["batch"] = "batch"
    method: Literal["ddpm", "ddim"]
    steps: int
    images: int
    seed: int
    calls: int | None = None


class Draw(Message):
    """Sample a batch and write `images` and `frames` (moments of the denoising) to a file; answered by `Done`."""

    op: Literal["draw"] = "draw"
    method: Literal["ddpm", "ddim"]
    steps: int
    images: int
    seed: int
    frames: int
    output: str


class SpringTrap(Message):
    """Time one DDIM batch without synchronising, and go on to its real end; answered by `TrapTimes`."""

    op: Literal["trap"] = "trap"
    steps: int
    images: int
    seed: int


class Stepwise(Message):
    """Run steps, synchronised after each; answered by `StepTimes`."""

    op: Literal["stepwise"] = "stepwise"
    steps: int


class Free(Message):
    """Run steps, synchronised at the ends only; answered by `Span`."""

    op: Literal["free"] = "free"
    steps: int


class Epochs(Message):
    """Run whole epochs; answered by `EpochTimes`."""

    op: Literal["epochs"] = "epochs"
    epochs: int
    steps: int = Field(description="optimisation steps in an epoch")


class Overhead(Message):
    """Pairs of a bare loop and a harness window of as many steps; answered by `OverheadTimes`."""

    op: Literal["overhead"] = "overhead"
    pairs: int
    steps: int


class ProveSync(Message):
    """Gather evidence that synchronising waits; answered by `SyncEvidence`."""

    op: Literal["prove-sync"] = "prove-sync"
    steps_short: int
    steps_long: int


class Matmul(Message):
    """Measure the best matrix-product rate; answered by `Rate`."""

    op: Literal["matmul"] = "matmul"
    n: int
    repeats: int


class ReadLosses(Message):
    """Losses since the last reading; answered by `LossValues`."""

    op: Literal["losses"] = "losses"


class ReadMemory(Message):
    """Memory of the process; answered by `MemoryValues`."""

    op: Literal["memory"] = "memory"


class ReadCache(Message):
    """Files in the arm's compile cache; answered by `CacheCount`."""

    op: Literal["cache"] = "cache"


class SaveState(Message):
    """Write the trainer's state; answered by `Done`."""

    op: Literal["save-state"] = "save-state"
    path: str


class LoadState(Message):
    """Go on from a written state; answered by `Done`."""

    op: Literal["load-state"] = "load-state"
    path: str


class Predict(Message):
    """The network's output for arrays `x` and `t` of one file, written to another as `eps`; answered by `Done`."""

    op: Literal["predict"] = "predict"
    inputs: str
    output: str


class Gradients(Message):
    """Every gradient of the next batch, written by name; answered by `LossValues` with the one loss."""

    op: Literal["gradients"] = "gradients"
    output: str


class Stop(Message):
    """End the worker; answered by `Done`."""

    op: Literal["stop"] = "stop"


Command = Annotated[
    Prewarm | Create | Build | BuildSampler | Batch | Draw | SpringTrap
    | Stepwise | Free | Epochs | Overhead | ProveSync | Matmul | ReadLosses | ReadMemory
    | ReadCache | SaveState | LoadState | Predict | Gradients | Stop,
    Field(discriminator="op"),
]
