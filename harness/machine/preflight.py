"""What about this machine may spoil a measurement, known before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.record import findings
from harness.record.events import EnvironmentRecorded, Finding

GIB = 1 << 30
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


def preflight(environment: EnvironmentRecorded) -> list[Finding]:
    """What about this machine may spoil a measurement, known before anything is measured."""
    facts = environment.facts

    def number(name: str) -> float | None:
        value = facts.get(name)
        return None if value is None or isinstance(value, str) else float(value)

    return [*_busy(number("load1"), number("cpu_usable") or number("cpu_logical")),
            *_short_of_memory(number("memory_available_bytes"), number("memory_total_bytes"),
                              number("memory_limit_bytes"), number("swap_used_bytes")),
            *_slowed(facts.get("cpu_governor"), number("cpu_limit_cores"), number("cpu_usable")),
            *_built_for_debugging(bool(facts.get("python_debug_build")), bool(facts.get("python_tracing"))),
            *_switched_to_debugging([f"{name}={value}" for name, values in DEBUG_SWITCHES.items()
                                     if (value := facts.get(f"env_{name}")) in values]),
            *_slow_clock(facts.get("clock_source")),
            *_shared_gpus({name: number(name) for name in facts if name.endswith("_foreign_processes")
                           and name.startswith(f"{facts.get('gpu_measured') or 'gpu'}_")})]


def _busy(load: float | None, cores: float | None) -> Iterator[Finding]:
    if load is not None and cores and load > MOST_LOAD_PER_CORE * cores:
        yield findings.HIGH_LOAD.found(f"the load before the run is {load:.2f} on {cores:.0f} usable processors")


def _short_of_memory(available: float | None, total: float | None, limit: float | None,
                     swap: float | None) -> Iterator[Finding]:
    total = min((size for size in (total, limit) if size), default=None)
    if available is not None and total is not None and limit is not None:
        available = min(available, limit)
    if available is not None and total and available < max(LEAST_FREE_MEMORY_BYTES, LEAST_FREE_MEMORY_SHARE * total):
        yield findings.LOW_MEMORY.found(f"{available / GIB:.1f} of {total / GIB:.1f} GiB of memory are free")
    if swap is not None and swap > MOST_SWAP_BYTES:
        yield findings.SWAP_IN_USE.found(f"{swap / GIB:.1f} GiB are swapped out")


def _slowed(governor: object, limit: float | None, usable: float | None) -> Iterator[Finding]:
    if isinstance(governor, str) and "powersave" in governor:
        yield findings.GOVERNOR_POWERSAVE.found(f"the CPU's frequency governor is {governor!r}")
    if limit is not None and usable is not None and limit < usable:
        yield findings.CPU_LIMIT.found(f"a cgroup allows {limit:g} cores' worth of time on {usable:.0f} processors")


def _built_for_debugging(debug: bool, traced: bool) -> Iterator[Finding]:
    if debug:
        yield findings.DEBUG_BUILD.found("this Python is a debug build, several times slower than usual")
    if traced:
        yield findings.TRACED.found("a debugger or a coverage tool traces this process")


def _switched_to_debugging(on: Sequence[str]) -> Iterator[Finding]:
    if on:
        yield findings.DEBUG_SWITCH.found(f"set in the environment: {', '.join(on)}")


def _slow_clock(source: object) -> Iterator[Finding]:
    if source in SLOW_CLOCKS:
        yield findings.SLOW_CLOCK.found(f"the kernel reads the time from {source!r}, which takes long")


def _shared_gpus(foreign: dict[str, float | None]) -> Iterator[Finding]:
    for name, count in foreign.items():
        if count:
            gpu = name.removesuffix("_foreign_processes").replace("_", ":")
            yield findings.GPU_SHARED.found(f"{count:.0f} process{'' if count == 1 else 'es'} of others on {gpu}")
