"""Command line: `python -m impls.sample --backend pytorch|jittor --model_path CHECKPOINT ...`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from impls.backend import Backend, Images, Sampler
from impls.command import process
from impls.errors import UsageError
from impls.pictures.images import grid, require_picture, save_gif, save_grid, save_npy, save_npz, save_png
from impls.ranks import Ranks
from impls.recipe.config import ExperimentConfig, SampleConfig
from impls.recipe.schedule import chain_remarks
from impls.registry import Arm, parse_arm
from impls.store.files import whole_file
from impls.store.shards import open_shards
from impls.store.weights import Weights, load_weights
from impls.tools import team, tool
from impls.tools.sample.estimate import WORTH_CALLS, call_s, forecast, require_room
from impls.tools.sample.loop import Batch, Request, batches, draw, load_into, start_images
from impls.tools.sample.options import PROG, SampleOptions, experiment, film, parse, request_of
from impls.tools.team import Team
from messages import shown, tell

# The grid and the GIF show so many images at most; more would be specks in a huge file.
SHOWN = 256


@dataclass(frozen=True)
class Job:
    """One sampling, with everything checked and loaded.

    Attributes:
        options: of the command line.
        config: the experiment.
        request: the chain.
        nfe: its network calls.
        film: the moments that the GIF shows.
        arm: what runs.
        backend: its framework.
        sampler: with its weights.
        weights: where they come from.
        digest: their SHA-256.
        say: tells people.
        silent: another rank shows how far it is.
        room: what a set for evaluation takes on the disk, in words; nothing for other images.
    """

    options: SampleOptions
    config: ExperimentConfig
    request: Request
    nfe: int
    film: list[int]
    arm: Arm
    backend: Backend
    sampler: Sampler
    weights: Weights
    digest: str
    say: Callable[[str], None]
    silent: bool
    room: str = ""

    def bar(self, count: int) -> tqdm[Any]:
        """A progress bar over the network calls of `count` batches."""
        # A file gets a line now and then, a terminal a moving bar.
        pace = 0.1 if sys.stderr.isatty() else 10.0
        name = f"{self.arm.name} {self.request.method}"
        return tqdm(total=count * self.nfe, desc=name, unit=tell("call"), mininterval=pace, disable=self.silent)

    def facts(self, drawn: int, seconds: float, extra: dict[str, Any]) -> dict[str, Any]:
        """What `sampling.json` says."""
        request = asdict(self.request)
        return {
            "backend": self.arm.name, **asdict(self.sampler.info), **request, "nfe": self.nfe,
            "num_images": self.options.num_images, "batch_size": self.options.batch_size,
            "images_drawn": drawn, "seconds": round(seconds, 3),
            "weights": {"description": self.weights.description, "kind": self.weights.kind, "step": self.weights.step,
                        "path": str(self.weights.path), "sha256": self.digest},
            "experiment": self.config.model_dump(mode="json"), **extra,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 done, 2 bad input, 130 interrupted."""
    return process.run(PROG, partial(team.run, _main), argv)


def _main(words: list[str], ranks: Ranks) -> None:
    options, overrides = parse(words)
    talk = Talk()
    arm = parse_arm(options.backend)
    team.require_startable(arm, ranks, PROG, words)
    if ranks.size > 1 and not options.test:
        raise UsageError(tell("{ranks} ranks draw the shards of one set: give --test, or start one process",
                              ranks=ranks.size))
    with ExitStack() as stack:
        stack.callback(talk.close)
        job = prepare(options, overrides, arm, talk.say if ranks.rank == 0 else tool.quiet, ranks)
        stack.callback(job.sampler.close)
        name = f"{job.arm.name.replace(':', '-')}-{job.request.method}-{_stamp()}"
        together = stack.enter_context(team.joined(job.backend, job.arm, ranks))
        if options.log and ranks.rank == 0:
            talk.open(Path(options.log_root) / f"{name}.log")
        if options.test:
            evaluate(job, Path(options.sample_root), together)
        else:
            show(job, Path(options.sample_root) / name)


