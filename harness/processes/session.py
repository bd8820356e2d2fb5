"""The runner's end of a worker: started, asked, timed out, ended; every way it can fail is one exception."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from harness import protocol
from harness.processes.launcher import Handle
from harness.progress import Progress
from harness.protocol.life import Command, Failure, Note, R, Reply, Stop
from harness.record.events import ArmSlot
from impls.errors import cause
from impls.registry import Arm
from messages import recorded, shown

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Cause = Literal["usage", "memory", "error", "crash", "hang"]

START_TRIES = 3
HEARTBEAT_S = 1.0
# Of a log, in which pages of consequences may follow.
CAUSE_LINES = 400


@dataclass(frozen=True)
class Limits:
    """How long a worker may take before it counts as hung, in seconds.

    Attributes:
        connect_s: from its start until it has connected.
        stop_s: to end.
        stall_s: between two bytes of one message.
        answer_s: for any answer, where the command itself allows more.
    """

    connect_s: float = 120.0
    stop_s: float = 10.0
    stall_s: float = 30.0
    answer_s: float = math.inf


USUAL = Limits()


class WorkerFailedError(Exception):
    """One arm cannot go on.

    Attributes:
        cause: "usage" (the user can mend it), "memory", "error", "crash" (the process ended), or "hang".
        message: one line for people.
        detail: a traceback where there is one.
        status: the exit status of a process that ended.
    """

    def __init__(self, cause: Cause, message: str, detail: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.cause, self.message, self.detail, self.status = cause, message, detail, status


@dataclass
class Session:
    """One worker process of one arm.

    Attributes:
        slot: the arm's letter in this run.
        arm: what it runs.
        pid: its process id.
        spawn_ns: process launch until it connected.
        log: its output.
        watcher: told what the worker says, and that it is still busy.
    """

    slot: ArmSlot
    arm: Arm
    pid: int
    spawn_ns: int
    log: Path
    channel: Connection[Any, Any]
    handle: Handle
    watcher: Progress
    clock: Callable[[], float] = time.monotonic
    limits: Limits = USUAL

    def ask(self, command: Command[R], limit_s: float) -> R:
        """Send a command and wait for its answer.

        Raises:
            WorkerFailedError: the worker refused, died, said something else, or took longer than `limit_s`.
        """
        start, limit_s = self.clock(), min(limit_s, self.limits.answer_s)
        try:
            self.channel.send_bytes(protocol.encode(command))
            while True:
                self._await_message(command.op, start, limit_s)
                answer = protocol.decode_reply(self.channel.recv_bytes(protocol.MAX_MESSAGE_BYTES))
                if not isinstance(answer, Note):
                    break
                self.watcher.say(shown(answer.text))
        except BlockingIOError as error:
            raise WorkerFailedError("hang", recorded("{arm}: stopped in the middle of an answer", arm=self.arm.name)
                                    ) from error
        except (EOFError, OSError) as error:
            # Without a number: what came is no message, or half of one whose sender died.
            if isinstance(error, OSError) and error.errno is None and self.handle.wait(HEARTBEAT_S) is None:
                raise self._garbled(error) from error
            raise self._ended() from error
        except ValidationError as error:
            raise self._garbled(error) from error
        return self._accepted(command, answer)

    def ask_all(self, command: Command[R], limit_s: float) -> list[R]:
        """As `ask`, the answers of all ranks in their order; one process is all there is."""
        return [self.ask(command, limit_s)]

    @property
    def hosts(self) -> list[str]:
        """Of every rank."""
        return [socket.gethostname()]

    @property
    def pids(self) -> list[int]:
        """The processes that compute."""
        return [self.pid]

    @property
    def local_pids(self) -> list[int]:
        """Those of them on this host; elsewhere a number means another process."""
        return [pid for host, pid in zip(self.hosts, self.pids, strict=True) if host == socket.gethostname()]

    def stop(self) -> None:
        """End the worker and everything it started; never raises for a worker that is gone already."""
        with contextlib.suppress(WorkerFailedError):
            if self.handle.poll() is None:
                # Its trainer and loader are closed when it answers; taking the interpreter down would only cost time.
                self.ask(Stop(), self.limits.stop_s)
        self.kill()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Stop the worker in good order, or end it at once when something went wrong (it may be busy for minutes)."""
        if kind is None:
            self.stop()
        else:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(OSError):
            self.channel.close()
        self.handle.kill()

    def _await_message(self, name: str, start: float, limit_s: float) -> None:
        while True:
            waited = self.clock() - start
            if waited > limit_s:
                # Also for one that only ever sends lines for people.
                raise WorkerFailedError("hang", recorded("{arm}: no answer to {name} within {seconds} s",
                                                         arm=self.arm.name, name=repr(name), seconds=f"{limit_s:.0f}"))
            if self.channel.poll(HEARTBEAT_S):
                return
            # A loader process of a dead worker may hold the socket open, so its end alone is not enough.
            if self.handle.poll() is not None and not self.channel.poll(0):
                raise self._ended()
            self.watcher.tick(f"{self.arm.name}: {name}", self.clock() - start, self._compiling())

    def _accepted(self, command: Command[R], answer: Reply, who: str = "") -> R:
        """An answer, unless it is a failure or one to something else.

        Args:
            command: what was asked.
            answer: what came.
            who: answered, where there are several, with its colon.
        """
        if isinstance(answer, Failure):
            message = answer.message if answer.cause == "usage" else self._with_cause(answer.message, answer.traceback)
            raise WorkerFailedError(answer.cause, f"{who}{message}", answer.traceback)
        reply = command.reply()
        if not isinstance(answer, reply):
            raise WorkerFailedError("error", f"{self.arm.name}: {who}" + recorded(
                "answered {answer}, not {expected}", answer=type(answer).__name__, expected=reply.__name__))
        return answer

    def _compiling(self) -> str | None:
        """How far the worker's framework is with compiling, as it says in its output; it cannot speak meanwhile."""
        told = self.arm.spec.prepares("compiling")
        return None if told is None else told(log_end(self.log))

    def _garbled(self, error: Exception) -> WorkerFailedError:
        return WorkerFailedError("error", recorded("{arm}: its answer cannot be understood", arm=self.arm.name),
                                 str(error))

    def _ended(self) -> WorkerFailedError:
        status = self.handle.wait(self.limits.stop_s)
        message = recorded("{arm}: the worker {ending}", arm=self.arm.name, ending=ending(status))
        return WorkerFailedError("crash", self._with_cause(message), status=status)

    def _with_cause(self, message: str, trace: str = "") -> str:
        """The message with the line that says why: a compiler's words may be in the log alone."""
        # Indented are lines of our own code.
        said = [line for line in trace.splitlines() if not line.startswith("  ")]
        why = cause([message]) or cause([*said, *log_tail(self.log, CAUSE_LINES)])
        return message if why is None else why.after(message)


def ending(status: int | None) -> str:
    """How a process ended, in words for a journal."""
    if status is None:
        return recorded("closed its connection but goes on")
    if status == -9:
        return recorded("was killed by signal {n} (often: out of memory)", n=-status)
    if status < 0:
        return recorded("was killed by signal {n}", n=-status)
    return recorded("ended by itself with status {n}", n=status)


def log_tail(log: Path, lines: int = 40) -> list[str]:
    """The last lines of a log; empty when there is none."""
    return [line.rstrip()[:500] for line in log_end(log).replace("\r", "\n").splitlines() if line.strip()][-lines:]


def log_end(log: Path) -> str:
    """The last 64 KiB of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65536))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
