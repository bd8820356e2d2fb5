"""Findings about the machine and the fairness of a comparison: typed values that the report only renders."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from harness.record.events import EnvironmentRecorded, Finding, Sample

GIB = 1 << 30
# A load of a quarter of the cores before anything of ours runs is somebody else's work, not background noise.
MOST_LOAD_PER_CORE = 0.25
LEAST_FREE_MEMORY_BYTES = GIB
LEAST_FREE_MEMORY_SHARE = 0.10
MOST_SWAP_BYTES = 64 << 20
MOST_FREQUENCY_DRIFT = 0.10
MOST_SLOWED_SHARE = 0.05
LEAST_LEFT_BYTES = GIB // 2
# Environment variables with values that make a program check itself or wait after every kernel; Jittor reads "debug".
DEBUG_SWITCHES = {"CUDA_LAUNCH_BLOCKING": ("1",), "PYTHONDEVMODE": ("1",), "MALLOC_CHECK_": ("1", "2", "3"),
                  "PYTHONMALLOC": ("debug", "malloc_debug", "pymalloc_debug"), "debug": ("1",)}
# Reading these takes microseconds, and some of them count coarsely.
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")

# Bits of NVML's clock event reasons (nvml.h) that mean: slower than asked for, by heat or by the supply.
SLOWDOWNS = {0x08: "hardware slowdown", 0x20: "heat (driver)", 0x40: "heat (hardware)", 0x80: "power brake"}
# At full load the power limit sets the clock of most GPUs: a fact to report, no disturbance.
POWER_CAP = 0x04


def process_cpu_ns(pid: int) -> int | None:
    """CPU time used so far by another process, all its threads together, exact to the nanosecond; children excluded.

    Linux names every process's CPU clock by a clock id (clock_getcpuclockid(3): (~pid << 3) | CPUCLOCK_SCHED).

    Returns:
        None when there is no such process, or on another system.
    """
    if pid <= 0 or not hasattr(time, "clock_gettime_ns"):
        return None
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


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
            *_shared_gpus({name: number(name) for name in facts if name.endswith("_foreign_processes")})]


def during_run(samples: Sequence[Sample], device: str) -> list[Finding]:
    """What the telemetry of a whole run says against it.

    Args:
        samples: all samples, oldest first.
        device: "cpu" or "cuda"; GPUs speak against a run only when it uses them.
    """
    findings = []
    frequencies = _series(samples, "host", "cpu_frequency_mhz")
    if frequencies and max(frequencies) - min(frequencies) > MOST_FREQUENCY_DRIFT * max(frequencies):
        findings.append(_warning(
            "cpu-frequency-drift", f"the CPU's frequency moved between {min(frequencies):.0f} and "
            f"{max(frequencies):.0f} MHz during the run",
            "fix it (governor 'performance', turbo off, mains power) if the verdict is undecided"))
    swap = _series(samples, "host", "swap_used_bytes")
    if swap and max(swap) - swap[0] > MOST_SWAP_BYTES:
        findings.append(_warning("swapping", f"the machine swapped out {(max(swap) - swap[0]) / GIB:.2f} GiB during "
                                 "the run", "free memory, or choose a smaller batch or --schedule sequential"))
    left = _series(samples, "host", "memory_available_bytes")
    if left and min(left) < LEAST_LEFT_BYTES:
        findings.append(_warning("memory-nearly-full", f"only {min(left) / GIB:.2f} GiB of memory were left at one "
                                 "moment of the run", "end other programs, or choose a smaller batch or --schedule "
                                 "sequential: the kernel ends processes when nothing is left"))
    if device != "cuda":
        return findings
    findings += [_warning("gpu-disturbed", reason, "see the clock and process panels of the timeline")
                 for reason in disturbances(samples, device)]
    for source in _gpus(samples):
        masks = _series(samples, source, "clock_event_reasons")
        share = sum(bool(int(mask) & POWER_CAP) for mask in masks) / len(masks) if masks else 0.0
        if share > MOST_SLOWED_SHARE:
            findings.append(Finding(
                severity="info", code="gpu-power-limited",
                message=f"{source} ran at its power limit in {share:.0%} of the samples",
                advice="usual under full load; it may hold a faster arm back more than a slower one"))
    return findings


def disturbances(samples: Sequence[Sample], device: str) -> list[str]:
    """One sentence per reason why the block in which these samples were taken is dirty; none for a CPU run."""
    found: list[str] = []
    for source in _gpus(samples) if device == "cuda" else []:
        masks = [int(mask) for mask in _series(samples, source, "clock_event_reasons")]
        slowed = [mask for mask in masks if any(mask & bit for bit in SLOWDOWNS)]
        if len(slowed) > MOST_SLOWED_SHARE * len(masks):
            names = [name for bit, name in SLOWDOWNS.items() if any(mask & bit for mask in slowed)]
            found.append(f"{source} lowered its clock in {len(slowed) / len(masks):.0%} of the samples: "
                         f"{', '.join(names)}")
        foreign = max(_series(samples, source, "foreign_processes"), default=0)
        if foreign > 0:
            found.append(f"{foreign:.0f} other process{'' if foreign == 1 else 'es'} on {source}")
    return found


def _busy(load: float | None, cores: float | None) -> Iterator[Finding]:
    if load is not None and cores and load > MOST_LOAD_PER_CORE * cores:
        yield _warning("high-load", f"the load before the run is {load:.2f} on {cores:.0f} usable processors",
                       "end other programs, or wait: measured steps will share the processors with them")


def _short_of_memory(available: float | None, total: float | None, limit: float | None,
                     swap: float | None) -> Iterator[Finding]:
    total = min((size for size in (total, limit) if size), default=None)
    if available is not None and total is not None and limit is not None:
        available = min(available, limit)
    if available is not None and total and available < max(LEAST_FREE_MEMORY_BYTES, LEAST_FREE_MEMORY_SHARE * total):
        yield _warning("low-memory", f"{available / GIB:.1f} of {total / GIB:.1f} GiB of memory are free",
                       "end other programs, or choose a smaller preset or --schedule sequential")
    if swap is not None and swap > MOST_SWAP_BYTES:
        yield _warning("swap-in-use", f"{swap / GIB:.1f} GiB are swapped out",
                       "a page that comes back during a step makes it many times as long: free memory first")


def _slowed(governor: object, limit: float | None, usable: float | None) -> Iterator[Finding]:
    if isinstance(governor, str) and "powersave" in governor:
        yield _warning("governor-powersave", f"the CPU's frequency governor is {governor!r}",
                       "set it to 'performance': cpupower frequency-set -g performance")
    if limit is not None and usable is not None and limit < usable:
        yield _warning("cpu-limit", f"a cgroup allows {limit:g} cores' worth of time on {usable:.0f} processors",
                       "use no more threads than that: beyond it the kernel stops the process for part of each period")


def _built_for_debugging(debug: bool, traced: bool) -> Iterator[Finding]:
    if debug:
        yield _warning("debug-build", "this Python is a debug build, several times slower than usual",
                       "use a release build of Python")
    if traced:
        yield _warning("traced", "a debugger or a coverage tool traces this process", "measure without it")


def _switched_to_debugging(on: Sequence[str]) -> Iterator[Finding]:
    if on:
        yield _warning("debug-switch", f"set in the environment: {', '.join(on)}",
                       "unset it: it makes programs check themselves or wait, which is not what users run")


def _slow_clock(source: object) -> Iterator[Finding]:
    if source in SLOW_CLOCKS:
        yield _warning("slow-clock", f"the kernel reads the time from {source!r}, which takes long",
                       "use the processor's own counter (boot with clocksource=tsc) where it is reliable")


def _shared_gpus(foreign: dict[str, float | None]) -> Iterator[Finding]:
    for name, count in foreign.items():
        if count:
            gpu = name.removesuffix("_foreign_processes").replace("_", ":")
            yield _warning("gpu-shared", f"{count:.0f} process{'' if count == 1 else 'es'} of others on {gpu}",
                           "choose another GPU with CUDA_VISIBLE_DEVICES, or wait until it is free")


def _warning(code: str, message: str, advice: str) -> Finding:
    return Finding(severity="warning", code=code, message=message, advice=advice)


def _gpus(samples: Sequence[Sample]) -> list[str]:
    return sorted({sample.source for sample in samples if sample.source.startswith("gpu:")})


def _series(samples: Sequence[Sample], source: str, name: str) -> list[float]:
    """All readable values of one quantity of one source, oldest first."""
    values = (sample.values.get(name) for sample in samples if sample.source == source)
    return [float(value) for value in values if value is not None]
