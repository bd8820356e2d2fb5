"""Messages for looking into every module of a network; the arrays cross in a folder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.protocol.life import Command, Reply
from impls.recipe.trace import Twin


class TraceDone(Reply):
    """What was traced."""

    kind: Literal["trace-done"] = "trace-done"
    offered: bool = Field(description="whether the arm can be looked into")
    calls: int


class Trace(Command[TraceDone]):
    """Trace the network that was built; see `impls.recipe.trace`.

    The plain one into the folder `output`; of its twins only how far they are from the plain one that is there.
    """

    op: Literal["trace"] = "trace"
    output: str
    twin: Twin
    feed: str | None = Field(None, description="folder of the trace that every call is fed with")
    steps: int = 0
