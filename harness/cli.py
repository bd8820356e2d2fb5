"""The command line: options in, one run out, every fault of the user in one line with exit code 2."""

from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.options import PROG, BenchConfig, experiment, interpreter_of, interpreters, parse
from harness.plan import Plan, declared, describe, make_plans
from harness.progress import Progress
from harness.record.writer import StorageError
from harness.run.devices import probe_with, resolve
from harness.suites.registry import SUITES
from harness.suites.weights import model_paths
from impls.devices import cuda_driver_fault, default_threads
from impls.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, UsageError
from impls.recipe.config import ExperimentConfig
from impls.registry import Arm, Device, parse_arms
from impls.tools.cli import alias, said

if TYPE_CHECKING:
    from harness.processes.workers import LocalSessions
    from harness.run.resume import Resumption
    from impls.store.weights import Weights

# The disk, not the program, is at fault.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 measured, 1 not all of it, 2 bad input, 130 interrupted.

    1 is for a failed case, and for a disk that takes no more: what was measured is kept, and `--resume` goes on.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _main(words)
    except UsageError as error:
        return _fault(str(error), EXIT_USAGE)
    except StorageError as error:
        return _fault(str(error), EXIT_FAILED)
    except OSError as error:
        return _os_fault(error)
    except KeyboardInterrupt:
        print(f"\n{PROG}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_OK


def _os_fault(error: OSError) -> int:
    if error.errno == errno.ENAMETOOLONG:
        return _fault(f"{str(error.filename)[:60]}...: the name is too long: choose a shorter one", EXIT_USAGE)
    if error.errno not in DISK_FAULTS:
        raise error
    return _fault(f"{error.filename or 'the disk'}: {error.strerror}: make room on the disk; what was measured is "
                  "kept, see the run folder", EXIT_FAILED)


def _fault(message: str, code: int) -> int:
    print(f"{PROG}: error: {said(message)}", file=sys.stderr)
    return code


def _main(words: list[str]) -> int:
    resumed: Resumption | None = None
    overrides: dict[str, Any] = {}
    if any(alias(word).partition("=")[0] == "--resume" for word in words):
        from harness.run.resume import resumption

        resumed = resumption(words)
        config = resumed.config
    else:
        config, overrides = parse(words)
    progress = Progress(config.quiet)
    if resumed is not None and resumed.run.status == "complete":
        return _mend(resumed.run.path, config.dry_run, progress)
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
    before = resumed.run.started.declared if resumed is not None and resumed.run.started else None
    plans = make_plans(config, device, recipe.diffusion.T, overrides, before)
    if config.dry_run:
        print(dry_run(config, recipe, plans, reason))
        return 0
    from harness.run.execute import Job, execute

    command = [sys.executable, *([sys.argv[0]] if sys.argv and sys.argv[0] else []), *words]
    return execute(Job(config, recipe, plans, reason, command, resumed.run if resumed else None, given),
                   progress)


def _mend(path: Path, dry: bool, progress: Progress) -> int:
    if dry:
        print(f"{path}: complete but for its report, which would be built")
        return 0
    from harness.run.finish import mend

    return mend(path, progress.say)


def dry_run(config: BenchConfig, recipe: ExperimentConfig, plans: Sequence[Plan], reason: str) -> str:
    """The plan and the resolved configuration."""
    resolved = {"bench": config.model_dump(mode="json"), "experiment": recipe.model_dump(mode="json"),
                "declared": declared(plans), "threads": default_threads()}
    for plan in plans:
        resolved |= {name: own.model_dump(mode="json")["train"] for name, own in plan.part.recipes().items()}
    described = "\n".join(describe(plan, recipe) for plan in plans)
    return f"{described}\ndevice: {reason}\n{json.dumps(resolved, indent=2)}"


def _weights(config: BenchConfig) -> Weights | None:
    """What a sampling suite takes its weights from; None for random ones.

    Raises:
        CheckpointError: it cannot be read.
        UsageError: weights of several arms where all must sample from the same.
    """
    if not config.model_path:
        return None
    from impls.store.weights import load_weights

    paths = list(dict.fromkeys(model_paths(config, parse_arms(config.arms)).values()))
    for why in (part.refusal(config) for part in SUITES[config.suite].parts):
        if why:
            raise UsageError(why)
    found = [load_weights(path) for path in paths]
    shapes = {(weights.config.model.image_size, weights.config.model.image_channels) for weights in found}
    if len(shapes) > 1:
        raise UsageError("--model-path: the networks draw images of different sizes, which cannot be compared")
    return found[0]


def _device(config: BenchConfig, progress: Progress) -> tuple[Device, str]:
    arms = parse_arms(config.arms)
    opened = ExitStack()
    sessions: LocalSessions | None = None

    def probe(arm: Arm) -> str | None:
        nonlocal sessions
        from harness.processes.scratch import Scratch
        from harness.processes.workers import LocalSessions

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

