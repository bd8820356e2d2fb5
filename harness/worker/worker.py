"""The measured process: `python -m harness.worker` connects back to the runner, builds one arm and obeys.

It imports exactly one framework, through the registry, when it is told to; whatever it prints goes to its log.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import protocol
from harness.protocol import life, sampling, timing, training
from harness.protocol.life import Command, Reply
from harness.worker import loops as windows
from harness.worker import training as exchange
from impls.backend import Backend, BackendInfo, Sampler, Stepper, Trainer
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig, validated
from impls.registry import BackendSpec, parse_arm

PR_SET_PDEATHSIG = 1


class Worker:
    """One arm under the runner's command; knows nothing of sockets.

    Args:
        clock: monotonic nanoseconds; the system's by default.
        note: receives lines for people while a command is under way.
    """

    def __init__(self, clock: Callable[[], int] | None = None,
                 note: Callable[[str], None] = lambda text: None) -> None:
        self._given_clock, self._note = clock, note
        self._spec: BackendSpec | None = None
        self._backend: Backend | None = None
        self._trainer: Trainer | None = None
        self._sampler: Sampler | None = None
        self._config: ExperimentConfig | None = None

    @property
    def _clock(self) -> Callable[[], int]:
        """Looked up for every command, so that a scripted backend can bring its own time into its own process."""
        return self._given_clock or time.perf_counter_ns

    def handle(self, command: Command[Any]) -> Reply:
        """Obey one command; every fault becomes a `Failure`."""
        try:
            return self._obey(command)
        except UsageError as error:
            return life.Failure(cause="usage", message=str(error), traceback="")
        except Exception as error:
            cause = "memory" if out_of_memory(error) else "error"
            message = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return life.Failure(cause=cause, message=message, traceback=traceback.format_exc()[-8000:])

    def _obey(self, command: Command[Any]) -> Reply:
        reply: Reply
        match command:
            case life.Prewarm():
                reply = self._prewarm(command)
            case life.Create():
                reply = self._create(command)
            case timing.Matmul():
                reply = timing.Rate(flops=self._need_backend().matmul_flops(command.n, command.repeats))
            case life.ReadCache():
                reply = life.CacheCount(compiled_files=compiled_files(self._spec))
            case life.Build():
                reply = self._build(command)
            case life.BuildSampler():
                reply = self._build_sampler(command)
            case life.Stop():
                self._close()
                reply = life.Done()
            case sampling.Batch() | sampling.Draw() | sampling.SpringTrap():
                reply = self._sample(command, self._need_sampler())
            case _:
                reply = self._step(command, self._need_stepper())
        return reply

    def _step(self, command: Command[Any], stepper: Stepper) -> Reply:
        """Commands for whatever advances a step at a time."""
        match command:
            case timing.Stepwise():
                return windows.stepwise(stepper, command.steps, self._clock)
            case timing.Free():
                return windows.free(stepper, command.steps, self._clock)
            case timing.Overhead():
                return windows.overhead(stepper, command.pairs, command.steps, self._clock)
            case timing.ProveSync():
                return windows.prove_sync(stepper, command.steps_short, command.steps_long, self._clock)
            case timing.ReadMemory():
                return memory(stepper)
            case _:
                return self._train(command, self._need_trainer())

    def _sample(self, command: sampling.Batch | sampling.Draw | sampling.SpringTrap,
                sampler: Sampler) -> Reply:
        match command:
            case sampling.SpringTrap():
                return windows.trap(sampler, command.steps, command.images, command.seed, self._clock)
            case sampling.Draw():
                return exchange.draw(command, sampler)
            case sampling.Batch(calls=None):
                return windows.batch(sampler, command.method, command.steps, command.images, command.seed, self._clock)
            case _:
                start, calls = self._clock(), command.calls or 1
                windows.rehearse(sampler, command.method, command.steps, command.images, command.seed, calls)
                return timing.Span(start_ns=start, end_ns=self._clock(), steps=calls)

    def _train(self, command: Command[Any], trainer: Trainer) -> Reply:
        reply: Reply
        match command:
            case training.Epochs():
                reply = windows.epochs(trainer, command.epochs, command.steps, self._clock)
            case training.ReadLosses():
                reply = training.LossValues(losses=trainer.losses())
            case _:
                reply = exchange.with_trainer(command, trainer, self._config)
        return reply

    def _prewarm(self, command: life.Prewarm) -> life.Done:
        spec = parse_arm(command.arm).spec
        if spec.prepare_module is not None:
            prewarm = getattr(import_module(spec.prepare_module), "prewarm", None)
            if prewarm is not None:
                prewarm(command.device, echo=self._note)
        return life.Done()

    def _create(self, command: life.Create) -> life.Created:
        arm = parse_arm(command.arm)
        self._spec = arm.spec
        before = compiled_files(arm.spec)
        start = self._clock()
        self._backend = arm.create(command.device, command.threads)
        return life.Created(import_ns=self._clock() - start, info=plain_info(self._backend.info),
                                compiled_files=before)

    def _build(self, command: life.Build) -> life.Built:
        backend = self._need_backend()
        self._close()
        self._config = validated(command.experiment, "the runner's configuration")
        images: NDArray[np.uint8] = np.load(command.data_path, mmap_mode="r", allow_pickle=False)
        start = self._clock()
        self._trainer = backend.trainer(self._config, images[: command.images])
        return self._built(self._trainer, start)

    def _build_sampler(self, command: life.BuildSampler) -> life.Built:
        backend = self._need_backend()
        self._close()
        start = self._clock()
        self._sampler = backend.sampler(validated(command.experiment, "the runner's configuration"))
        if command.weights is not None:
            exchange.load_weights(self._sampler, Path(command.weights))
        return self._built(self._sampler, start, self._sampler.shapes)

    def _built(self, made: Stepper, start_ns: int, shapes: Mapping[str, tuple[int, ...]] | None = None
               ) -> life.Built:
        made.synchronize()
        took = self._clock() - start_ns
        gc.collect()
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.freeze()
        return life.Built(build_ns=took, parameter_count=made.parameter_count, info=plain_info(made.info),
                              shapes=dict(shapes or {}))

    def _close(self) -> None:
        made = self._trainer or self._sampler
        self._trainer = self._sampler = None
        if made is not None:
            made.close()
            del made
            gc.unfreeze()
            gc.collect()

    def _need_backend(self) -> Backend:
        if self._backend is None:
            raise RuntimeError("the runner asked for work before it asked for a backend")
        return self._backend

    def _need_stepper(self) -> Stepper:
        made = self._trainer or self._sampler
        if made is None:
            raise RuntimeError("the runner asked for steps before anything was built")
        return made

    def _need_sampler(self) -> Sampler:
        if self._sampler is None:
            raise RuntimeError("the runner asked for images before it asked for a sampler")
        return self._sampler

    def _need_trainer(self) -> Trainer:
        if self._trainer is None:
            raise RuntimeError("the runner asked for steps before it asked for a trainer")
        return self._trainer


def plain_info(info: BackendInfo) -> dict[str, Any]:
    """BackendInfo as plain JSON data."""
    data: dict[str, Any] = json.loads(json.dumps({**asdict(info), "operators": dict(info.operators),
                                                  "flags": dict(info.flags)}, default=str))
    return data


def compiled_files(spec: BackendSpec | None) -> int | None:
    """Files in the arm's compile cache, through its prepare module; None where it has none or cannot count."""
    if spec is None or spec.prepare_module is None:
        return None
    count = getattr(import_module(spec.prepare_module), "compiled_files", None)
    return None if count is None else int(count())