def prepare(options: SampleOptions, overrides: dict[str, Any], arm: Arm, say: Callable[[str], None], ranks: Ranks
            ) -> Job:
    """Check everything that can be checked, cheapest first, and load the rest.

    Raises:
        UsageError: a setting, the weights or the device cannot be used.
    """
    root = Path(options.sample_root)
    if os.path.exists(root) and not os.path.isdir(root):
        raise UsageError(tell("--sample_root {root}: is a file: name a folder", root=root))
    weights = load_weights(Path(options.model_path or ""), options.weights)
    config = experiment(options, overrides, weights.config)
    request = request_of(options, config.sample)
    nfe = request.nfe(config.diffusion.T, config.sample.steps_offset)
    chosen = film(options, nfe)
    require_picture(config.model.image_channels)
    room = require_room(root, config.model, options.num_images) if options.test else ""
    if options.show_denoised and len(chosen) < options.frames:
        say(tell("the GIF has {frames} frames: a chain of {steps} steps has no more moments", frames=len(chosen),
                 steps=nfe))
    say(shown(weights.description))
    for remark in chain_remarks(config.diffusion, request.method, request.steps, request.eta, request.spacing,
                                config.sample.steps_offset):
        say(tell("note: {remark}", remark=shown(remark)))
    backend, device = tool.open_backend(arm, options.device, say, options.threads, "sampling", ranks)
    arm = arm.spelled_out(device, "sampling")
    sampler = backend.sampler(config)
    load_into(sampler, weights)
    eta = "" if request.method == "ddpm" else tell(", eta {eta}, {spacing} timesteps", eta=f"{request.eta:g}",
                                                   spacing=request.spacing)
    if eta and config.sample.clip:
        eta += (tell(", eps recomputed after clipping") if config.sample.recompute_eps
                else tell(", eps as predicted"))
    say(tell("{arm} on {device}: {count} images, {method}{settings}, NFE {nfe}, seed {seed} (the first call may "
             "compile for a while)", arm=arm.name, device=backend.info.device, count=options.num_images,
             method=request.method.upper(), settings=eta, nfe=nfe, seed=request.seed))
    return Job(options, config, request, nfe, chosen, arm, backend, sampler, weights, weights.sha256(), say,
               silent=ranks.rank > 0, room=room)


def show(job: Job, folder: Path) -> None:
    """Draw images for people: every one as PNG, a grid, a GIF if wanted; `folder` appears when all of it is there.

    Raises:
        UsageError: something cannot be written; nothing is left behind.
    """
    options, drawn = job.options, []
    staging = folder.with_name(f".{folder.name}.partial")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        # Its name is in use from now on, and a folder that cannot be written shows before the hours of drawing.
        _write_json(staging / "sampling.json", job.facts(0, 0, {}))
        pool = stack.enter_context(ThreadPoolExecutor(max(1, options.num_workers)))
        bar = stack.enter_context(job.bar(len(list(batches(options.num_images, options.batch_size)))))
        writes: list[Future[None]] = []
        for numbers in batches(options.num_images, options.batch_size):
            batch = draw(job.sampler, job.request, numbers, lambda images: start_images(
                job.config.model, job.request.seed, images, job.config.diffusion.T), job.film, bar.update)
            drawn.append(batch)
            for number, image in zip(numbers, batch.images, strict=True):
                writes.append(pool.submit(save_png, staging / "images" / f"{number:06d}.png", image))
            if options.num_workers == 0:
                _finish(writes)
        bar.close()
        _finish(writes)
        save_grid(staging / "grid.png", np.concatenate([batch.images for batch in drawn])[:SHOWN])
        if job.film:
            frames = np.concatenate([batch.frames for batch in drawn], axis=1)[:, :SHOWN]
            save_gif(staging / "denoising.gif", [grid(frame) for frame in frames], options.gif_time)
        seconds = sum(batch.seconds for batch in drawn)
        _write_json(staging / "sampling.json", job.facts(options.num_images, seconds, {"film": job.film}))
        try:
            staging.rename(folder)
        except OSError as error:
            raise UsageError(tell("{folder}: cannot be made: {reason}", folder=folder,
                                  reason=error.strerror)) from error
    job.say(tell("{count} images in {seconds} s: {folder}", count=options.num_images,
                 seconds=f"{seconds:.1f}", folder=folder))


