"""What the command lines of `impls` share: words for people, opening the backend, and the end of the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Literal, NoReturn

from impls.backend import Backend
from impls.command.process import catch_interrupts
from impls.devices import cuda_driver_fault, default_threads, threads_remark, usable_cpus
from impls.errors import EXIT_INTERRUPTED, EXIT_OK, UnavailableError, UsageError
from impls.ranks import ALONE, Ranks, own_ranks, take_gpu, threads_here
from impls.registry import Arm, Device, Job
from messages import shown, tell

Choice = Literal["auto", "cpu", "cuda"]


def leave(status: int) -> NoReturn:
    """End the process; everything is written and closed by now."""
    if status == EXIT_INTERRUPTED or (status != EXIT_OK and _is_rank()):
        # A signal to the whole job (scancel, Ctrl-C) has also reached Jittor's idle compilers, and the usual end of the
        # process would wait for a lock that one of them held when it died. That of a rank which failed would wait for
        # the others, as MPI has it, while they may wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _is_rank() -> bool:
    try:
        return own_ranks().size > 1
    except UsageError:
        # That was this process's fault, and is said: no rank was met.
        return False


def say(text: str) -> None:
    """One line for people on stderr: stdout has the results alone."""
    print(text, file=sys.stderr, flush=True)


def quiet(_text: str) -> None:
    """Say nothing: what one rank says, all of them would."""


def open_backend(arm: Arm, choice: Choice, say: Callable[[str], None], threads: int | None = None,
                 job: Job = "training", ranks: Ranks = ALONE) -> tuple[Backend, Device]:
    """The arm's framework, imported and on its device; "auto" is CUDA where the arm can use it.

    Args:
        arm: what runs.
        choice: the device that was asked for.
        say: told which device was taken and why, and how far a compilation is.
        threads: inside an operator, on the CPU; None for what OMP_NUM_THREADS says, else one for each processor.
        job: what it does, where that decides what the arm stands for.
        ranks: of which this process is one; each takes a GPU of its own, and they share the processors.

    Raises:
        UnavailableError: the framework, the device or an option cannot be used here.
        UsageError: there are not so many processors, or what the arm stands for cannot be used here.
    """
    if threads is not None and not 1 <= threads <= usable_cpus():
        raise UsageError(tell("--threads: from 1 to {most}, the CPUs that this process may use, got {threads}",
                              most=usable_cpus(), threads=threads))
    if threads is None and ranks.local_size > 1:
        threads = threads_here(ranks)
    if choice == "cpu":
        return _created(arm, "cpu", say, threads, job), "cpu"
    take_gpu(ranks)
    fault = arm.device_fault("cuda") or cuda_driver_fault()
    refusal: UnavailableError | None = None
    if fault is None:
        try:
            backend = _created(arm, "cuda", say, threads, job)
        except UnavailableError as error:
            fault, refusal = str(error), error
        else:
            say(tell("device cuda: as asked") if choice == "cuda" else
                tell("device cuda: {arm} can use it", arm=arm.name))
            return backend, "cuda"
    if choice == "cuda":
        raise UnavailableError(tell("--device cuda: {fault}", fault=shown(fault))) from refusal
    say(tell("device cpu: {arm} cannot use CUDA here: {fault}", arm=arm.name, fault=shown(fault)))
    try:
        return _created(arm, "cpu", say, threads, job), "cpu"
    except UnavailableError as error:
        # A framework that was already imported for CUDA may refuse the CPU: the first refusal says why.
        raise refusal or error from error


def _created(asked: Arm, device: Device, say: Callable[[str], None], threads: int | None, job: Job) -> Backend:
    arm = asked.spelled_out(device, job)
    if arm != asked:
        say(tell("{arm} = {options}, for {job} on {device}", arm=asked.name,
                 options="+".join(arm.options) or tell("no option"), job=tell(job), device=device))
    fault = arm.device_fault(device)
    if fault is not None:
        raise UnavailableError(shown(fault))
    prewarm = arm.spec.prepares("prewarm")
    if prewarm is not None:
        prewarm(device, echo=say)
    remark = threads_remark(os.environ.get("OMP_NUM_THREADS"), usable_cpus()) if threads is None else None
    if remark is not None:
        say(shown(remark))
    backend = arm.create(device, default_threads() if threads is None else threads)
    catch_interrupts()
    return backend
