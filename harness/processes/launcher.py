"""How a worker process is started. The worker does not know which launcher started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.machine import gpu
from harness.machine.files import ROOT
from harness.processes import janitor

KILL_LIMIT_S = 10.0


class Handle:
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
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """As `poll`, after waiting at most `timeout_s` for the end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def ask_to_end(self) -> None:
        """Ask it by SIGTERM, as an interrupt does, to finish what it is at."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End the whole group, and whatever left it, at once: loader workers outlive their parent otherwise."""
        # Once it has been waited for, its number may be another's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        ended = set() if self._mark is None else janitor.end_marked(self._mark)
        # A process that a driver holds back cannot be waited for; the run goes on without it.
        self.wait(KILL_LIMIT_S)
        janitor.remove_segments({self._process.pid, *ended})


def launch(command: Sequence[str], env: Mapping[str, str], log: Path) -> Handle:
    """Start `command` on this machine with the environment `env`; its output goes to the end of `log`.

    A Ctrl-C in the terminal does not reach it, the runner decides when it ends.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    return Handle(process, env.get(janitor.MARK))


Launcher = Callable[[Sequence[str], Mapping[str, str], Path], Handle]


def worker_environment(base: Mapping[str, str], threads: int, gpus: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that every arm gets alike; `gpus` in place of what shows it the run's GPU alone.

    OMP_WAIT_POLICY is removed rather than set: `passive` slows Jittor 1.5 times, and a waiting arm stops spinning
    within the hand-over gap anyway.
    """
    env = {key: value for key, value in base.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        env[name] = str(threads)
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [base.get("PYTHONPATH")])])
    env["PYTHONUNBUFFERED"] = "1"
    return env | dict(gpu.environment(base) if gpus is None else gpus)
