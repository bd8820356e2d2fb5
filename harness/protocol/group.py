"""Messages for the ranks of one arm, each of which gets every one of them."""

from __future__ import annotations

from typing import Literal

from harness.protocol.life import Command, Done, Reply


class Average(Command[Done]):
    """Average gradients over all ranks from the next step on, or let each rank train for itself."""

    op: Literal["average"] = "average"
    on: bool


class ReduceTimes(Reply):
    """Durations of sums over all ranks."""

    kind: Literal["reduce-times"] = "reduce-times"
    round_ns: list[int]


class Reduce(Command[ReduceTimes]):
    """Sum so many float32 numbers over all ranks, again and again; the first rounds are not timed."""

    op: Literal["reduce"] = "reduce"
    floats: int
    rounds: int


class Digests(Reply):
    """SHA-256 of a trainer's weights, averaged weights and moments, by what they are."""

    kind: Literal["digests"] = "digests"
    sha256: dict[str, str]


class ReadDigests(Command[Digests]):
    """Hash what the trainer holds."""

    op: Literal["digests"] = "digests"
