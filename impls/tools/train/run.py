"""Command line: `python -m impls.train --backend pytorch|jittor ...`, also without any option."""

from __future__ import annotations

import hashlib
import shlex
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np

from impls.backend import Arrays, Backend, Images, Sampler, Trainer
from impls.command import process
from impls.data import datasets
from impls.data.datasets import Dataset
from impls.errors import EXIT_INTERRUPTED, DataError, DeviceError, UsageError, gave_up
from impls.ranks import Ranks
from impls.recipe.config import ExperimentConfig, merged
from impls.recipe.validation import held_out
from impls.registry import Arm, parse_arm
from impls.store.checkpoint import Note
from impls.store.files import whole_file
from impls.tools import team, tool
from impls.tools.team import Team
from impls.tools.tool import quiet, say
from impls.tools.train.disk import Disk
from impls.tools.train.loop import Plan, Training
from impls.tools.train.options import PROG, TrainOptions, as_file, continued, experiment, parse
from impls.tools.train.outputs import FolderOutputs, NoOutputs
from impls.tools.train.start import Start, computed_by, drift, open_folder, starting_point
from messages import tell

SAMPLE_STEPS, MOST_SAMPLES = 50, 64
# Options that say when ranks read losses together, and when they end.
PLANNED = ("num_epochs", "max_steps", "checkpoint", "checkpoint_steps", "sample_every")


