"""One run on this machine: the real data, workers, monitors and folders around `harness.runner`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.bench import Bench
from harness.checks import preflight
from harness.config import BenchConfig, interpreter_of, interpreters
from harness.devices import check_data
from harness.environment import capture
from harness.events import DatasetRecorded, Finding
from harness.plan import Plan
from harness.progress import Progress
from harness.resume import check_machine, check_weights, origin
from harness.runner import EXIT_INTERRUPTED, Request, Runner, conclude
from harness.scratch import Scratch
from harness.sessions import LocalSessions
from harness.store import RecordedRun, RunWriter
from harness.telemetry import MonitorSet
from impls.common import datasets
from impls.common.checkpoint import save_arrays
from impls.common.config import ExperimentConfig
from impls.common.devices import default_threads
from impls.common.weights import Weights
from impls.errors import UsageError


def execute(config: BenchConfig, experiment: ExperimentConfig, plan: Plan, device_reason: str, command: Sequence[str],
            progress: Progress, resumed: RecordedRun | None, given: Weights | None = None) -> int:
    """Run a plan from data to report; `given` are the weights to sample from, None for random ones.

    Returns:
        The exit code.

    Raises:
        UsageError: something the user can mend; nothing is left behind.
    """
    with Scratch() as scratch:
        return _execute(config, experiment, plan, device_reason, command, progress, resumed, given, scratch)


def _execute(config: BenchConfig, experiment: ExperimentConfig, plan: Plan, device_reason: str, command: Sequence[str],
             progress: Progress, resumed: RecordedRun | None, given: Weights | None, scratch: Scratch) -> int:
    dataset = None if plan.cells else _dataset(config, experiment, progress)
    environment = capture()
    if resumed is not None:
        check_machine(resumed, environment)
        check_weights(resumed, given)
        if dataset is not None:
            _check_dataset(resumed, dataset)
    request = Request(
        config=config, command=command, environment=environment,
        findings=[*preflight(environment), *left_out(config, plan)],
        dataset=None if dataset is None else _recorded(dataset),
        device_reason=device_reason, resumed=resumed)
    threads, chosen = default_threads(), interpreters(config)
    writer = RunWriter(resumed.path) if resumed else RunWriter.create(Path(config.out), plan.suite.name)
    progress.say(f"run folder {writer.path}")
    scratch.writes(writer.path)
    sessions = LocalSessions(threads, scratch, lambda arm: interpreter_of(arm, chosen, sys.executable),
                             watcher=progress)
    telemetry = MonitorSet(writer, plan.device)
    weights = scratch.path / "weights.safetensors"
    if given is not None:
        save_arrays(weights, given.params)
    bench = Bench(
        plan=plan, experiment=experiment, data_path=dataset.path if dataset else None,
        images=dataset.images if dataset else 0, threads=threads, writer=writer, sessions=sessions,
        progress=progress, telemetry=telemetry, window_steps=None if plan.cells else config.step_count,
        epochs=config.epochs, weights=weights, weights_from=origin(given), neighbours=scratch.neighbours)
    return _run(Runner(bench, request), bench, telemetry, resumed)


def left_out(config: BenchConfig, plan: Plan) -> list[Finding]:
    """What the default cells of a sampling suite do not cover."""
    if not plan.cells or config.steps is not None or any(cell.method == "ddpm" for cell in plan.cells):
        return []
    return [Finding(severity="info", code="no-ddpm", advice="--steps 10,50,ddpm adds it",
                    message="DDPM is not among the default cells on the CPU: its network calls, one for every "
                            "diffusion step, take minutes a batch there")]


def _run(runner: Runner, bench: Bench, telemetry: MonitorSet, resumed: RecordedRun | None) -> int:
    writer = bench.writer
    try:
        try:
            telemetry.start()
            end = runner.run()
        finally:
            # A second Ctrl-C must not tear what the first one left to be done.
            restored = signal.signal(signal.SIGINT, signal.SIG_IGN)
            bench.sessions.close()
            telemetry.stop()
        signal.signal(signal.SIGINT, restored)
        writer.finish(end)
    except KeyboardInterrupt:
        writer.finish(runner.end("interrupted", EXIT_INTERRUPTED))
        print(f"\ninterrupted; go on with: run_bench.py --resume {writer.path}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UsageError:
        if resumed is None:
            writer.discard()
        raise
    except BaseException:
        writer.finish(runner.end("failed", 1))
        raise
    code = max(end.exit_code, conclude(writer.path, bench.progress.say))
    writer.summarise()
    writer.close()
    return code


def _dataset(config: BenchConfig, experiment: ExperimentConfig, progress: Progress) -> datasets.Dataset:
    """The images, which fit the network.

    Raises:
        UsageError: they cannot be had, are fewer than a batch, or have another shape.
    """
    dataset = datasets.prepare(config.dataset, Path(config.data_root) if config.data_root else None, echo=progress.say)
    model = experiment.model
    check_data(experiment.train.batch_size, dataset.images, dataset.shape,
               (model.image_size, model.image_size, model.image_channels))
    return dataset


def _recorded(dataset: datasets.Dataset) -> DatasetRecorded:
    """A data set for the journal."""
    return DatasetRecorded(name=dataset.name, images=dataset.images, shape=list(dataset.shape), sha256=dataset.sha256,
                           why=dataset.why)


def _check_dataset(resumed: RecordedRun, dataset: datasets.Dataset) -> None:
    before = resumed.last(DatasetRecorded)
    if before is not None and before.sha256 != dataset.sha256:
        raise UsageError(f"--resume {resumed.path}: it used the data set {before.name} ({before.sha256[:12]}), "
                         f"this is {dataset.name} ({dataset.sha256[:12]}): give the same --data-root")