def memory(stepper: Stepper) -> timing.MemoryValues:
    """This process's peak resident memory and what the framework says about the device's."""
    reading = stepper.memory()
    return timing.MemoryValues(
        rss_peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        device_allocated_bytes=reading.allocated_bytes, device_peak_bytes=reading.peak_bytes,
        device_reserved_bytes=reading.reserved_bytes, reason=reading.reason)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of any framework means that memory ran out."""
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or "outofmemory" in text or "out of memory" in text


def die_with_parent() -> None:
    """Have the kernel end this process at once when the runner's main thread dies; the janitor ends what it started."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def serve(channel: protocol.Bytes, worker: Worker) -> None:
    """Obey until told to stop, or until the runner is gone."""
    while True:
        try:
            command = protocol.decode_command(channel.recv_bytes(protocol.MAX_MESSAGE_BYTES))
        except EOFError:
            return
        channel.send_bytes(protocol.encode(worker.handle(command)))
        if isinstance(command, life.Stop):
            return


def main() -> int:
    """Connect to the runner named by the environment and serve it."""
    die_with_parent()
    # A crash inside a framework leaves the Python lines that led to it in the log.
    faulthandler.enable()
    missing = [name for name in (protocol.ADDRESS_VARIABLE, protocol.KEY_VARIABLE, protocol.TOKEN_VARIABLE)
               if name not in os.environ]
    if missing:
        print(f"harness.worker: {missing[0]} is not set: workers are started by run_bench.py", file=sys.stderr)
        return 2
    # Taken out of the environment so that the framework's own children do not inherit the key.
    address, key = os.environ.pop(protocol.ADDRESS_VARIABLE), os.environ.pop(protocol.KEY_VARIABLE)
    channel = Client(address, family="AF_UNIX", authkey=bytes.fromhex(key))
    channel.send_bytes(protocol.encode(life.Hello(token=os.environ.pop(protocol.TOKEN_VARIABLE), pid=os.getpid())))

    def note(text: str) -> None:
        channel.send_bytes(protocol.encode(life.Note(text=text)))

    serve(channel, Worker(note=note))
    return 0
