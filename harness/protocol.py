"""What the runner and a worker say to each other: typed messages as JSON bytes, never pickled, on any byte channel."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

ADDRESS_VARIABLE = "DDPM_BENCH_ADDRESS"
# By environment, not by argument: other users can read a process's arguments.
KEY_VARIABLE = "DDPM_BENCH_KEY"
TOKEN_VARIABLE = "DDPM_BENCH_WORKER"
MAX_MESSAGE_BYTES = 64 << 20


class Message(BaseModel):
    """Base of everything that crosses the channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


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


class Hello(Message):
    """A worker's first words: which launch it belongs to."""

    kind: Literal["hello"] = "hello"
    token: str
    pid: int


class Note(Message):
    """A line for people while a command is under way."""

    kind: Literal["note"] = "note"
    text: str


class Failure(Message):
    """The command failed; the worker goes on if it can.

    `cause` "usage": the user can mend it; "memory": out of memory; "error": a fault of the program or the framework.
    """

    kind: Literal["failure"] = "failure"
    cause: Literal["usage", "memory", "error"]
    message: str
    traceback: str


class Done(Message):
    """Nothing to report."""

    kind: Literal["done"] = "done"


class Created(Message):
    """`info` is the BackendInfo as JSON; `compiled_files` counts the cache before the import, None if unknowable."""

    kind: Literal["created"] = "created"
    import_ns: int
    info: dict[str, Any]
    compiled_files: int | None


class Built(Message):
    """`info` with the operators and flags in force; `shapes` of a sampler's weights by name."""

    kind: Literal["built"] = "built"
    build_ns: int
    parameter_count: int
    info: dict[str, Any]
    shapes: dict[str, tuple[int, ...]] = {}


class StepTimes(Message):
    """Monotonic start and duration of every step, and the end of the last."""

    kind: Literal["step-times"] = "step-times"
    start_ns: list[int]
    step_ns: list[int]
    end_ns: int


class Span(Message):
    """Monotonic ends of a window."""

    kind: Literal["span"] = "span"
    start_ns: int
    end_ns: int
    steps: int


class EpochTime(Message):
    """One epoch: synchronised ends, host-side stamps of the enqueueing, and waits for batches."""

    start_ns: int
    end_ns: int
    gap_ns: int | None
    step_start_ns: list[int]
    loader_wait_ns: list[int]


class EpochTimes(Message):
    """All epochs of one request."""

    kind: Literal["epoch-times"] = "epoch-times"
    epochs: list[EpochTime]


class TrapTimes(Message):
    """From one start: until the work was asked for, and until it was finished."""

    kind: Literal["trap-times"] = "trap-times"
    unsynchronised_ns: int
    synchronised_ns: int


class OverheadTimes(Message):
    """Paired durations of as many steps."""

    kind: Literal["overhead-times"] = "overhead-times"
    bare_ns: list[int]
    harness_ns: list[int]


class SyncEvidence(Message):
    """Pending work around a synchronisation, and the durations of few and of many steps."""

    kind: Literal["sync-evidence"] = "sync-evidence"
    pending_before: int | None
    pending_after: int | None
    pending_base: int | None
    short_ns: int
    long_ns: int
    residue_ns: int | None = None


class Rate(Message):
    """Floating-point operations per second."""

    kind: Literal["rate"] = "rate"
    flops: float


class LossValues(Message):
    """Losses, oldest first."""

    kind: Literal["loss-values"] = "loss-values"
    losses: list[float]


class MemoryValues(Message):
    """Memory in bytes; None with the reason where unreadable."""

    kind: Literal["memory-values"] = "memory-values"
    rss_peak_bytes: int | None
    device_allocated_bytes: int | None
    device_peak_bytes: int | None
    device_reserved_bytes: int | None
    reason: str | None


class CacheCount(Message):
    """Compiled files in the arm's cache; None when the backend cannot tell."""

    kind: Literal["cache-count"] = "cache-count"
    compiled_files: int | None


Command = Annotated[
    Prewarm | Create | Build | BuildSampler | Batch | Draw | SpringTrap
    | Stepwise | Free | Epochs | Overhead | ProveSync | Matmul | ReadLosses | ReadMemory
    | ReadCache | SaveState | LoadState | Predict | Gradients | Stop,
    Field(discriminator="op"),
]
Reply = Annotated[
    Hello | Note | Failure | Done | Created | Built | StepTimes | Span | EpochTimes | OverheadTimes | SyncEvidence
    | TrapTimes | Rate | LossValues | MemoryValues | CacheCount,
    Field(discriminator="kind"),
]
COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


class Bytes(Protocol):
    """The part of `multiprocessing.connection.Connection` that is used: whole messages of bytes."""

    def send_bytes(self, buf: bytes) -> None:
        """Send one message."""
        ...

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message; EOFError when the other side is gone."""
        ...

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether a message is there within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Close the channel."""
        ...


def encode(message: Message) -> bytes:
    """One message as JSON bytes."""
    return message.model_dump_json().encode()


def decode_command(data: bytes) -> Command:
    """A command from JSON bytes; pydantic.ValidationError when it is none."""
    return COMMAND.validate_json(data)


def decode_reply(data: bytes) -> Reply:
    """A reply from JSON bytes; pydantic.ValidationError when it is none."""
    return REPLY.validate_json(data)
