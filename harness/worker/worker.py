"""One arm inside the measured process: what is built, and which function answers which command.

It imports exactly one framework, through the registry, when it is told to; whatever it prints goes to its log.
"""

from __future__ import annotations

import gc
import json
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness import protocol
from harness.protocol import life, timing
from harness.protocol.life import Command, Reply
from harness.worker import group as group_work
from harness.worker import loops, profile, sampling, swaps, tracing, training
from impls.backend import Backend, BackendInfo, Forwarding, Group, Sampler, Stepper, Trainer
from impls.errors import UnavailableError, UsageError
from impls.ranks import ALONE, Ranks, take_gpu
from impls.recipe.config import ExperimentConfig, validated
from impls.registry import Arm, parse_arm, specs
from impls.store import checkpoint
from messages import tell

T = TypeVar("T")


class Worker:
    """One arm under the runner's command; knows nothing of sockets.

    Args:
        clock: monotonic nanoseconds; the system's by default.
        note: receives lines for people while a command is under way.
        ranks: those that run the arm together, and which of them this one is.
    """

    def __init__(self, clock: loops.Clock | None = None, note: Callable[[str], None] = lambda text: None,
                 ranks: Ranks = ALONE) -> None:
        self._given_clock, self._note, self._ranks = clock, note, ranks
        self._arm: Arm | None = None
        self._backend: Backend | None = None
        self._trainer: Trainer | None = None
        self._sampler: Sampler | None = None
        self._forwards: Stepper | None = None
        self._group: Group | None = None
        self.config: ExperimentConfig | None = None

    @property
    def clock(self) -> loops.Clock:
        """Looked up for every command, so that a scripted backend can bring its own time into its own process."""
        return self._given_clock or time.perf_counter_ns

    @property
    def backend(self) -> Backend:
        """The framework on its device; RuntimeError before `Create`."""
        return _made(self._backend, "work before it asked for a backend")  # English

    @property
    def stepper(self) -> Stepper:
        """Whatever was built; RuntimeError before that."""
        return _made(self._trainer or self._sampler or self._forwards, "steps before anything was built")  # English

    @property
    def group(self) -> Group:
        """The other ranks; RuntimeError where there are none, or before `Create`."""
        return _made(self._group, "something of ranks before they met")  # English

    @property
    def trainer(self) -> Trainer:
        """RuntimeError before `Build`."""
        return _made(self._trainer, "steps before it asked for a trainer")  # English

    @property
    def sampler(self) -> Sampler:
        """RuntimeError before `BuildSampler`."""
        return _made(self._sampler, "images before it asked for a sampler")  # English

    def handle(self, command: Command[Any]) -> Reply:
        """Obey one command; every fault becomes a `Failure`."""
        try:
            answer, given = ANSWERS[type(command)], {"self": self, "command": command}
            return answer(*(given[name] if name in given else getattr(self, name)
                            for name in PARAMETERS[answer]))
        except UsageError as error:
            return life.Failure(cause="usage", message=str(error), traceback="")
        except Exception as error:
            cause = "memory" if out_of_memory(error) else "error"
            message = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return life.Failure(cause=cause, message=message, traceback=traceback.format_exc()[-8000:])

    def prewarm(self, command: life.Prewarm) -> life.Done:
        """Fill the arm's compile cache where it has one."""
        prewarm = parse_arm(command.arm).spec.prepares("prewarm")
        if prewarm is not None:
            prewarm(command.device, echo=self._note)
        return life.Done()

    def create(self, command: life.Create) -> life.Created:
        """Import the framework, open the device, and meet the other ranks where there are any."""
        arm = parse_arm(command.arm, specs(command.file))
        self._arm = arm
        before = compiled_files(arm)
        if command.device == "cuda":
            take_gpu(self._ranks)
        start = self.clock()
        self._backend = arm.create(command.device, command.threads)
        if self._ranks.size > 1:
            join: Callable[[Ranks], Group] | None = getattr(self._backend, "join", None)
            if join is None:
                raise UnavailableError(tell("{arm} has no group of ranks: it runs in one process", arm=arm.name))
            self._group = join(self._ranks)
        return life.Created(import_ns=self.clock() - start, info=plain_info(self._backend.info), compiled_files=before)

    def build(self, command: life.Build) -> life.Built:
        """Build a trainer in place of what was built."""
        backend = self.backend
        self._close()
        self.config = validated(command.experiment, tell("the runner's configuration"))
        images: NDArray[np.uint8] = np.empty(0, np.uint8)
        if command.data_path is not None:
            images = np.load(command.data_path, mmap_mode="r", allow_pickle=False)
        start = self.clock()
        self._trainer = backend.trainer(self.config, images[: command.images])
        return self._built(self._trainer, start)

    def build_sampler(self, command: life.BuildSampler) -> life.Built:
        """Build a sampler in place of what was built.

        Raises:
            UsageError: the backend has none.
        """
        backend = self.backend
        if getattr(backend, "sampler", None) is None:
            raise UsageError(tell("{framework}: this backend has no sampler(config), so it draws no images",
                                  framework=backend.info.framework))
        self._close()
        start = self.clock()
        self._sampler = backend.sampler(validated(command.experiment, tell("the runner's configuration")))
        if command.weights is not None:
            self._sampler.load(checkpoint.load_arrays(Path(command.weights)))
        return self._built(self._sampler, start, self._sampler.shapes)

    def build_forwards(self, command: life.BuildForwards) -> life.Built:
        """Build forward passes in place of what was built.

        Raises:
            UsageError: the backend has none.
        """
        offered: Forwarding | None = getattr(self.backend, "forwards", None)
        if offered is None:
            raise UsageError(tell("{framework}: this backend has no forwards(config)",
                                  framework=self.backend.info.framework))
        self._close()
        start = self.clock()
        self._forwards = offered(validated(command.experiment, tell("the runner's configuration")))
        return self._built(self._forwards, start)

    def cache(self) -> life.CacheCount:
        """Count the arm's compile cache."""
        return life.CacheCount(compiled_files=compiled_files(self._arm))

    def stop(self) -> life.Done:
        """Close what was built; whoever serves this worker ends the process."""
        self._close()
        if self._group is not None:
            self._group.close()
        return life.Done()

    def _built(self, made: Stepper, start_ns: int, shapes: Mapping[str, tuple[int, ...]] | None = None) -> life.Built:
        made.synchronize()
        took = self.clock() - start_ns
        gc.collect()
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.freeze()
        return life.Built(build_ns=took, parameter_count=made.parameter_count, info=plain_info(made.info),
                          shapes=dict(shapes or {}), images=getattr(made, "images_per_step", None))

    def _close(self) -> None:
        made = self._trainer or self._sampler or self._forwards
        self._trainer = self._sampler = self._forwards = None
        if made is not None:
            made.close()
            del made
            gc.unfreeze()
            gc.collect()


