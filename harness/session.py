"""The runner's end of a worker: started, asked, timed out, ended; every way it can fail is one exception."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import ValidationError

from harness import protocol
from harness.events import ArmSlot
from harness.launcher import Handle, Launcher, LocalLauncher, worker_environment
from impls.registry import Arm

Cause = Literal["usage", "memory", "error", "crash", "hang"]
AnyReply = TypeVar("AnyReply", bound=protocol.Message)

START_TRIES = 3
CONNECT_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0
HEARTBEAT_S = 1.0


class Watcher(Protocol):
    """Somebody who waits."""

    def say(self, text: str) -> None:
        """A line from the worker."""
        ...

    def tick(self, text: str, seconds: float) -> None:
        """Still busy with `text`, for so long now."""
        ...


class Nobody:
    """Nobody waits."""

    def say(self, text: str) -> None:
        """Said to nobody."""

    def tick(self, text: str, seconds: float) -> None:
        """Noticed by nobody."""


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
    """

    slot: ArmSlot
    arm: Arm
    pid: int
    spawn_ns: int
    log: Path
    channel: protocol.Bytes
    handle: Handle
    watcher: Watcher
    clock: Callable[[], float] = time.monotonic

    def ask(self, command: protocol.Message, reply: type[AnyReply], limit_s: float) -> AnyReply:
        """Send a command and wait for its answer.

        Raises:
            WorkerFailedError: the worker refused, died, said something else, or took longer than `limit_s`.
        """
        start = self.clock()
        try:
            self.channel.send_bytes(protocol.encode(command))
            while True:
                self._await_message(command, start, limit_s)
                answer = protocol.decode_reply(self.channel.recv_bytes(protocol.MAX_MESSAGE_BYTES))
                if not isinstance(answer, protocol.Note):
                    break
                self.watcher.say(answer.text)
        except (EOFError, OSError) as error:
            raise self._ended() from error
        except ValidationError as error:
            raise WorkerFailedError("error", f"{self.arm.name}: its answer cannot be understood", str(error)) from error
        if isinstance(answer, protocol.Failure):
            raise WorkerFailedError(answer.cause, answer.message, answer.traceback)
        if not isinstance(answer, reply):
            raise WorkerFailedError("error", f"{self.arm.name}: answered {type(answer).__name__}, not {reply.__name__}")
        return answer

    def stop(self) -> None:
        """End the worker and everything it started; never raises for a worker that is gone already."""
        with contextlib.suppress(WorkerFailedError):
            if self.handle.poll() is None:
                # Its trainer and loader are closed when it answers; taking the interpreter down would only cost time.
                self.ask(protocol.Stop(), protocol.Done, STOP_LIMIT_S)
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

    def _await_message(self, command: protocol.Message, start: float, limit_s: float) -> None:
        while not self.channel.poll(HEARTBEAT_S):
            # A loader process of a dead worker may hold the socket open, so its end alone is not enough.
            if self.handle.poll() is not None and not self.channel.poll(0):
                raise self._ended()
            waited = self.clock() - start
            name = getattr(command, "op", "answer")
            if waited > limit_s:
                raise WorkerFailedError("hang", f"{self.arm.name}: no answer to {name!r} within {limit_s:.0f} s")
            self.watcher.tick(f"{self.arm.name}: {name}", waited)

    def _ended(self) -> WorkerFailedError:
        status = self.handle.wait(STOP_LIMIT_S)
        return WorkerFailedError("crash", f"{self.arm.name}: the worker {ending(status)}", status=status)


class Sessions(Protocol):
    """Where workers come from; a test has its own."""

    def start(self, slot: ArmSlot, arm: Arm, log: Path, env: Mapping[str, str] | None = None) -> Session:
        """Start a worker for one arm, `env` laid over the usual environment.

        Raises:
            WorkerFailedError: it did not come up.
        """
        ...

    def close(self) -> None:
        """End what is left."""
        ...


class LocalSessions:
    """Workers as local processes that connect back to one listening socket."""

    def __init__(self, threads: int, python: Callable[[Arm], str] = lambda arm: sys.executable,
                 launcher: Launcher | None = None, watcher: Watcher | None = None) -> None:
        self._threads, self._python, self._watcher = threads, python, watcher or Nobody()
        self._launcher = launcher or LocalLauncher()
        self._folder = tempfile.mkdtemp(prefix="ddpm-bench-")
        self._key = secrets.token_bytes(32)
        self._listener = Listener(os.path.join(self._folder, "socket"), family="AF_UNIX", authkey=self._key, backlog=16)
        self._arrived: dict[str, tuple[protocol.Bytes, int]] = {}
        self._news = threading.Condition()
        self._closed = False
        threading.Thread(target=self._accept, name="worker-listener", daemon=True).start()

    def start(self, slot: ArmSlot, arm: Arm, log: Path, env: Mapping[str, str] | None = None) -> Session:
        """Start a worker; one that ends with status 0 at once is started again."""
        for _ in range(START_TRIES):
            began = time.perf_counter_ns()
            token = secrets.token_hex(16)
            full = {**worker_environment(os.environ, self._threads), **(env or {}), protocol.TOKEN_VARIABLE: token,
                    protocol.ADDRESS_VARIABLE: str(self._listener.address), protocol.KEY_VARIABLE: self._key.hex()}
            handle = self._launcher.start([self._python(arm), "-m", "harness.worker"], full, log)
            try:
                connected = self._connected(token, handle, arm)
            except BaseException:
                handle.kill()
                raise
            if connected is not None:
                channel, pid = connected
                return Session(slot, arm, pid, time.perf_counter_ns() - began, log, channel, handle, self._watcher)
            handle.kill()
        raise WorkerFailedError("crash", f"{arm.name}: the worker ended before it connected, {START_TRIES} times")

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        with contextlib.suppress(OSError, EOFError, AuthenticationError):
            Client(str(self._listener.address), family="AF_UNIX", authkey=self._key).close()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connected(self, token: str, handle: Handle, arm: Arm) -> tuple[protocol.Bytes, int] | None:
        """The worker's channel and pid; None when it ended with status 0 before it connected."""
        start = time.monotonic()
        with self._news:
            while token not in self._arrived:
                self._news.wait(0.02)
                status, waited = handle.poll(), time.monotonic() - start
                if status is not None and token not in self._arrived:
                    if status == 0:
                        return None
                    raise WorkerFailedError("crash", f"{arm.name}: the worker {ending(status)} before it connected")
                if waited > CONNECT_LIMIT_S:
                    raise WorkerFailedError("hang", f"{arm.name}: did not connect within {CONNECT_LIMIT_S:.0f} s")
                if waited > HEARTBEAT_S:
                    self._watcher.tick(f"{arm.name}: starting", waited)
            return self._arrived.pop(token)

    def _accept(self) -> None:
        while not self._closed:
            try:
                channel = self._listener.accept()
                hello = protocol.decode_reply(channel.recv_bytes(4096))
            except (OSError, EOFError, AuthenticationError, ValidationError):
                continue
            if isinstance(hello, protocol.Hello):
                with self._news:
                    self._arrived[hello.token] = (channel, hello.pid)
                    self._news.notify_all()


def ending(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "closed its connection but goes on"
    if status < 0:
        more = " (often: out of memory)" if status == -9 else ""
        return f"was killed by signal {-status}{more}"
    return f"ended by itself with status {status}"


def log_tail(log: Path, lines: int = 20) -> list[str]:
    """The last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip()[:500] for line in text.replace("\r", "\n").splitlines() if line.strip()][-lines:]
