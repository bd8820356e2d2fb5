"""Workers on this machine: started, welcomed on one listening socket, and ended with the run."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import protocol
from harness.processes.janitor import MARK
from harness.processes.launcher import Handle, Launcher, launch, worker_environment
from harness.processes.scratch import Scratch
from harness.processes.session import HEARTBEAT_S, START_TRIES, USUAL, Limits, Session, WorkerFailedError, ending
from harness.progress import Progress
from harness.protocol import life
from harness.record.events import ArmSlot
from impls.registry import Arm


class LocalSessions:
    """Workers as local processes that connect back to one listening socket.

    Args:
        threads: CPU threads of every worker.
        scratch: the run's temporary folder, which ends them if this process cannot.
        python: the interpreter of an arm.
        launcher: starts processes.
        watcher: somebody who waits; nobody when None.
        limits: when a worker counts as hung.
    """

    def __init__(self, threads: int, scratch: Scratch, python: Callable[[Arm], str] = lambda arm: sys.executable,
                 launcher: Launcher = launch, watcher: Progress | None = None, limits: Limits = USUAL) -> None:
        self._threads, self._scratch, self._python = threads, scratch, python
        self._launcher, self._watcher, self._limits = launcher, watcher or Progress(quiet=True), limits
        self._key = secrets.token_bytes(32)
        # Without the key: the handshake is done beside the listening, so that a stuck one holds up nobody else.
        self._listener = Listener(str(scratch.path / "socket"), family="AF_UNIX", backlog=16)
        self._arrived: dict[str, tuple[Connection[Any, Any], int]] = {}
        self._news = threading.Condition()
        self._closed = False
        threading.Thread(target=self._accept, name="worker-listener", daemon=True).start()

    def start(self, slot: ArmSlot, arm: Arm, log: Path, env: Mapping[str, str] | None = None) -> Session:
        """Start a worker, `env` laid over the usual environment; one that ends with status 0 at once is started again.

        To be called from the main thread: the kernel ends a worker with the thread that started it.

        Raises:
            WorkerFailedError: it did not come up.
        """
        for _ in range(START_TRIES):
            began = time.perf_counter_ns()
            token = secrets.token_hex(16)
            full = {**worker_environment(os.environ, self._threads), **self._temporary(), **(env or {}),
                    protocol.TOKEN_VARIABLE: token, protocol.ADDRESS_VARIABLE: str(self._listener.address),
                    protocol.KEY_VARIABLE: self._key.hex(), MARK: f"{self._scratch.path}/{token}"}
            handle = self._launcher([self._python(arm), "-m", "harness.worker"], full, log)
            self._scratch.has_process(handle.pid)
            try:
                connected = self._connected(token, handle, arm)
            except BaseException:
                handle.kill()
                raise
            if connected is not None:
                channel, pid = connected
                return Session(slot, arm, pid, time.perf_counter_ns() - began, log, channel, handle, self._watcher,
                               limits=self._limits)
            handle.kill()
        raise WorkerFailedError("crash", f"{arm.name}: the worker ended before it connected, {START_TRIES} times")

    def folder(self, purpose: str) -> AbstractContextManager[Path]:
        """A temporary folder below the run's that the workers can reach, for as long as the block."""
        return self._scratch.folder(purpose)

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        with contextlib.suppress(OSError):
            Client(str(self._listener.address), family="AF_UNIX").close()
        self._listener.close()

    def _temporary(self) -> dict[str, str]:
        """Temporary files of the frameworks go with the run, compiled code does not."""
        folder = self._scratch.path / "tmp"
        folder.mkdir(exist_ok=True)
        # As PyTorch itself names it, below the usual temporary folder.
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
        compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{user}")
        return {"TMPDIR": str(folder),
                "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled)}

    def _connected(self, token: str, handle: Handle, arm: Arm) -> tuple[Connection[Any, Any], int] | None:
        """The worker's channel and pid; None when it ended with status 0 before it connected."""
        start, limit_s = time.monotonic(), self._limits.connect_s
        with self._news:
            while token not in self._arrived:
                self._news.wait(0.02)
                status, waited = handle.poll(), time.monotonic() - start
                if status is not None and token not in self._arrived:
                    if status == 0:
                        return None
                    raise WorkerFailedError("crash", f"{arm.name}: the worker {ending(status)} before it connected")
                if waited > limit_s:
                    raise WorkerFailedError("hang", f"{arm.name}: did not connect within {limit_s:.0f} s")
                if waited > HEARTBEAT_S:
                    self._watcher.tick(f"{arm.name}: starting", waited)
            return self._arrived.pop(token)

    def _accept(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError):
                channel = self._listener.accept()
                threading.Thread(target=self._welcome, args=(channel,), name="worker-handshake", daemon=True).start()

    def _welcome(self, channel: Connection) -> None:
        """Check the key and take note of which worker it is; whoever says something else is not answered."""
        try:
            _stall_limit(channel, self._limits.stall_s)
            deliver_challenge(channel, self._key)
            answer_challenge(channel, self._key)
            hello = protocol.decode_reply(channel.recv_bytes(4096))
        except (OSError, EOFError, AuthenticationError, ValidationError):
            channel.close()
            return
        if isinstance(hello, life.Hello):
            with self._news:
                self._arrived[hello.token] = (channel, hello.pid)
                self._news.notify_all()


def _stall_limit(channel: Connection, seconds: float) -> None:
    """Make reading fail with BlockingIOError where no byte comes for so long."""
    limit = struct.pack("ll", int(seconds), round(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(channel.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
