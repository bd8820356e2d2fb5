"""One run on this machine: the real data, workers, monitors and folders around `harness.run.runner`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from harness.bench import Bench
from harness.ledger import Ledger
from harness.machine.facts import capture
from harness.machine.preflight import preflight, unused_gpu
from harness.machine.telemetry import Telemetry
from harness.processes.scratch import Scratch
from harness.processes.tools import Tools
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from harness.record.events import DatasetRecorded
from harness.record.run import RecordedRun
from harness.record.writer import RunWriter
from harness.run import account, aliases
from harness.run.finish import conclude
from harness.run.resolve import Job, fitted
from harness.run.resume import check_machine
from harness.run.runner import Runner
from harness.run.start import Opening
from harness.suites.weights import origin
from impls.data import datasets
from impls.data.array_cache import default_folder
from impls.devices import has_driver
from impls.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, StorageError, UsageError
from impls.recipe.config import require_text
from impls.store.checkpoint import save_arrays
from messages import tell


def execute(job: Job, progress: Progress) -> int:
    """Run a job from data to report.

    Returns:
        The exit code.

    Raises:
        UsageError: something the user can mend; nothing is left behind unless something was measured.
        StorageError: the run folder cannot be written any more.
    """
    require_text(str(default_folder()), "XDG_CACHE_HOME")
    with Scratch() as scratch:
        return _execute(job, progress, scratch)


def _execute(job: Job, progress: Progress, scratch: Scratch) -> int:
    options, resumed = job.options, job.resumed
    threads, changed = options.cpu_threads, None
    environment = capture(interpreters=options.interpreters, threads=threads)
    if resumed is not None:
        changed = check_machine(resumed, environment, options.allow_env_change)
    for cache in (default_folder(), Path(options.data_root or default_folder() / "data")):
        scratch.fills(cache)
    dataset = _dataset(job, progress) if any(plan.part.takes_images(job.recipe) for plan in job.plans) else None
    if dataset is not None:
        job = fitted(job, dataset.shape[-1])
        model = job.recipe.model
        batches = [plan.part.batch_sizes(job.recipe).get("train", 1) for plan in job.plans]
        check_data(max(batches), dataset.images, dataset.shape,
                   (model.image_size, model.image_size, model.image_channels))
    first = job.plans[0]
    for plan in job.plans:
        plan.part.check(job.given, dataset, resumed)
    if resumed is not None and dataset is not None:
        _check_dataset(resumed, dataset)
    opening = Opening(
        job, environment, None if dataset is None else _recorded(dataset), changed=changed,
        findings=[*aliases.findings(job.aliases, first.device, first.suite.job),
                  *preflight(environment, options.threads is not None),
                  *unused_gpu(options.device, first.device, job.device_reason, has_driver()),
                  *(one for plan in job.plans for one in plan.part.remarks(options))])
    writer = _continued(resumed) if resumed else RunWriter.create(Path(options.out), first.suite.name)
    progress.say(tell("run folder {path}", path=writer.path))
    scratch.writes(writer.path)
    sessions = LocalSessions(threads, scratch, options.python, watcher=progress)
    telemetry = Telemetry(writer, first.device)
    weights = scratch.path / "weights.safetensors"
    if job.given is not None:
        save_arrays(weights, job.given.params)
    ledger = Ledger(writer, progress, {slot: arm.name for slot, arm in first.arms}, scratch.neighbours)
    bench = Bench(
        plan=first, experiment=job.recipe, ledger=ledger, sessions=sessions, telemetry=telemetry, threads=threads,
        data_path=dataset.path if dataset else None, images=dataset.images if dataset else 0,
        dataset=dataset.name if dataset else "", weights=weights, weights_from=origin(job.given),
        tools=Tools(threads, options.python))
    return _run(Runner(bench, opening), bench, telemetry, resumed)


def _continued(resumed: RecordedRun) -> RunWriter:
    """The journal of an interrupted run, as it was when it was read.

    Raises:
        UsageError: another process went on with it meanwhile, or still does.
    """
    writer = RunWriter(resumed.path)
    if len(writer.run.events) != len(resumed.events):
        writer.close()
        raise UsageError(tell("--resume {path}: another process went on with it meanwhile: look at it, then try again",
                              path=resumed.path))
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
        if writer.run.started is None:
            # Nothing to go on with.
            writer.discard()
            raise
        writer.finish(runner.end("interrupted", EXIT_INTERRUPTED))
        print("\n" + tell("interrupted; go on with: run_bench.py --resume {path}", path=quote(str(writer.path))),
              file=sys.stderr)
        return EXIT_INTERRUPTED
    except (UsageError, StorageError) as error:
        if resumed is None and not bench.ledger.anything_measured:
            writer.discard()
            if isinstance(error, StorageError):
                raise UsageError(tell("--out {path}: {reason}: give a folder with more room", path=writer.path.parent,
                                      reason=error.reason)) from error
        elif isinstance(error, UsageError):
            # What was measured stays: this is a fault that came up on the way, such as a full disk for temporary files.
            writer.finish(runner.end("interrupted", EXIT_USAGE))
        raise
    except BaseException:
        with suppress(StorageError):
            writer.finish(runner.end("failed", EXIT_FAILED))
        raise
    began = bench.clock()
    code = max(end.exit_code, conclude(writer.path, bench.progress.say))
    for line in account.lines(writer.run, bench.clock() - began, account.installed_s()):
        bench.progress.say(line)
    if end.status == "interrupted":
        print(tell("the time limit ended the run; go on with: run_bench.py --resume {path}",
                   path=quote(str(writer.path))), file=sys.stderr)
    writer.summarise()
    writer.close()
    return code


def _dataset(job: Job, progress: Progress) -> datasets.Dataset:
    """The images, with as many channels as the network where these are settled.

    Raises:
        UsageError: they cannot be had, or have other channels.
    """
    options = job.options
    return datasets.prepare(options.dataset, Path(options.data_root) if options.data_root else None,
                            echo=progress.say, channels=job.channels)


def check_data(batch_size: int, images: int, image_shape: Sequence[int], model_shape: Sequence[int]) -> None:
    """Refuse data that the experiment cannot train on.

    Raises:
        UsageError: the batch is larger than the data set, or the images do not have the network's shape.
    """
    if batch_size > images:
        raise UsageError(tell("--batch-size {size}: the data set has only {images} images: choose at most {images}",
                              size=batch_size, images=images))
    if list(image_shape) != list(model_shape):
        raise UsageError(tell(
            "the data set's images are {images}, the network's are {network}: choose another data set or another "
            "model.image_size", images="x".join(map(str, image_shape)), network="x".join(map(str, model_shape))))


def _recorded(dataset: datasets.Dataset) -> DatasetRecorded:
    """A data set for the journal."""
    return DatasetRecorded(name=dataset.name, images=dataset.images, shape=list(dataset.shape), sha256=dataset.sha256,
                           why=dataset.why)


def _check_dataset(resumed: RecordedRun, dataset: datasets.Dataset) -> None:
    before = resumed.last(DatasetRecorded)
    if before is not None and before.sha256 != dataset.sha256:
        raise UsageError(tell(
            "--resume {path}: it used the data set {before} ({hash_before}), this is {now} ({hash_now}): give the same "
            "--data-root", path=resumed.path, before=before.name, hash_before=before.sha256[:12], now=dataset.name,
            hash_now=dataset.sha256[:12]))
