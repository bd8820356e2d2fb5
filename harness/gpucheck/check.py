"""Runs the parts of a check one after another: a failure costs its own line, and what is done is not done again."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from harness.gpucheck.parts import Part, probe_of
from harness.gpucheck.summary import GROUND, STATUSES, Result, Status, markdown, uuid_of
from harness.machine.facts import capture
from harness.processes.launcher import launch
from harness.processes.session import log_tail
from harness.progress import Progress
from harness.record.events import Case, EnvironmentRecorded, Finding, Verdict
from harness.record.findings import TIME_LIMIT
from harness.record.run import RecordedRun, finished_blocks, read_run
from impls.errors import EXIT_FAILED, EXIT_OK, UsageError, cause
from impls.store.files import whole_file
from messages import recorded, shown, tell

STOP_S = 60.0


class Check:
    """Runs parts one after another into a folder of evidence.

    Args:
        folder: where everything goes.
        progress: told what happens.
        environment: of every command.
    """

    def __init__(self, folder: Path, progress: Progress, environment: Mapping[str, str]) -> None:
        self._folder, self._progress, self._environment = folder, progress, environment
        self._facts = capture()
        self._results: dict[str, Result] = {}
        self._before = {path.stem: _read(path) for path in (folder / "parts").glob("*.json")}
        self._check_machine()
        _write(folder / "machine.json", self._facts.model_dump_json(indent=1))
        for name in ("parts", "logs", "runs"):
            (folder / name).mkdir(exist_ok=True)
        self._nvidia_smi()

    def run(self, parts: Iterable[Part]) -> int:
        """Everything that is not done yet; 1 when a part failed."""
        for part in parts:
            result = self._results[part.name] = self._result(part)
            _write(self._folder / "parts" / f"{part.name}.json", json.dumps(asdict(result), indent=1))
            _write(self._folder / "summary.md", markdown(self._folder, self._facts, list(self._results.values())))
            self._progress.say(f"{part.name}: {tell(STATUSES[result.status])}, {shown(result.told)}")
        failed = any(result.status == "failed" for result in self._results.values())
        return EXIT_FAILED if failed else EXIT_OK

    def _check_machine(self) -> None:
        """Evidence of one folder is of one GPU.

        Raises:
            UsageError: it holds another one's.
        """
        with suppress(OSError, ValueError):
            there = EnvironmentRecorded.model_validate_json((self._folder / "machine.json").read_text(encoding="utf-8"))
            before, now = uuid_of(there), uuid_of(self._facts)
            if before != now:
                raise UsageError(tell("{folder} holds the evidence of another GPU ({before}, not {now}): move it away, "
                                      "or give --out", folder=self._folder, before=before, now=now))

    def _nvidia_smi(self) -> None:
        """What the driver tells in its own words; a machine without the tool has the facts all the same."""
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(["nvidia-smi", "-q"], capture_output=True, text=True, errors="replace", check=False,
                                  timeout=STOP_S)
            _write(self._folder / "nvidia-smi.txt", told.stdout + told.stderr)

    def _result(self, part: Part) -> Result:
        arms = [arm for arm in part.arms if self._works(arm)]
        out = self._folder / "runs" / part.name
        words = part.command.format(arms=",".join(arms), out=shlex.quote(str(out)))
        settings = ["env", *(f"{name}={value}" for name, value in part.settings.items())] if part.settings else []
        command = [*settings, sys.executable, *shlex.split(words)]
        ground = {name: self._facts.facts.get(name) for name in GROUND}
        if part.arms and not arms:
            return Result(part.name, part.what, command, ground, "skipped", 0.0, recorded("none of its arms works"))
        before = self._before.get(part.name)
        if before is not None and before.status == "done" and (before.command, before.ground) == (command, ground) and (
                before.run is None or (self._folder / before.run).is_dir()):
            return before
        self._progress.say(f"{part.name}: {shown(part.what)}")
        # What an earlier try left is no evidence.
        shutil.rmtree(out, ignore_errors=True)
        log = self._log(part.name)
        log.unlink(missing_ok=True)
        began = time.monotonic()
        code = self._execute(part, command, log)
        run = next(iter(sorted(out.glob("*/journal.jsonl"))), None)
        status, told = _outcome(code, log, None if run is None else read_run(run.parent))
        return Result(part.name, part.what, command, ground, status, round(time.monotonic() - began, 1), told,
                      None if run is None else str(run.parent.relative_to(self._folder)))

    def _execute(self, part: Part, command: Sequence[str], log: Path) -> int | None:
        """The exit status of a command; None when it took too long."""
        began = time.monotonic()
        code: int | None = None
        handle = launch(command, self._environment, log)
        try:
            while (code := handle.wait(1.0)) is None:
                waited = time.monotonic() - began
                self._progress.tick(part.name, waited)
                if waited > part.limit_s:
                    break
        finally:
            if code is None:
                handle.ask_to_end()
                handle.wait(STOP_S)
            handle.kill()
        return code

    def _works(self, arm: str) -> bool:
        """Whether an arm takes part: its probe worked."""
        probe = self._results.get(probe_of(arm))
        return probe is not None and probe.status == "done"

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"


def _outcome(code: int | None, log: Path, run: RecordedRun | None) -> tuple[Status, str]:
    """How a part ended, and one line about it, in English."""
    lines = log_tail(log, 400)
    if run is not None and code is not None:
        faults = [f"{run.arms.get(str(case.arm), case.case_id)}: {case.reason}" for case in run.of(Case)
                  if case.status == "failed"]
        # Arms of one number format that may not be compared after all; of several formats they never may.
        faults = faults or [f"{run.arms.get(one.arm_a)} and {run.arms.get(one.arm_b)}: {one.reason}"  # English
                            for one in run.of(Verdict) if one.word == "not-comparable" and one.precision]
        if faults:
            return "failed", "; ".join(dict.fromkeys(faults))
        blocks = len(finished_blocks(run))
        # A short run is ended by its time limit, as it was asked to be.
        timed_out = any(finding.code == TIME_LIMIT.code for finding in run.of(Finding))
        if code == EXIT_OK or (timed_out and blocks):
            ratios = [recorded("{ratio} (not comparable)", ratio=told) if one.word == "not-comparable" else told
                      for one in run.of(Verdict) if one.ratio is not None for told in [
                          f"{one.metric}: {run.arms.get(one.arm_a)} / {run.arms.get(one.arm_b)} {one.ratio:.3f}"]]
            return "done", "; ".join([recorded("blocks measured: {blocks}", blocks=blocks) if blocks else
                                       recorded("measured"), *ratios])
        if timed_out:
            return "failed", recorded("its time limit came before the first block ended")
    if code == EXIT_OK:
        return "done", lines[-1].strip() if lines else recorded("done")
    if code is None:
        return "failed", recorded("it took too long")
    refused = next((line for line in reversed(lines) if ": error: " in line), None)
    crash = next((line for line in lines if line.startswith("Fatal Python error: ")), None)  # English
    return "failed", recorded("exit status {status}: {why}", status=code,
                              why=refused or cause(lines) or crash or (lines or [recorded("no word")])[-1])


def _read(path: Path) -> Result | None:
    """A part's result of an earlier check; None where it cannot be understood."""
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
