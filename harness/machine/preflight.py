"""What about this machine may spoil a measurement, known before anything is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from harness.machine.gpu import GIB
from harness.record import findings
from harness.record.events import EnvironmentRecorded, Finding
from impls.devices import threads_remark
from messages import recorded

# A load of a quarter of the cores before anything of ours runs is somebody else's work, not background noise.
MOST_LOAD_PER_CORE = 0.25
LEAST_FREE_MEMORY_BYTES = GIB
LEAST_FREE_MEMORY_SHARE = 0.10
MOST_SWAP_BYTES = 64 << 20
# Environment variables with values that make a program check itself or wait after every kernel; Jittor reads "debug".
DEBUG_SWITCHES = {"CUDA_LAUNCH_BLOCKING": ("1",), "PYTHONDEVMODE": ("1",), "MALLOC_CHECK_": ("1", "2", "3"),
                  "PYTHONMALLOC": ("debug", "malloc_debug", "pymalloc_debug"), "debug": ("1",)}
# Reading these takes microseconds, and some of them count coarsely.
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")


def preflight(environment: EnvironmentRecorded, threads_given: bool = False) -> list[Finding]:
    """What about this machine may spoil a measurement, known before anything is measured.

    Args:
        environment: the machine.
        threads_given: whether the user gave the number of threads, so that no variable decides about it.
    """
    facts = environment.facts
    numbers = {name: float(value) for name, value in facts.items() if value is not None and not isinstance(value, str)}
    measured = f"{facts.get('gpu_measured') or 'gpu'}_"
    return [*_short(numbers), *_slowed(facts, numbers, threads_given), *_shared_gpus(numbers, measured),
            *_unlike_gpus(facts)]


def _short(numbers: Mapping[str, float]) -> Iterator[Finding]:
    """Processors and memory that others use."""
    load, cores = numbers.get("load1", 0.0), numbers.get("cpu_usable") or numbers.get("cpu_logical", math.inf)
    if load > MOST_LOAD_PER_CORE * cores:
        yield findings.HIGH_LOAD.found(recorded("the load before the run is {load} on {cores} usable processors",
                                                load=f"{load:.2f}", cores=f"{cores:.0f}"),
                                       advice=findings.SHARED_PROCESSORS if numbers.get("threads") == 1 else None)
    limit = numbers.get("memory_limit_bytes", math.inf)
    total = min(numbers.get("memory_total_bytes", math.inf), limit)
    available = min(numbers.get("memory_available_bytes", math.inf), limit)
    if available < max(LEAST_FREE_MEMORY_BYTES, LEAST_FREE_MEMORY_SHARE * total):
        free = f"{available / GIB:.1f}"
        yield findings.LOW_MEMORY.found(
            recorded("{free} of {total} GiB of memory are free", free=free, total=f"{total / GIB:.1f}")
            if math.isfinite(total) else recorded("{free} GiB of memory are free", free=free))
    swap = numbers.get("swap_used_bytes", 0.0)
    if swap > MOST_SWAP_BYTES:
        yield findings.SWAP_IN_USE.found(recorded("{size} GiB are swapped out", size=f"{swap / GIB:.1f}"))


def _slowed(facts: Mapping[str, object], numbers: Mapping[str, float], threads_given: bool) -> Iterator[Finding]:
    """Settings that make everything slower than it need be."""
    governor = str(facts.get("cpu_governor"))
    if "powersave" in governor:
        yield findings.GOVERNOR_POWERSAVE.found(recorded("the CPU's frequency governor is {governor}",
                                                         governor=repr(governor)))
    limit, usable = numbers.get("cpu_limit_cores", math.inf), numbers.get("cpu_usable", 0.0)
    remark = threads_remark(_text(facts.get("env_OMP_NUM_THREADS")), int(usable))
    if remark and not threads_given and numbers.get("threads") == usable:
        yield findings.THREADS_SETTING.found(remark)
    if limit < min(usable, numbers.get("threads", usable)):
        yield findings.CPU_LIMIT.found(recorded("a cgroup allows {limit} cores' worth of time on {usable} processors",
                                                limit=f"{limit:g}", usable=f"{usable:.0f}"))
    if facts.get("python_debug_build"):
        yield findings.DEBUG_BUILD.found(recorded("this Python is a debug build, several times slower than usual"))
    if facts.get("python_tracing"):
        yield findings.TRACED.found(recorded("a debugger or a coverage tool traces this process"))
    on = [f"{name}={facts[f'env_{name}']}" for name, values in DEBUG_SWITCHES.items()
          if facts.get(f"env_{name}") in values]
    if on:
        yield findings.DEBUG_SWITCH.found(recorded("set in the environment: {switches}", switches=", ".join(on)))
    source = facts.get("clock_source")
    if source in SLOW_CLOCKS:
        yield findings.SLOW_CLOCK.found(recorded("the kernel reads the time from {source}, which takes long",
                                                 source=repr(source)))


def unused_gpu(asked: str, taken: str, reason: str, driver: bool) -> list[Finding]:
    """That a run which might have taken the GPU is on the CPU.

    Args:
        asked: the value of `--device`.
        taken: where the run is.
        reason: why there, as it is recorded.
        driver: whether this machine has an NVIDIA driver.
    """
    if (asked, taken) != ("auto", "cpu") or not driver:
        return []
    return [findings.GPU_UNUSED.found(recorded(
        "the run is on the CPU although this machine has an NVIDIA driver: {reason}", reason=reason))]


def _text(fact: object) -> str | None:
    return None if fact is None else str(fact)


def _shared_gpus(numbers: Mapping[str, float], measured: str) -> Iterator[Finding]:
    """Others on the GPU that is measured on; what they do on another one is their business."""
    for name, count in numbers.items():
        if name.startswith(measured) and name.endswith("_foreign_processes") and count:
            gpu = name.removesuffix("_foreign_processes").replace("_", ":")
            n = f"{count:.0f}"
            yield findings.GPU_SHARED.found(recorded("{n} process of others on {gpu}", n=n, gpu=gpu) if count == 1 else
                                            recorded("{n} processes of others on {gpu}", n=n, gpu=gpu))


def _unlike_gpus(facts: Mapping[str, object]) -> Iterator[Finding]:
    """GPUs of other kinds beside the one that is measured on: which one that is must be no guess."""
    names = {name.removesuffix("_name"): value for name, value in facts.items()
             if name.startswith("gpu_") and name.endswith("_name") and value is not None}
    first = facts.get("gpu_measured")
    others = [f"{gpu.replace('_', ':')} ({name})" for gpu, name in names.items() if name != names.get(str(first))]
    if first is not None and others:
        yield findings.UNLIKE_GPUS.found(recorded(
            "this machine has GPUs of several kinds: a run on CUDA takes {gpu} ({name}), not {others}",
            gpu=str(first).replace("_", ":"), name=names.get(str(first)), others=", ".join(others)))
