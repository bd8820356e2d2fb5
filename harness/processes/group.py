"""The ranks of one arm: asked together over a channel each, they answer as one worker, and fail as one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness import protocol
from harness.processes.session import HEARTBEAT_S, Session, WorkerFailedError, ending
from harness.protocol import group, life, timing
from harness.protocol.life import Command, Note, R, Reply
from messages import recorded, shown

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# So long a fault is not told yet: where a rank died, others may have failed because of it, and been faster to say so.
GRACE_S = 1.0
STATES = {"T": "stopped", "t": "traced", "D": "waits for its device or disk", "Z": "gone", "X": "gone"}  # English


@dataclass(frozen=True)
class Rank:
    """One of them.

    Attributes:
        number: from 0.
        host: where it runs.
        pid: its process there.
        channel: its own.
    """

    number: int
    host: str
    pid: int
    channel: Connection[Any, Any]

    @property
    def name(self) -> str:
        """For people."""
        return recorded("rank {number} on {host}", number=self.number, host=self.host)


@dataclass
class Group(Session):
    """A session whose worker is several processes; `handle` and `pid` are their launcher's.

    Attributes:
        launcher: what it is called.
        ranks: in order.
    """

    launcher: str = ""
    ranks: tuple[Rank, ...] = ()

    @property
    def hosts(self) -> list[str]:
        """Of every rank."""
        return [rank.host for rank in self.ranks]

    @property
    def pids(self) -> list[int]:
        """The processes that compute."""
        return [rank.pid for rank in self.ranks]

    def ask(self, command: Command[R], limit_s: float) -> R:
        """Send all ranks a command and wait for all answers, which become one.

        Raises:
            WorkerFailedError: a rank refused, died, said something else or took longer than `limit_s`: it is named.
        """
        return together(self.ask_all(command, limit_s), self.hosts)

    def ask_all(self, command: Command[R], limit_s: float) -> list[R]:
        """As `ask`, the answers of all ranks in their order."""
        start, limit_s = self.clock(), min(limit_s, self.limits.answer_s)
        answers: dict[int, R] = {}
        faults: dict[int, WorkerFailedError] = {}
        until: float | None = None
        for rank in self.ranks:
            # Where this fails it is gone, and its channel will say so.
            with contextlib.suppress(OSError):
                rank.channel.send_bytes(protocol.encode(command))
        while len(answers) + len(faults) < len(self.ranks) and (until is None or self.clock() < until):
            silent = [rank for rank in self.ranks if rank.number not in answers and rank.number not in faults]
            speaking = self._speaking(silent, HEARTBEAT_S if until is None else GRACE_S / 10)
            if not speaking and not faults and (status := self.handle.poll()) is not None:
                raise WorkerFailedError("crash", self._with_cause(recorded(
                    "{arm}: {launcher} {ending} before its ranks", arm=self.arm.name, launcher=self.launcher,
                    ending=ending(status))), status=status)
            for rank in speaking:
                try:
                    answer = self._heard(rank)
                    if answer is not None:
                        answers[rank.number] = self._accepted(command, answer, f"{rank.name}: ")
                except WorkerFailedError as error:
                    faults[rank.number] = error
            if faults and until is None:
                until = self.clock() + GRACE_S
            waited = self.clock() - start
            if waited > limit_s and not faults and len(answers) < len(self.ranks):
                raise self._silent([rank for rank in silent if rank.number not in answers], command.op, limit_s)
            self.watcher.tick(f"{self.arm.name}: {command.op}", waited, self._compiling())
        if faults:
            died = (fault for fault in faults.values() if fault.cause == "crash")
            raise next(died, next(iter(faults.values())))
        return [answers[rank.number] for rank in self.ranks]

    def kill(self) -> None:
        """End all ranks and their launcher at once."""
        for rank in self.ranks:
            with contextlib.suppress(OSError):
                rank.channel.close()
        self.handle.kill()

    def _speaking(self, silent: Sequence[Rank], seconds: float) -> list[Rank]:
        ready = wait([rank.channel for rank in silent], seconds)
        return [rank for rank in silent if rank.channel in ready]

    def _heard(self, rank: Rank) -> Reply | None:
        """What a rank says; None for what is not an answer yet."""
        try:
            answer = protocol.decode_reply(rank.channel.recv_bytes(protocol.MAX_MESSAGE_BYTES))
        except BlockingIOError as error:
            raise WorkerFailedError("hang", recorded("{arm}: stopped in the middle of an answer",
                                                     arm=f"{self.arm.name}: {rank.name}")) from error
        except (EOFError, OSError) as error:
            raise self._gone(rank) from error
        except ValidationError as error:
            raise WorkerFailedError("error", recorded("{arm}: its answer cannot be understood",
                                                      arm=f"{self.arm.name}: {rank.name}"), str(error)) from error
        if not isinstance(answer, Note):
            return answer
        if rank.number == 0:
            self.watcher.say(shown(answer.text))
        return None

    def _gone(self, rank: Rank) -> WorkerFailedError:
        status = self.handle.wait(GRACE_S)
        message = recorded("{arm}: {rank} (process {pid}) is gone", arm=self.arm.name, rank=rank.name, pid=rank.pid)
        told = "" if status is None else f"; {self.launcher} {ending(status)}"
        return WorkerFailedError("crash", self._with_cause(message + told), status=status)

    def _silent(self, ranks: Sequence[Rank], name: str, limit_s: float) -> WorkerFailedError:
        """Of several that say nothing most wait for one, which its state may tell."""
        states = {rank: STATES.get(_state(rank.pid), "") if rank.host == socket.gethostname() else "" for rank in ranks}
        halted = [rank for rank in ranks if states[rank]] or list(ranks)
        who = ", ".join(rank.name + (f" ({states[rank]})" if states[rank] else "") for rank in halted)
        return WorkerFailedError("hang", recorded(
            "{arm}: no answer to {name} within {seconds} s from {who}", arm=self.arm.name, name=repr(name),
            seconds=f"{limit_s:.0f}", who=who))


def together(replies: Sequence[R], hosts: Sequence[str]) -> R:
    """What the ranks answered as one answer: from the first that begins to the last that ends.

    Clocks of different hosts do not compare: there a step takes as long as it does for the slowest rank.

    Args:
        replies: of every rank.
        hosts: theirs.

    Raises:
        WorkerFailedError: they run different things.
    """
    as_one = AS_ONE.get(type(replies[0]))
    if len(replies) == 1 or as_one is None:
        return replies[0]
    one: R = as_one(replies, hosts)
    return one


def _steps(every: Sequence[timing.StepTimes], hosts: Sequence[str]) -> timing.StepTimes:
    if _one_clock(hosts):
        ends = [max(one.start_ns[step] + one.step_ns[step] for one in every) for step in range(len(every[0].step_ns))]
        starts = [min(one.start_ns[0] for one in every), *ends[:-1]]
        return timing.StepTimes(start_ns=starts, end_ns=ends[-1],
                                step_ns=[end - start for start, end in zip(starts, ends, strict=True)])
    step_ns = [max(times) for times in zip(*(one.step_ns for one in every), strict=True)]
    starts = [every[0].start_ns[0] + sum(step_ns[:step]) for step in range(len(step_ns))]
    return timing.StepTimes(start_ns=starts, end_ns=starts[-1] + step_ns[-1], step_ns=step_ns)


def _span(every: Sequence[timing.Span], hosts: Sequence[str]) -> timing.Span:
    if _one_clock(hosts):
        return every[0].model_copy(update={"start_ns": min(one.start_ns for one in every),
                                           "end_ns": max(one.end_ns for one in every)})
    longest = max(one.end_ns - one.start_ns for one in every)
    return every[0].model_copy(update={"end_ns": every[0].start_ns + longest})


def _sums(every: Sequence[group.ReduceTimes], hosts: Sequence[str]) -> group.ReduceTimes:
    return group.ReduceTimes(round_ns=[max(times) for times in zip(*(one.round_ns for one in every), strict=True)])


def _created(every: Sequence[life.Created], hosts: Sequence[str]) -> life.Created:
    for number, one in enumerate(every):
        for name in ("framework", "version", "device", "device_name", "dtype", "tf32", "threads"):
            if one.info.get(name) != every[0].info.get(name):
                raise WorkerFailedError("usage", recorded(
                    "rank {number} on {host} has another {what} than rank 0: {found} instead of {first}: make all "
                    "hosts alike", number=number, host=hosts[number], what=name, found=one.info.get(name),
                    first=every[0].info.get(name)))
    gpus = [uuid for one in every if (uuid := one.info.get("device_uuid"))]
    if len(set(gpus)) < len(gpus):
        raise WorkerFailedError("usage", recorded("{ranks} ranks share {gpus} GPU: choose fewer --ranks",
                                                  ranks=len(gpus), gpus=len(set(gpus))))
    return every[0].model_copy(update={"import_ns": max(one.import_ns for one in every)})


def _built(every: Sequence[life.Built], hosts: Sequence[str]) -> life.Built:
    return every[0].model_copy(update={"build_ns": max(one.build_ns for one in every)})


AS_ONE: Mapping[type[Reply], Callable[..., Any]] = {
    timing.StepTimes: _steps, timing.Span: _span, group.ReduceTimes: _sums, life.Created: _created, life.Built: _built}


def _one_clock(hosts: Sequence[str]) -> bool:
    return len(set(hosts)) == 1


def _state(pid: int) -> str:
    """The letter of /proc; empty where there is no such process."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