def matmul(backend: Backend, command: timing.Matmul) -> timing.Rate:
    """The device's best matrix-product rate."""
    return timing.Rate(flops=backend.matmul_flops(command.n, command.repeats))


def memory(stepper: Stepper) -> timing.MemoryValues:
    """This process's peak resident memory and what the framework says about the device's."""
    reading = stepper.memory()
    return timing.MemoryValues(
        rss_peak_bytes=peak_rss_bytes(),
        device_allocated_bytes=reading.allocated_bytes, device_peak_bytes=reading.peak_bytes,
        device_reserved_bytes=reading.reserved_bytes, reason=reading.reason)


def peak_rss_bytes() -> int | None:
    """The most of this process's memory that was resident; None where the system does not tell.

    What `getrusage` calls so is never less than what the process that started this one held at that moment.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


# Parameters are named after what of the `Worker` they are given, beside the command: asking for a `trainer` where none
# was built is an error.
ANSWERS: Mapping[type[Command[Any]], Callable[..., Reply]] = {
    life.Prewarm: Worker.prewarm,
    life.Create: Worker.create,
    life.Build: Worker.build,
    life.BuildSampler: Worker.build_sampler,
    life.BuildForwards: Worker.build_forwards,
    life.ReadCache: Worker.cache,
    life.Stop: Worker.stop,
    protocol.training.Swap: swaps.swap,
    protocol.training.Profile: profile.profile,
    timing.Matmul: matmul,
    timing.ReadMemory: memory,
    timing.Stepwise: loops.stepwise,
    timing.Phased: loops.phased,
    timing.Operate: loops.operate,
    timing.Free: loops.free,
    timing.Overhead: loops.overhead,
    timing.ProveSync: loops.prove_sync,
    protocol.training.Epochs: training.epochs,
    protocol.training.ReadLosses: training.losses,
    protocol.training.SaveState: training.save_state,
    protocol.training.LoadState: training.load_state,
    protocol.training.Predict: training.predict,
    protocol.training.Gradients: training.gradients,
    protocol.tracing.Trace: tracing.trace,
    protocol.group.Average: group_work.average,
    protocol.group.Reduce: group_work.reduce,
    protocol.group.ReadDigests: group_work.digests,
    protocol.sampling.Batch: sampling.batch,
    protocol.sampling.Draw: sampling.draw,
    protocol.sampling.SpringTrap: sampling.trap,
}
PARAMETERS = {answer: tuple(signature(answer).parameters) for answer in ANSWERS.values()}


def plain_info(info: BackendInfo) -> dict[str, Any]:
    """BackendInfo as plain JSON data."""
    data: dict[str, Any] = json.loads(json.dumps({**asdict(info), "operators": dict(info.operators),
                                                  "flags": dict(info.flags)}, default=str))
    return data


def compiled_files(arm: Arm | None) -> int | None:
    """Files in the arm's compile cache, through its prepare module; None where it compiles nothing or cannot count."""
    if arm is None or (arm.spec.compiling and not arm.compiles):
        return None
    count = arm.spec.prepares("compiled_files")
    return None if count is None else int(count())


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of any framework means that memory ran out."""
    text = f"{type(error).__name__} {error}".lower()
    # The last two are Jittor's.
    words = ("outofmemory", "out of memory", "memory is overflow", "unable to alloc cuda device memory")  # English
    return isinstance(error, MemoryError) or any(word in text for word in words)


def _made(made: T | None, asked: str) -> T:
    if made is None:
        raise RuntimeError(f"the runner asked for {asked}")
    return made
