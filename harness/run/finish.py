"""The end of a run: its report, which tells the terminal what it shows, and its place in the index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

from harness.processes.scratch import Scratch
from harness.record.events import RunEnded
from harness.record.writer import RunWriter
from impls.errors import EXIT_FAILED, EXIT_OK
from messages import VARIABLE, language, tell


def conclude(path: Path, say: Callable[[str], None]) -> int:
    """Build the report of a finished run, which tells its verdicts; 1 when building fails, which is our own fault.

    Args:
        path: the run folder.
        say: shows progress.
    """
    say(tell("building the report"))
    if not (report_command("build", path) and report_command("index", path.parent)):
        print(tell("the report could not be built; the measurements are safe in {path}", path=path), file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def mend(path: Path, say: Callable[[str], None]) -> int:
    """Give a finished run the report that it lacks; returns its exit code, or 1 when building fails.

    Raises:
        UsageError: another process is still at it.
    """
    say(tell("{path} is complete but for its report", path=path))
    # Killed while it builds, it leaves as little as a run does, and takes away what was left before.
    with Scratch() as scratch, closing(RunWriter(path)) as writer:
        scratch.writes(path)
        writer.summarise()
        end = writer.run.last(RunEnded)
        code = max(end.exit_code if end else EXIT_OK, conclude(path, say))
        writer.summarise()
        return code


def report_command(verb: Literal["build", "index"], folder: Path) -> bool:
    """Have the reports package do its work in a process of its own, since the harness must not depend on it."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "reports", verb, str(folder.resolve())]
    # Words for people in the one encoding that has them all, whatever this terminal's is.
    done = subprocess.run(command, cwd=root, check=False, stdout=subprocess.PIPE, encoding="utf-8",
                          errors="surrogateescape", env={**os.environ, "PYTHONIOENCODING": "utf-8:surrogateescape",
                               VARIABLE: language()})
    if verb == "build":
        print(done.stdout, end="")
    return done.returncode == 0
