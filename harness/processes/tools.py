"""Starts the tools that train, sample and evaluate, each in a process of its own; every fault is one exception."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.processes.janitor import MARK
from harness.processes.launcher import Launcher, launch, worker_environment
from harness.processes.session import WorkerFailedError, log_tail
from harness.progress import Progress
from impls.errors import EXIT_USAGE
from impls.registry import Arm
from messages import recorded, shown, tell

POLL_S = 0.2
TELL_S = 15.0
# A tool writes its progress at least every 10 s; compilation, a slow disk and one long chain on a CPU take longer.
STALL_S = 3600.0
# A training writes a checkpoint before it ends.
END_S = 30.0


@dataclass(frozen=True)
class Tools:
    """Runs `python -m impls.<tool>`.

    Attributes:
        threads: CPU threads of every tool.
        python: the interpreter of an arm.
        launcher: starts the process.
        clock: seconds.
        sleep: waits.
    """

    threads: int
    python: Callable[[Arm], str]
    launcher: Launcher = launch
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, tool: str, words: Sequence[str], log: Path, watcher: Progress, text: str, arm: Arm | None = None,
            check: Callable[[], None] = lambda: None) -> float:
        """Run one tool to its end.

        Args:
            tool: its module below `impls`.
            words: its command line.
            log: where its output goes.
            watcher: told while it runs, with its last line.
            text: what it does, as it is recorded.
            arm: whose interpreter runs it; None for this one.
            check: asked again and again while it runs; what it raises ends the tool, which may finish its step first.

        Returns:
            the seconds that it took.

        Raises:
            WorkerFailedError: it refused its input ("usage"), failed, or was silent for too long.
        """
        python = sys.executable if arm is None else self.python(arm)
        start = spoke = told = self.clock()
        heard = 0
        env = worker_environment(os.environ, self.threads)
        if MARK in env:
            # A mark of its own, so that ending this tool ends nothing else of the run.
            env[MARK] = f"{env[MARK]}/{log.stem}"
        handle = self.launcher([python, "-m", f"impls.{tool}", *words], env, log)
        try:
            while (status := handle.poll()) is None:
                self.sleep(POLL_S)
                try:
                    check()
                except BaseException:
                    handle.ask_to_end()
                    handle.wait(END_S)
                    raise
                now, size = self.clock(), log.stat().st_size
                if size != heard:
                    heard, spoke = size, now
                if now - spoke > STALL_S:
                    raise WorkerFailedError("hang", recorded("{text}: no sign of life for {seconds} s", text=text,
                                                             seconds=f"{STALL_S:.0f}"))
                if now - told >= TELL_S:
                    told = now
                    watcher.tick(f"{shown(text)}: {_latest(log)}", now - start)
        finally:
            # Also what it started, such as loaders.
            handle.kill()
        if status:
            raise _fault(status, log, text)
        return self.clock() - start


def _fault(status: int, log: Path, text: str) -> WorkerFailedError:
    tail = log_tail(log)
    said = next((line.partition(": error: ")[2] for line in reversed(tail) if ": error: " in line), "")
    if status == EXIT_USAGE and said:
        return WorkerFailedError("usage", said, status=status)
    why = tail[-1] if tail else recorded("it left no line")
    return WorkerFailedError("crash", _message(status, text, why)[:300], status=status)


def _message(status: int, text: str, why: str) -> str:
    if status == -9:
        return recorded("{text}: the tool was killed by signal {n} (often: out of memory): {why}", text=text, n=-status,
                        why=why)
    if status < 0:
        return recorded("{text}: the tool was killed by signal {n}: {why}", text=text, n=-status, why=why)
    return recorded("{text}: the tool ended by itself with status {n}: {why}", text=text, n=status, why=why)


def _latest(log: Path) -> str:
    tail = log_tail(log, 1)
    return shown(tail[-1][:80]) if tail else tell("starting")
