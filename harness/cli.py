"""The command line: options in, one run out, every fault of the user in one line with exit code 2."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.config import PROG, BenchConfig, experiment, interpreter_of, interpreters, parse
from harness.devices import probe_with, resolve
from harness.plan import Plan, describe, make_plan
from harness.progress import Progress
from impls.common.cli import alias
from impls.common.config import ExperimentConfig
from impls.common.devices import cuda_driver_fault, default_threads
from impls.errors import UsageError
from impls.registry import Arm, Device, parse_arms

if TYPE_CHECKING:
    from harness.resume import Resumption
    from harness.sessions import LocalSessions
    from impls.common.weights import Weights

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 measured, 1 some case failed, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _main(words)
    except UsageError as error:
        print(f"{PROG}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"\n{PROG}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def _main(words: list[str]) -> int:
    resumed: Resumption | None = None
    overrides: dict[str, Any] = {}
    if any(alias(word).partition("=")[0] == "--resume" for word in words):
        from harness.resume import resumption

        resumed = resumption(words)
        config = resumed.config
    else:
        config, overrides = parse(words)
    progress = Progress(config.quiet)
    if resumed is not None:
        device: Device = "cuda" if resumed.device == "cuda" else "cpu"
        reason, recipe = "as before the interruption", resumed.experiment
    else:
        device, reason = _device(config, progress)
        recipe = experiment(config, overrides, device)
    given = _weights(config)
    if given is not None and resumed is None:
        known = {name: getattr(given.config, name) for name in ("preset", "model", "diffusion")}
        recipe = recipe.model_copy(update=known)
    plan = make_plan(config, device, recipe.diffusion.T)
    if config.dry_run:
        print(dry_run(config, recipe, plan, reason))
        return 0
    from harness.local import execute

    command = [sys.executable, *([sys.argv[0]] if sys.argv and sys.argv[0] else []), *words]
    return execute(config, recipe, plan, reason, command, progress, resumed.run if resumed else None, given)


def dry_run(config: BenchConfig, recipe: ExperimentConfig, plan: Plan, reason: str) -> str:
    """The plan and the resolved configuration."""
    resolved = {"bench": config.model_dump(mode="json"), "experiment": recipe.model_dump(mode="json"),
                "declared": plan.declared(), "threads": default_threads()}
    return f"{describe(plan, recipe)}\ndevice: {reason}\n{json.dumps(resolved, indent=2)}"


def _weights(config: BenchConfig) -> Weights | None:
    """What `--model-path` names; None without it.

    Raises:
        CheckpointError: it cannot be read.
    """
    if config.model_path is None:
        return None
    from pathlib import Path

    from impls.common.weights import load_weights

    return load_weights(Path(config.model_path))


def _device(config: BenchConfig, progress: Progress) -> tuple[Device, str]:
    arms = parse_arms(config.arms)
    opened = ExitStack()
    sessions: LocalSessions | None = None

    def probe(arm: Arm) -> str | None:
        nonlocal sessions
        from harness.scratch import Scratch
        from harness.sessions import LocalSessions

        if sessions is None:
            chosen = interpreters(config)
            sessions = LocalSessions(default_threads(), opened.enter_context(Scratch()),
                                     lambda a: interpreter_of(a, chosen, sys.executable), watcher=progress)
            opened.callback(sessions.close)
        return probe_with(sessions, default_threads(), progress.say)(arm)

    with opened:
        device, reason = resolve(config.device, arms, cuda_driver_fault, probe)
    if not config.dry_run:
        progress.say(f"device {device}: {reason}")
    return device, reason


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt

