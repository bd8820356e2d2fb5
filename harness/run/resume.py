"""`--resume RUN`: go on with an interrupted run, exactly as it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import PROG
from harness.options import ABOUT, FREE_ON_RESUME, BenchConfig, check_threads
from harness.plan import make_plans
from harness.record.events import EnvironmentRecorded, Finding, PairRecorded, RunStarted
from harness.record.findings import ENVIRONMENT_CHANGED
from harness.record.run import RecordedRun, finished_blocks, read_run, report_due
from harness.run.aliases import written_out
from harness.run.resolve import Job, asked_of, check_places, given_pair, given_weights
from impls.errors import UsageError
from impls.pair.file import PairFile
from impls.recipe.config import validated
from impls.registry import Device
from impls.tools.cli import alias, command_line
from messages import choice, recorded, recorded_plural, speaking, tell


@dataclass(frozen=True)
class Resumption:
    """An interrupted run, its first line, and the options of its continuation."""

    run: RecordedRun
    started: RunStarted
    options: BenchConfig


def resumption(argv: Sequence[str]) -> Resumption:
    """What a command line with `--resume` continues; a complete run where only its report is missing.

    Raises:
        UsageError: no such run, nothing left to do, or options that differ from those of the run, all of them named.
    """
    words = [alias(word) for word in argv]
    asked = command_line(words, BenchConfig(), PROG, ABOUT)
    path = Path(asked.resume or "")
    run = read_run(path)
    started = run.started
    if started is None:
        raise UsageError(tell("--resume {path}: the first line of its journal is damaged: start a new run", path=path))
    if run.status == "complete" and not report_due(path):
        raise UsageError(tell("--resume {path}: that run is complete: nothing is left to do", path=path))
    before = _options(path, started)
    if asked.config is not None:
        raise UsageError(tell("--resume {path}: takes its configuration from the run: leave --config out", path=path))
    # What an arm stood for stays, whatever it would stand for now.
    config = written_out(command_line(words, before, PROG), started.declared.get("aliases") or {})
    changed = [tell("{option} was {before}, not {now}", option=f"--{name.replace('_', '-')}",
                    before=repr(getattr(before, name)), now=repr(getattr(config, name)))
               for name in BenchConfig.model_fields
               if name not in FREE_ON_RESUME and getattr(config, name) != getattr(before, name)]
    if changed:
        raise UsageError(choice(
            len(changed),
            "--resume {path}: the options of that run cannot change: {changed}: leave it out or start a new run",
            "--resume {path}: the options of that run cannot change: {changed}: leave them out or start a new run",
            path=path, changed="; ".join(changed)))
    check_threads(config)
    return Resumption(run, started, config)


def go_on(resumed: Resumption, command: Sequence[str]) -> Job:
    """The job of a run that goes on: device and recipe are those that it recorded.

    Raises:
        UsageError: its weights cannot be read any more, or its recipe cannot be understood.
    """
    options, declared = resumed.options, resumed.started.declared
    recipe = validated(resumed.started.experiment, f"{resumed.run.path}: experiment")  # English
    check_places(options)
    given, pair = given_weights(options), given_pair(options)
    _check_pair(resumed.run, pair)
    device: Device = "cuda" if declared.get("device") == "cuda" else "cpu"
    plans = make_plans(asked_of(options, device, recipe, {}, declared))
    return Job(options, recipe, plans, recorded("as before the interruption"), command, given, resumed.run, pair=pair,
               aliases=declared.get("aliases") or {})


def _check_pair(run: RecordedRun, pair: PairFile | None) -> None:
    """Refuse to go on with other models than those that the run began with."""
    before = run.last(PairRecorded)
    if pair is None or before is None or before.files == dict(pair.hashes):
        return
    changed = [name for name in (before.files | dict(pair.hashes)) if before.files.get(name) != pair.hashes.get(name)]
    raise UsageError(tell("--resume {run}: {files} of the pair {pair} changed since: start a new run, or bring the old "
                          "file back", run=run.path, files=", ".join(changed), pair=pair.path))


def check_machine(run: RecordedRun, now: EnvironmentRecorded, allowed: bool = False) -> Finding | None:
    """Refuse to go on where facts that must match have changed since the run last went on.

    Args:
        run: the interrupted run.
        now: the machine as it is.
        allowed: whether the user accepts another machine.

    Returns:
        What has changed, for the journal, where that is allowed; None where nothing has.

    Raises:
        UsageError: something has changed, all of it named, and that is not allowed.
    """
    before, done = run.last(EnvironmentRecorded), len(finished_blocks(run))
    if before is None and not done:
        return None
    changed = _changed(before, now)
    if not changed:
        return None
    if not allowed:
        raise UsageError(tell("--resume {path}: the environment has changed: {changed}: start a new run, or accept it "
                              "with --allow-env-change", path=run.path, changed=changed))
    with speaking("en"):
        changed = _changed(before, now)
    return ENVIRONMENT_CHANGED.found(recorded("the run went on in another environment, after {blocks}: {changed}",
                                              blocks=recorded_plural(done, "finished block"), changed=changed))


def _changed(before: EnvironmentRecorded | None, now: EnvironmentRecorded) -> str:
    """What is not as it was; empty where everything is."""
    if before is None:
        return tell("the line that told of it is lost, so that nothing can be compared")
    return "; ".join(tell("{name} was {before}, is {now}", name=name, before=_fact(name, before), now=_fact(name, now))
                     for name in before.starred if before.facts.get(name) != now.facts.get(name))


def _fact(name: str, machine: EnvironmentRecorded) -> str:
    fact = machine.facts.get(name)
    if fact is None:
        return tell("not set") if name.startswith("env_") else tell("unknown")
    return repr(fact[:12] if name.endswith("_sha256") and isinstance(fact, str) else fact)


def _options(path: Path, started: RunStarted) -> BenchConfig:
    data: dict[str, Any] = {**started.bench, "resume": None, "allow_env_change": False, "quiet": False,
                            "dry_run": False, "config": None}
    try:
        return BenchConfig.model_validate(data)
    except ValidationError as error:
        raise UsageError(tell("--resume {path}: that run was made by another version of this program: start a new run",
                              path=path)) from error
