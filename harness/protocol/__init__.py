"""What the runner and a worker say to each other: typed messages as JSON bytes, never pickled, on any byte channel."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter

from harness.protocol import group, life, sampling, timing, tracing, training
from harness.protocol.life import Command, Message, Reply
from impls.recipe.config import as_json

M = TypeVar("M", bound=Message)

# Every message that these files define can be said.
SUBJECTS = (life, timing, training, sampling, tracing, group)
# A Unix socket's path, or tcp://HOST:PORT where ranks are on several hosts.
ADDRESS_VARIABLE, TCP = "DDPM_BENCH_ADDRESS", "tcp://"
# By environment, not by argument: other users can read a process's arguments.
KEY_VARIABLE = "DDPM_BENCH_KEY"
# What a launcher hands to other hosts may be recorded there: they get the path of a file that its owner alone can read.
KEY_FILE_VARIABLE = "DDPM_BENCH_KEY_FILE"
TOKEN_VARIABLE = "DDPM_BENCH_WORKER"
MAX_MESSAGE_BYTES = 64 << 20


def _kinds(base: type[M], tag: str) -> list[type[M]]:
    """The subjects' messages below `base` that have a `tag` of their own."""
    return [kind for subject in SUBJECTS for kind in vars(subject).values()
            if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == subject.__name__
            and not kind.model_fields[tag].is_required()]


def _any_of(kinds: list[type[M]], tag: str) -> TypeAdapter[M]:
    union: Any = Annotated[reduce(or_, kinds), Field(discriminator=tag)]
    return TypeAdapter(union)


COMMANDS: list[type[Command[Any]]] = _kinds(Command, "op")
REPLIES = _kinds(Reply, "kind")
COMMAND = _any_of(COMMANDS, "op")
REPLY = _any_of(REPLIES, "kind")


def encode(message: Message) -> bytes:
    """One message as JSON bytes; a reply may quote a name that is no Unicode, a command's paths must be exact."""
    return as_json(message) if isinstance(message, Reply) else message.model_dump_json().encode()


def decode_command(data: bytes) -> Command[Any]:
    """A command from JSON bytes; pydantic.ValidationError when it is none."""
    return COMMAND.validate_json(data)


def decode_reply(data: bytes) -> Reply:
    """A reply from JSON bytes; pydantic.ValidationError when it is none."""
    return REPLY.validate_json(data)
