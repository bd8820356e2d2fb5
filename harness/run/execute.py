"""One run on this machine: the real data, workers, monitors and folders around `harness.run.runner`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.bench import Bench
from harness.ledger import Ledger
from harness.machine.facts import capture
from harness.machine.preflight import preflight
from harness.machine.telemetry import Telemetry
from harness.options import BenchConfig, interpreter_of, interpreters
from harness.plan import Plan
from harness.processes.scratch import Scratch
from harness.processes.tools import Tools
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from harness.record.events import DatasetRecorded
from harness.record.run import RecordedRun, read_run
from harness.record.writer import RunWriter, StorageError
from harness.run.devices import check_data
from harness.run.finish import conclude
from harness.run.resume import check_machine
from harness.run.runner import Runner
from harness.run.start import Request
from harness.suites.weights import origin
from impls.data import datasets
from impls.data.array_cache import default_folder
from impls.devices import default_threads
from impls.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, UsageError
from impls.recipe.config import ExperimentConfig
from impls.registry import Arm
from impls.store.checkpoint import save_arrays
from impls.store.weights import Weights


@dataclass(frozen=True)
class Job:
    """A run as the command line resolved it.

    Attributes:
        config: the options.
        experiment: the resolved recipe.
        plans: what runs, part by part.
        device_reason: why on this device.
        command: the command line, for the record.
        resumed: the run that is continued, or None.
        given: weights that a sampling part samples from; None for random ones.
    """

    config: BenchConfig
    experiment: ExperimentConfig
    plans: tuple[Plan, ...]
    device_reason: str
    command: Sequence[str]
    resumed: RecordedRun | None = None
    given: Weights | None = None


def execute(job: Job, progress: Progress) -> int:
    """Run a job from data to report.

    Returns:
        The exit code.

    Raises:
        UsageError: something the user can mend; nothing is left behind unless something was measured.
        StorageError: the run folder cannot be written any more.
    """
    with Scratch() as scratch:
        return _execute(job, progress, scratch)


def _execute(job: Job, progress: Progress, scratch: Scratch) -> int:
    config, resumed, given, first = job.config, job.resumed, job.given, job.plans[0]
    threads, chosen = default_threads(), interpreters(config)
    environment, changed = capture(interpreters=chosen), None
    if resumed is not None:
        changed = check_machine(resumed, environment, config.allow_env_change)
    root = Path(config.data_root) if config.data_root else None
    for cache in (default_folder(), root or default_folder() / "data"):
        scratch.fills(cache)
    dataset = _dataset(config, job, progress) if any(plan.part.needs.images for plan in job.plans) else None
    for plan in job.plans:
        plan.part.check(given, dataset, resumed)
    if resumed is not None and dataset is not None:
        _check_dataset(resumed, dataset)
    request = Request(
        config=config, command=job.command, environment=environment,
        findings=[*preflight(environment), *(left for plan in job.plans for left in plan.part.remarks(config))],
        dataset=None if dataset is None else _recorded(dataset),
        device_reason=job.device_reason, resumed=resumed, plans=job.plans, changed=changed)

    def python(arm: Arm) -> str:
        return interpreter_of(arm, chosen, sys.executable)

    writer = _continued(resumed) if resumed else RunWriter.create(Path(config.out), first.suite.name)
    progress.say(f"run folder {writer.path}")
    scratch.writes(writer.path)
    sessions = LocalSessions(threads, scratch, python, watcher=progress)
    telemetry = Telemetry(writer, first.device)
    weights = scratch.path / "weights.safetensors"
    if given is not None:
        save_arrays(weights, given.params)
    ledger = Ledger(writer, progress, {slot: arm.name for slot, arm in first.arms}, scratch.neighbours)
    bench = Bench(
        plan=first, experiment=job.experiment, ledger=ledger, sessions=sessions, telemetry=telemetry, threads=threads,
        data_path=dataset.path if dataset else None, images=dataset.images if dataset else 0,
        dataset=dataset.name if dataset else "", weights=weights, weights_from=origin(given),
        tools=Tools(threads, python))
    return _run(Runner(bench, request), bench, telemetry, resumed)


def _continued(resumed: RecordedRun) -> RunWriter:
    """The journal of an interrupted run, as it was when it was read.

    Raises:
        UsageError: another process went on with it meanwhile, or still does.
    """
    writer = RunWriter(resumed.path)
    if len(read_run(resumed.path).events) != len(resumed.events):
        writer.close()
        raise UsageError(f"--resume {resumed.path}: another process went on with it meanwhile: look at it, then try "
                         "again")
    return writer


def _run(runner: Runner, bench: Bench, telemetry: Telemetry, resumed: RecordedRun | None) -> int:
    writer = bench.writer
    try:
        try:
            end = runner.run()
        finally:
            # A second Ctrl-C must not tear what the first one left to be done.
            restored = signal.signal(signal.SIGINT, signal.SIG_IGN)
            bench.sessions.close()
            telemetry.stop()
        signal.signal(signal.SIGINT, restored)
        writer.finish(end)
    except KeyboardInterrupt:
        if read_run(writer.path).started is None:
            # Nothing to go on with.
            writer.discard()
            raise
        writer.finish(runner.end("interrupted", EXIT_INTERRUPTED))
        print(f"\ninterrupted; go on with: run_bench.py --resume {writer.path}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (UsageError, StorageError) as error:
        if resumed is None and not bench.ledger.anything_measured:
            writer.discard()
            if isinstance(error, StorageError):
                raise UsageError(f"--out {writer.path.parent}: {error.reason}: give a folder with more room") from error
        elif isinstance(error, UsageError):
            # What was measured stays: this is a fault that came up on the way, such as a full disk for temporary files.
            writer.finish(runner.end("interrupted", EXIT_USAGE))
        raise
    except BaseException:
        with suppress(StorageError):
            writer.finish(runner.end("failed", EXIT_FAILED))
        raise
    code = max(end.exit_code, conclude(writer.path, bench.progress.say))
    writer.summarise()
    writer.close()
    return code


def _dataset(config: BenchConfig, job: Job, progress: Progress) -> datasets.Dataset:
    """The images, which fit the network.

    Raises:
        UsageError: they cannot be had, are fewer than a batch, or have another shape.
    """
    dataset = datasets.prepare(config.dataset, Path(config.data_root) if config.data_root else None, echo=progress.say)
    model = job.experiment.model
    check_data(max(plan.part.batch_size(job.experiment) for plan in job.plans), dataset.images, dataset.shape,
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
