"""The end of a run: its verdicts on the terminal, its report, its place in the index."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

from harness.judge.selfcheck import CODES
from harness.judge.verdicts import sentence
from harness.processes.scratch import Scratch
from harness.record.events import Finding, Quality, RunEnded, Verdict
from harness.record.run import latest_cases, read_run
from harness.record.writer import RunWriter
from harness.suites.quality.part import sentence as quality_sentence

EXIT_OK, EXIT_FAILED = 0, 1


def conclude(path: Path, say: Callable[[str], None]) -> int:
    """Build the report of a finished run and print its verdicts; 1 when building fails, which is our own fault.

    Args:
        path: the run folder.
        say: shows progress.
    """
    run = read_run(path)
    for verdict in run.of(Verdict):
        print(sentence(verdict, run.arms))
    for result in run.of(Quality):
        print(quality_sentence(result, run.arms.get(result.arm, result.arm)))
    if run.started is not None and run.started.bench.get("selfcheck"):
        found = [finding for finding in run.of(Finding) if finding.code in CODES]
        for finding in sorted(found, key=lambda one: (one.arm or "", CODES.index(one.code))):
            print(f"self-check: {finding.message}")
    for case in latest_cases(run):
        if case.status == "failed":
            print(f"failed: {case.case_id}: {case.reason}")
    say("building the report")
    if not (report_command("build", path) and report_command("index", path.parent)):
        print(f"the report could not be built; the measurements are safe in {path}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def mend(path: Path, say: Callable[[str], None]) -> int:
    """Give a finished run the report that it lacks; returns its exit code, or 1 when building fails.

    Raises:
        UsageError: another process is still at it.
    """
    say(f"{path} is complete but for its report")
    # Killed while it builds, it leaves as little as a run does, and takes away what was left before.
    with Scratch() as scratch, closing(RunWriter(path)) as writer:
        scratch.writes(path)
        writer.summarise()
        end = read_run(path).last(RunEnded)
        code = max(end.exit_code if end else EXIT_OK, conclude(path, say))
        writer.summarise()
        return code


def report_command(verb: Literal["build", "index"], folder: Path) -> bool:
    """Have the reports package do its work in a process of its own, since the harness must not depend on it."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "reports", verb, str(folder.resolve())]
    done = subprocess.run(command, cwd=root, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode == 0 and verb == "build":
        print(done.stdout, end="")
    return done.returncode == 0