class Stop:
    """What SIGINT and SIGTERM do: while training the first one is a wish, otherwise and the second time the end.

    Args:
        patient: the second is a wish, too: a launcher hands on what its ranks have got already, and ends them itself
            where it loses patience.
    """

    def __init__(self, patient: bool = False) -> None:
        self.wanted, self.training, self.patient = False, False, patient

    def __call__(self) -> bool:
        """Whether the end is wanted."""
        return self.wanted

    def listen(self) -> None:
        """Take the signals over, once the framework is there, since Jittor sets a handler of its own."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.training or (self.wanted and not self.patient):
            raise KeyboardInterrupt
        self.wanted = True


class Stopped(Exception):  # noqa: N818 - not an error
    """Drawing was given up because the end is wanted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 done, 2 bad input, 130 interrupted."""
    return process.run(PROG, partial(team.run, _main), argv)


def _main(words: list[str], ranks: Ranks) -> None:
    stop = Stop(patient=ranks.size > 1)
    options, overrides = parse(words)
    start = starting_point(options.model_path)
    arm = parse_arm(options.backend or (start.note.arm if start is not None else None) or "pytorch")
    team.require_startable(arm, ranks, PROG, words)
    if start is not None:
        # First, because it needs no framework.
        require_shares(continued(options, overrides, start.config, start.path), ranks)
    told = say if ranks.rank == 0 else quiet
    backend, device = tool.open_backend(arm, options.device, told, options.threads, ranks=ranks)
    arm = arm.spelled_out(device, "training")
    stop.listen()
    with team.joined(backend, arm, ranks) as together:
        if start is not None:
            threads = start.note.threads
            exactly = (f"OMP_NUM_THREADS={threads} {shlex.join([*PROG.split(), *words])}" if options.threads is None
                       else f"--threads {threads}")  # English
            remark = drift(start.note, arm, backend.info, exactly, ranks.size)
            if remark is not None:
                told(remark)
        config = (experiment(options, overrides, device) if start is None
                  else continued(options, overrides, start.config, start.path))
        require_shares(config, ranks)
        settled = start is not None or "image_channels" in overrides.get("model", {})
        prepared = partial(_dataset, options, start, config.model.image_channels if settled else None, told)
        data = prepared() if together is None else together.in_turn(prepared)
        config = merged(config, {"model": {"image_channels": data.shape[-1]}}, tell("data set {name}", name=data.name))
        train(options, config, arm, backend, data, start, stop, together)


def require_shares(config: ExperimentConfig, ranks: Ranks) -> None:
    """Refuse a recipe of which several ranks cannot each take a part.

    Raises:
        UsageError: the batch does not divide, or what is drawn is not keyed by its place in the batch.
    """
    ranks.share(config.train.batch_size)
    if ranks.size > 1 and config.train.randomness != "matched":
        raise UsageError(tell("train.randomness {randomness}: {ranks} ranks would draw the same images: leave out "
                              "--loader native, or choose matched", randomness=config.train.randomness,
                              ranks=ranks.size))


def train(options: TrainOptions, config: ExperimentConfig, arm: Arm, backend: Backend, data: Dataset,
          start: Start | None, stop: Stop, together: Team | None = None) -> None:
    """Train in a folder of its own, or go on in the training's; of several ranks the first one has the folder.

    Raises:
        UsageError: the data or the checkpoint does not fit, the training diverged, or something cannot be written.
        SystemExit: somebody asked for the end; with status 130.
    """
    if together is not None:
        # Before the network is built, which differing ranks could not even do together.
        together.require_alike(begun(options, config, data, start))
    images = data.open()
    trained_on, kept_out = split(images, config.train.batch_size)
    plan = Plan(len(trained_on) // config.train.batch_size, options.num_epochs, options.max_steps, options.checkpoint,
                options.checkpoint_steps, options.checkpoint if options.sample_every is None else options.sample_every,
                60 * options.checkpoint_minutes or None)
    step = 0 if start is None else start.state.step
    if start is not None and step >= plan.last_step:
        told = say if together is None or together.leads else quiet
        told(tell("{path}: has {step} steps already, the end is at step {last}: nothing to do; raise "
                  "--num-epochs or --max-steps", path=start.path, step=step, last=plan.last_step))
        return
    trainer = backend.trainer(config, trained_on)
    if start is not None:
        trainer.load_state(start.state)
    if together is not None and not together.leads:
        follow(trainer, config, plan, stop, step, together)
        return
    root = Path(options.log_root) if start is None or start.folder is None else start.folder
    disk = Disk.of(root, plan, step, trainer.parameter_count, config, options)
    disk.require_one()
    folder, earlier = open_folder(options, config, arm, data, start, say)
    with whole_file(folder.settings) as partial:
        partial.write_text(as_file(options, data.name, arm.name, config), encoding="utf-8")
    size = 1 if together is None else together.ranks.size
    many = "" if together is None else tell(" on {ranks} ranks ({launcher})", ranks=size,
                                            launcher=together.ranks.launcher)
    say(tell("{arm} on {device}{many}: {parameters} parameters, {images} images, {kept_out} held out, from step {step} "
             "to {last}: {folder}", arm=arm.name, device=backend.info.device, many=many,
             parameters=f"{trainer.parameter_count:,}", images=len(trained_on), kept_out=len(kept_out), step=step,
             last=plan.last_step, folder=folder.path))
    say(disk.sentence())
    note = Note(arm=arm.name, dataset=data.name, dataset_sha256=data.sha256,
                **computed_by(backend.info, size))
    drawer = GridDrawer(backend, config, stop)
    outputs = FolderOutputs(folder, config, plan, note, drawer, options, earlier, step)
    training = Training(trainer, config, plan, kept_out, outputs, stop, step, team=together)
    go_on = shlex.join([*PROG.split(), "--model_path", str(folder.path)])
    failed = stop.training = True
    try:
        complete = training.run()
        failed = False
    except (UsageError, RuntimeError) as error:
        again = tell("; the last checkpoint has {steps} steps; to go on: {command}", steps=outputs.latest,
                     command=go_on) if outputs.latest else ""
        raise _with_way_out(error, again) from error
    finally:
        stop.training = False
        outputs.close(failed)
        # What a device that has gone held cannot be released: the first fault is the one to tell.
        with suppress(*(RuntimeError,) if failed else ()):
            trainer.close()
        folder.close()
    if not complete:
        again = tell("; to go on: {command}", command=go_on) if outputs.latest else ""
        say(tell("{program}: interrupted after step {step}", program=PROG, step=training.step) + again)
        raise SystemExit(EXIT_INTERRUPTED)
    print(folder.checkpoint(training.step))


def _with_way_out(error: UsageError | RuntimeError, again: str) -> UsageError | DeviceError:
    """A fault with how to go on; one of ours is raised as it is."""
    known = type(error)(f"{error}{again}") if isinstance(error, UsageError) else gave_up(error, again)
    if known is None:
        raise error
    return known


def follow(trainer: Trainer, config: ExperimentConfig, plan: Plan, stop: Stop, step: int, together: Team) -> None:
    """Train as a rank that is not the first: it computes its share, and nothing is written or said.

    Raises:
        UsageError: the training diverged.
        SystemExit: somebody asked for the end, with status 130; or another rank failed, with status 2.
    """
    held_out = np.empty((0, 0, 0, 0), np.uint8)
    training = Training(trainer, config, plan, held_out, NoOutputs(), stop, step, team=together)
    stop.training = True
    try:
        complete = training.run()
    finally:
        stop.training = False
        trainer.close()
    if not complete:
        raise SystemExit(EXIT_INTERRUPTED)


def begun(options: TrainOptions, config: ExperimentConfig, data: Dataset, start: Start | None) -> dict[str, str]:
    """What a training begins with, as ranks compare it."""
    facts = {"experiment": config.sha256()[:16], "data set": data.sha256[:16],  # English
             **{f"--{name.replace('_', '-')}": str(getattr(options, name)) for name in PLANNED}}
    if start is not None:
        digest = hashlib.sha256()
        for name in sorted(start.state.params):
            digest.update(start.state.params[name].tobytes())
        facts |= {"step": str(start.state.step), "checkpoint": digest.hexdigest()[:16]}
    return facts


class GridDrawer:
    """Draws samples with the weights of a training that goes on.

    Args:
        backend: that trains.
        config: the experiment.
        stop: whether to give up.
    """

    def __init__(self, backend: Backend, config: ExperimentConfig, stop: Callable[[], bool]) -> None:
        self.backend, self.config, self.stop = backend, config, stop
        self.sampler: Sampler | None = None

    def __call__(self, params: Arrays) -> Images | None:
        """Images of these weights, always from the same noise; None when the end was wanted in between."""
        if self.sampler is None:
            self.sampler = self.backend.sampler(self.config)
        self.sampler.load(params)
        steps = min(SAMPLE_STEPS, self.config.diffusion.T)
        count = min(MOST_SAMPLES, self.config.sample.batch_size)
        try:
            return self.sampler.sample(count, self.config.seed, "ddim", steps, on_step=self._on_step)
        except Stopped:
            return None

    def _on_step(self, calls: int, read: Callable[[], Images]) -> None:
        if self.stop():
            raise Stopped


def split(images: Images, batch_size: int) -> tuple[Images, Images]:
    """The images to train on and those held out.

    Raises:
        DataError: too few to train on.
    """
    count = held_out(len(images))
    trained_on, kept_out = images[: len(images) - count], images[len(images) - count :]
    if len(trained_on) < batch_size:
        raise DataError(tell("--batch-size {size}: the data set has {images} images, {kept_out} of them held out: "
                             "choose at most {most}", size=batch_size, images=len(images), kept_out=count,
                             most=len(trained_on)))
    return trained_on, kept_out


def _dataset(options: TrainOptions, start: Start | None, channels: int | None, told: Callable[[str], None]) -> Dataset:
    name: str = options.dataset_name
    if name == "auto" and start is not None and start.note.dataset is not None:
        name = start.note.dataset
    return datasets.prepare(name, Path(options.data_root) if options.data_root else None, echo=told, channels=channels)