def evaluate(job: Job, folder: Path, together: Team | None = None) -> None:
    """Draw images for evaluation, shard by shard; what an earlier run with the same settings left is kept.

    Of several ranks each draws the shards whose number, divided by how many ranks there are, leaves its own, and the
    first one puts all of them together.

    Raises:
        UsageError: the folder holds images of other settings, or cannot be written or read by all ranks.
    """
    options = job.options
    opened = partial(open_shards, folder, identity(job))
    shards = opened() if together is None else together.first(opened)
    runs = list(batches(options.num_images, options.batch_size))
    own = range(len(runs)) if together is None else range(together.ranks.rank, len(runs), together.ranks.size)
    kept = {number: found for number in own if (found := shards.load(number, len(runs[number]))) is not None}
    if kept:
        job.say(tell("{folder}: {count} images are there already", folder=folder, count=sum(map(len, kept.values()))))
    fresh: list[Batch] = []
    _foresee(job, len(own) - len(kept), 1 if together is None else together.ranks.size)
    with job.bar(len(own) - len(kept)) as bar:
        for number in own:
            if number not in kept:
                batch = draw(job.sampler, job.request, runs[number], on_call=bar.update)
                shards.save(number, batch.images)
                kept[number] = batch.images
                fresh.append(batch)
    drawn = sum(len(batch.images) for batch in fresh)
    if together is not None:
        drawn = int(together.total(drawn))
        if not together.leads:
            return
        for number in sorted(set(range(len(runs))).difference(own)):
            found = shards.load(number, len(runs[number]))
            if found is None:
                raise UsageError(tell("{path}: rank {rank} drew it, but it cannot be read here: give a "
                                      "--sample_root that all ranks share", path=shards.path(number),
                                      rank=number % together.ranks.size))
            kept[number] = found
    images: Images = np.concatenate([kept[number] for number in range(len(runs))])
    save_npz(folder / "images.npz", images)
    save_npy(folder / "images.npy", images)
    save_grid(folder / "grid.png", images[:SHOWN])
    seconds = sum(batch.seconds for batch in fresh)
    timed = [(batch.seconds, len(batch.images)) for batch in fresh]
    ranks = 1 if together is None else together.ranks.size
    _write_json(folder / "sampling.json", job.facts(drawn, seconds, {"batches": timed, "ranks": ranks}))
    job.say(tell("{count} images, {drawn} of them drawn now in {seconds} s: {path}", count=len(images), drawn=drawn,
                 seconds=f"{seconds:.1f}", path=folder / "images.npz"))


def _foresee(job: Job, batches: int, ranks: int) -> None:
    """Say what drawing so many batches will take, where that is worth trying."""
    job.say(job.room)
    if job.silent or batches * job.nfe < WORTH_CALLS:
        return
    images = min(job.options.batch_size, job.options.num_images)
    seconds = call_s(job.sampler, job.request, job.nfe, images)
    if seconds is not None:
        job.say(forecast(seconds, batches, job.nfe, ranks))


class Talk:
    """What is said, on stdout and, from `open` on, with everything said before, in a log."""

    def __init__(self) -> None:
        self.early = StringIO()
        self.file: TextIO = self.early

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)
        self._note(text + "\n")

    def open(self, path: Path) -> None:
        """Begin the log.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(tell("{path}: cannot write the log: {reason}: choose another --log_root or --no-log",
                                  path=path, reason=error.strerror)) from error
        self._note(self.early.getvalue())

    def close(self) -> None:
        """End the log."""
        self.file.close()

    def _note(self, text: str) -> None:
        try:
            self.file.write(text)
            self.file.flush()
        except OSError as error:
            raise UsageError(tell("{name}: cannot write the log: {reason}", name=self.file.name,
                                  reason=error.strerror)) from error


def identity(job: Job) -> dict[str, Any]:
    """All that an image for evaluation depends on; the batch size too, because a shard is a batch."""
    info = job.sampler.info
    return {
        "format": "ddpm-bench images 1", "weights_sha256": job.digest, "weights": job.weights.kind,  # English
        **asdict(job.request), "nfe": job.nfe, "batch_size": job.options.batch_size, "backend": job.arm.name,
        "framework_version": info.version, "device": info.device, "dtype": info.dtype,
        "model": job.config.model.model_dump(mode="json"), "diffusion": job.config.diffusion.model_dump(mode="json"),
        # Only what differs from the defaults: folders from before these settings go on.
        **job.config.sample.model_dump(mode="json", include=set(SampleConfig.later)),
    }


def _finish(writes: list[Future[None]]) -> None:
    while writes:
        writes.pop().result()


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _stamp() -> str:
    now = datetime.now(timezone.utc)
    return f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
