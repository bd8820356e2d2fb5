"""What every message is, and those about a worker's life: greeting, importing, building, failing, ending."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from impls.registry import Device

R = TypeVar("R", bound="Reply")


class Message(BaseModel):
    """Base of everything that crosses the channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Command(Message, Generic[R]):
    """What the runner asks of a worker; derived from `Command[the type of the answer]`."""

    op: str

    @classmethod
    def reply(cls) -> type[R]:
        """The type of the answer."""
        parent: Any = cls.__base__
        answer: type[R] = parent.__pydantic_generic_metadata__["args"][0]
        return answer


class Reply(Message):
    """What a worker answers."""

    kind: str


class Hello(Reply):
    """A worker's first words: which launch it belongs to, and which of its ranks it is, on which host."""

    kind: Literal["hello"] = "hello"
    token: str
    pid: int
    rank: int = 0
    host: str = ""


class Note(Reply):
    """A line for people while a command is under way."""

    kind: Literal["note"] = "note"
    text: str


class Failure(Reply):
    """The command failed; the worker goes on if it can.

    `cause` "usage": the user can mend it; "memory": out of memory; "error": a fault of the program or the framework.
    """

    kind: Literal["failure"] = "failure"
    cause: Literal["usage", "memory", "error"]
    message: str
    traceback: str


class Done(Reply):
    """Nothing to report."""

    kind: Literal["done"] = "done"


class Prewarm(Command[Done]):
    """Fill the arm's compile cache before its first import, with `Note`s before the answer."""

    op: Literal["prewarm"] = "prewarm"
    arm: str
    device: Device


class Created(Reply):
    """`info` is the BackendInfo as JSON; `compiled_files` counts the cache before the import, None if unknowable."""

    kind: Literal["created"] = "created"
    import_ns: int
    info: dict[str, Any]
    compiled_files: int | None


class Create(Command[Created]):
    """Import the framework and open the device; of an arm that runs a pair's file, also execute that."""

    op: Literal["create"] = "create"
    arm: str
    device: Device
    threads: int
    file: str | None = None


class Built(Reply):
    """`info` with the operators and flags in force; `shapes` of a sampler's weights by name.

    `images` are those of a step, where the worker alone knows them.
    """

    kind: Literal["built"] = "built"
    build_ns: int
    parameter_count: int
    info: dict[str, Any]
    shapes: dict[str, tuple[int, ...]] = {}
    images: int | None = None


class Build(Command[Built]):
    """Build a trainer over the first `images` images of the file, if any. Closes what was built."""

    op: Literal["build"] = "build"
    experiment: dict[str, Any]
    data_path: str | None
    images: int | None = None


class BuildSampler(Command[Built]):
    """Build a sampler, with the weights of a file where one is given. Closes what was built."""

    op: Literal["build-sampler"] = "build-sampler"
    experiment: dict[str, Any]
    weights: str | None = None


class BuildForwards(Command[Built]):
    """Build forward passes without gradients of an arm's own model. Closes what was built."""

    op: Literal["build-forwards"] = "build-forwards"
    experiment: dict[str, Any]


class CacheCount(Reply):
    """Compiled files in the arm's cache; None when the backend cannot tell."""

    kind: Literal["cache-count"] = "cache-count"
    compiled_files: int | None


class ReadCache(Command[CacheCount]):
    """Files in the arm's compile cache."""

    op: Literal["cache"] = "cache"


class Stop(Command[Done]):
    """End the worker."""

    op: Literal["stop"] = "stop"
