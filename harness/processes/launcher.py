"""How a worker process is started. The worker does not know which launcher started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.machine import gpu
from harness.processes import janitor

KILL_LIMIT_S = 10.0
ROOT = Path(__file__).resolve().parents[2]


class Handle(Protocol):
    """A started process."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        ...

    def wait(self, timeout_s: float) -> int | None:
        """As `poll`, after waiting at most `timeout_s` for the end."""
        ...

    def kill(self) -> None:
        """End it and everything it started, at once; idempotent."""
        ...


class Launcher(Protocol):
    """Starts processes somewhere."""

    def start(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> Handle:
        """Start `command` with the environment `env`; its output goes to the end of `log`."""
        ...


class LocalHandle:
    """A process on this machine, the leader of a group of its own.

    Args:
        process: it.
        mark: what it and everything that it starts carry in their environment; None when nothing.
    """

    def __init__(self, process: subprocess.Popen[bytes], mark: str | None = None) -> None:
        self._process, self._mark = process, mark

    @property
    def pid(self) -> int:
        """Its process id, which is its group's id too."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, or None."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status, or None after `timeout_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def kill(self) -> None:
        """Kill the whole group, and whatever left it: loader workers outlive their parent otherwise."""
        # Once it has been waited for, its number may be another's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        ended = set() if self._mark is None else janitor.end_marked(self._mark)
        # A process that a driver holds back cannot be waited for; the run goes on without it.
        self.wait(KILL_LIMIT_S)
        janitor.remove_segments({self._process.pid, *ended})


class LocalLauncher:
    """Plain processes on this machine."""

    def start(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> LocalHandle:
        """Start `command`; a Ctrl-C in the terminal does not reach it, the runner decides when it ends."""
        with log.open("ab") as output:
            process = subprocess.Popen(list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        return LocalHandle(process, env.get(janitor.MARK))


def worker_environment(base: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment that every arm gets alike.

    OMP_WAIT_POLICY is removed rather than set: `passive` slows Jittor 1.5 times, and a waiting arm stops spinning
    within the hand-over gap anyway.
    """
    env = {key: value for key, value in base.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        env[name] = str(threads)
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [base.get("PYTHONPATH")])])
    env["PYTHONUNBUFFERED"] = "1"
    return env | gpu.environment(base)
