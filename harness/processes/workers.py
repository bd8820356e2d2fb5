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
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import protocol
from harness.machine import gpu
from harness.processes.group import Group, Rank
from harness.processes.janitor import MARK
from harness.processes.launcher import Handle, Launcher, launch, worker_environment
from harness.processes.ranks import Launch
from harness.processes.scratch import Scratch
from harness.processes.session import HEARTBEAT_S, START_TRIES, USUAL, Limits, Session, WorkerFailedError, ending
from harness.progress import Progress
from harness.protocol import life
from harness.record.events import ArmSlot
from impls.registry import Arm
from messages import recorded, tell


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
        self._abroad: Listener | None = None
        self._arrived: dict[tuple[str, int], tuple[Connection[Any, Any], life.Hello]] = {}
        self._due = set[str]()
        self._news = threading.Condition()
        self._closed = False
        self._listen(self._listener)

    def start(self, slot: ArmSlot, arm: Arm, log: Path, env: Mapping[str, str] | None = None,
              by: Launch | None = None) -> Session:
        """Start a worker, `env` laid over the usual environment; one that ends with status 0 at once is started again.

        To be called from the main thread: the kernel ends a worker with the thread that started it.

        Args:
            slot: the arm's letter.
            arm: what it runs.
            log: takes its output.
            env: variables of its own.
            by: what starts it as several ranks; None for one process, which nothing stands between.

        Raises:
            WorkerFailedError: it did not come up.
        """
        for _ in range(START_TRIES):
            began = time.perf_counter_ns()
            token = secrets.token_hex(16)
            with self._expected(token), self._environment(token, env, log, by) as full:
                python = self._python(arm)
                command = [python, "-m", "harness.worker"] if by is None else by.command(python, full)
                handle = self._launcher(command, full, log)
                self._scratch.has_process(handle.pid)
                try:
                    connected = self._connected(token, handle, arm, 1 if by is None else by.ranks)
                except BaseException:
                    handle.kill()
                    raise
            if connected is not None:
                took = time.perf_counter_ns() - began
                if by is None:
                    (channel, hello), = connected
                    return Session(slot, arm, hello.pid, took, log, channel, handle, self._watcher, limits=self._limits)
                ranks = tuple(Rank(hello.rank, hello.host, hello.pid, channel) for channel, hello in connected)
                for rank in ranks:
                    if rank.host == socket.gethostname():
                        self._scratch.has_process(rank.pid)
                return Group(slot, arm, handle.pid, took, log, ranks[0].channel, handle, self._watcher,
                             limits=self._limits, launcher=by.launcher, ranks=ranks)
            handle.kill()
        raise WorkerFailedError("crash", recorded("{arm}: the worker ended before it connected, {tries} times",
                                                  arm=arm.name, tries=START_TRIES))

    def folder(self, purpose: str) -> AbstractContextManager[Path]:
        """A temporary folder below the run's that the workers can reach, for as long as the block."""
        return self._scratch.folder(purpose)

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        for listener, family in ((self._listener, "AF_UNIX"), (self._abroad, "AF_INET")):
            if listener is not None:
                with contextlib.suppress(OSError):
                    Client(listener.address, family=family).close()
                listener.close()

    @contextlib.contextmanager
    def _expected(self, token: str) -> Iterator[None]:
        """Take workers with this token; a rank whose group did not come together, also a late one, is hung up on."""
        with self._news:
            self._due.add(token)
        try:
            yield
        finally:
            with self._news:
                self._due.discard(token)
                for left in [one for one in self._arrived if one[0] == token]:
                    self._arrived.pop(left)[0].close()

    @contextlib.contextmanager
    def _environment(self, token: str, env: Mapping[str, str] | None, log: Path, by: Launch | None
                     ) -> Iterator[dict[str, str]]:
        """The environment of a worker, or of what starts its ranks, until these are connected."""
        abroad = by is not None and by.abroad
        gpus = None if by is None else gpu.environment_of_ranks(os.environ, abroad)
        full = {**worker_environment(os.environ, self._threads, gpus), **({} if abroad else self._temporary()),
                **({} if by is None else by.environment(self._scratch.path)), **(env or {}),
                protocol.TOKEN_VARIABLE: token, MARK: f"{self._scratch.path}/{token}"}
        if not abroad:
            yield {**full, protocol.ADDRESS_VARIABLE: str(self._listener.address),
                   protocol.KEY_VARIABLE: self._key.hex()}
            return
        # Beside the log, in the run folder, which all hosts must see.
        file = log.parent / f".{token}.key"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as held:
            held.write(self._key.hex())
        try:
            yield {**full, protocol.ADDRESS_VARIABLE: self._address_abroad(),
                   protocol.KEY_FILE_VARIABLE: str(file.resolve())}
        finally:
            file.unlink(missing_ok=True)

    def _address_abroad(self) -> str:
        """Where workers on other hosts find this process."""
        if self._abroad is None:
            self._abroad = Listener(("", 0), family="AF_INET", backlog=128)
            self._listen(self._abroad)
        name = socket.gethostname()
        try:
            socket.gethostbyname(name)
        except OSError:
            # A container may have a name without an address: then there is no other host either.
            name = "127.0.0.1"
        return f"{protocol.TCP}{name}:{self._abroad.address[1]}"

    def _temporary(self) -> dict[str, str]:
        """Temporary files of the frameworks go with the run, compiled code does not."""
        folder = self._scratch.path / "tmp"
        folder.mkdir(exist_ok=True)
        # As PyTorch itself names it, below the usual temporary folder.
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
        compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{user}")
        return {"TMPDIR": str(folder),
                "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled)}

    def _connected(self, token: str, handle: Handle, arm: Arm, ranks: int
                   ) -> list[tuple[Connection[Any, Any], life.Hello]] | None:
        """Channel and greeting of each rank; None when the worker ended with status 0 before it connected."""
        start, limit_s = time.monotonic(), self._limits.connect_s
        due = [(token, rank) for rank in range(ranks)]
        with self._news:
            while missing := [rank for _, rank in due if (token, rank) not in self._arrived]:
                self._news.wait(0.02)
                status, waited = handle.poll(), time.monotonic() - start
                if status is not None and any((token, rank) not in self._arrived for rank in missing):
                    if status == 0:
                        return None
                    end = ending(status)
                    raise WorkerFailedError("crash", recorded(
                        "{arm}: the worker {ending} before it connected", arm=arm.name, ending=end)
                        if ranks == 1 else recorded(
                        "{arm}: what starts its {ranks} ranks {ending} before it connected", arm=arm.name, ranks=ranks,
                        ending=end))
                if waited > limit_s:
                    seconds = f"{limit_s:.0f}"
                    raise WorkerFailedError("hang", recorded(
                        "{arm}: did not connect within {seconds} s", arm=arm.name, seconds=seconds)
                        if ranks == 1 else recorded(
                        "{arm}: rank {missing} did not connect within {seconds} s", arm=arm.name,
                        missing=", ".join(map(str, missing)), seconds=seconds))
                if waited > HEARTBEAT_S:
                    self._watcher.tick(tell("{arm}: starting", arm=arm.name), waited)
            return [self._arrived.pop(one) for one in due]

    def _listen(self, listener: Listener) -> None:
        threading.Thread(target=self._accept, args=(listener,), name="worker-listener", daemon=True).start()

    def _accept(self, listener: Listener) -> None:
        while not self._closed:
            with contextlib.suppress(OSError):
                channel = listener.accept()
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
                if hello.token not in self._due:
                    channel.close()
                    return
                self._arrived[hello.token, hello.rank] = (channel, hello)
                self._news.notify_all()


def _stall_limit(channel: Connection, seconds: float) -> None:
    """Make reading fail with BlockingIOError where no byte comes for so long."""
    limit = struct.pack("ll", int(seconds), round(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(channel.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
