"""Kills a chosen process at a chosen moment of its own work: at its n-th write, rename, flush or start of a child.

KILL_HOOK is `role:number:victim`. Role: the runner, a worker, or the report's process, told by the command line;
victim: `self` (a write is done half before), `worker` (one of the runner's children) or `both`. Of the workers that
come so far, one dies: the first KILL_HOOK_SPARE pass, each leaving a file in the folder KILL_HOOK_TURNS. A strike
leaves a file there too. The number of every process's calls so far is in the folder KILL_HOOK_COUNTS.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROLES = {"run_bench.py": "runner", "harness.worker": "worker", "reports": "report"}


def role() -> str | None:
    return next((ROLES[name] for word in sys.orig_argv[1:4] if (name := os.path.basename(word)) in ROLES), None)


def workers() -> list[int]:
    """Children of this process that are workers."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            parent = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"harness.worker" in Path("/proc", name, "cmdline").read_bytes():
                found.append(int(name))
        except (OSError, ValueError):
            continue
    return sorted(found)


class Hook:
    def __init__(self, plan: str) -> None:
        wanted, number, self.victim = plan.split(":")
        self.at = int(number) if wanted == role() else 0
        self.calls = 0
        folder = os.environ.get("KILL_HOOK_COUNTS")
        self.counts = None
        if folder is not None:
            self.counts = os.open(Path(folder, f"{role()}.{os.getpid()}"), os.O_WRONLY | os.O_CREAT, 0o600)

    def chosen(self) -> bool:
        """Whether as many workers have come so far before this one as KILL_HOOK_SPARE says."""
        folder, number = Path(os.environ["KILL_HOOK_TURNS"]), 0
        while True:
            try:
                os.close(os.open(folder / str(number), os.O_CREAT | os.O_EXCL))
                return number == int(os.environ["KILL_HOOK_SPARE"])
            except FileExistsError:
                number += 1

    def wrap(self, module, name):
        real = getattr(module, name)

        def counted(*args, **named):
            self.calls += 1
            if self.counts is not None:
                os.pwrite(self.counts, b"%8d" % self.calls, 0)
            if self.calls == self.at:
                self.strike(name, real, args)
            return real(*args, **named)

        setattr(module, name, counted)

    def strike(self, name, real, args):
        if role() == "worker" and not self.chosen():
            return
        os.close(os.open(Path(os.environ["KILL_HOOK_TURNS"], "struck"), os.O_CREAT))
        if self.victim != "self":
            for pid in workers()[:1]:
                os.kill(pid, signal.SIGKILL)
        if self.victim != "worker":
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            if name == "fork_exec":
                real(*args)
            os.kill(os.getpid(), signal.SIGKILL)


if role() is not None:
    import _posixsubprocess
    import tempfile

    # Python tries the temporary folder by a file that a kill in that moment would leave; not ours to mend.
    tempfile.gettempdir()
    hook = Hook(os.environ.get("KILL_HOOK", "none:0:self"))
    for function in ("write", "replace", "fsync", "unlink", "mkdir"):
        hook.wrap(os, function)
    hook.wrap(_posixsubprocess, "fork_exec")
