"""What the runner and a worker say to each other: typed messages as JSON bytes, never pickled, on any byte channel."""

from __future__ import annotations

from typing import Protocol

from pydantic import TypeAdapter

from harness.protocol.base import Message
from harness.protocol.commands import (
    Batch,
    Build,
    BuildSampler,
    Command,
    Create,
    Draw,
    Epochs,
    Free,
    Gradients,
    LoadState,
    Matmul,
    Overhead,
    Predict,
    Prewarm,
    ProveSync,
    ReadCache,
    ReadLosses,
    ReadMemory,
    SaveState,
    SpringTrap,
    Stepwise,
    Stop,
)
from harness.protocol.replies import (
    Built,
    CacheCount,
    Created,
    Done,
    EpochTime,
    EpochTimes,
    Failure,
    Hello,
    LossValues,
    MemoryValues,
    Note,
    OverheadTimes,
    Rate,
    Reply,
    Span,
    StepTimes,
    SyncEvidence,
    TrapTimes,
)

ADDRESS_VARIABLE = "DDPM_BENCH_ADDRESS"
# By environment, not by argument: other users can read a process's arguments.
KEY_VARIABLE = "DDPM_BENCH_KEY"
TOKEN_VARIABLE = "DDPM_BENCH_WORKER"
MAX_MESSAGE_BYTES = 64 << 20
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


__all__ = [
    "ADDRESS_VARIABLE",
    "Batch",
    "Build",
    "BuildSampler",
    "Built",
    "Bytes",
    "COMMAND",
    "CacheCount",
    "Command",
    "Create",
    "Created",
    "Done",
    "Draw",
    "EpochTime",
    "EpochTimes",
    "Epochs",
    "Failure",
    "Free",
    "Gradients",
    "Hello",
    "KEY_VARIABLE",
    "LoadState",
    "LossValues",
    "MAX_MESSAGE_BYTES",
    "Matmul",
    "MemoryValues",
    "Message",
    "Note",
    "Overhead",
    "OverheadTimes",
    "Predict",
    "Prewarm",
    "ProveSync",
    "REPLY",
    "Rate",
    "ReadCache",
    "ReadLosses",
    "ReadMemory",
    "Reply",
    "SaveState",
    "Span",
    "SpringTrap",
    "StepTimes",
    "Stepwise",
    "Stop",
    "SyncEvidence",
    "TOKEN_VARIABLE",
    "TrapTimes",
    "decode_command",
    "decode_reply",
    "encode",
]
