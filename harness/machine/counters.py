"""What the kernel counts: CPU time of processes and of the machine, and the time and memory that it took away."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.machine.files import SystemFiles
from harness.record import findings
from harness.record.events import Finding
from messages import recorded, recorded_plural

MIB = 1 << 20
MOST_STOLEN_SHARE = 0.05
MOST_THROTTLED_SHARE = 0.01
MOST_SWAPPED_IN_BYTES = 4 * MIB
MOST_STALLED_SHARE = 0.01
# The two clocks are read one after the other, which may take a scheduler's slice.
MOST_SUSPENDED_S = 0.1
MOST_STEP_S = 1.0
# A time daemon slews by at most 500 ppm; a clock that runs further off is not being corrected but is wrong.
MOST_DRIFT = 0.001
LEAST_DRIFT_SPAN_S = 10.0
# What says that a block was measured while something was missing, and not only how the run as a whole went.
DIRTY = frozenset(kind.code for kind in (findings.CPU_STOLEN, findings.CPU_THROTTLED, findings.SWAPPED_IN,
                                         findings.MEMORY_PRESSURE, findings.SUSPENDED))


@dataclass(frozen=True)
class Counters:
    """What has been counted since the machine started; None where it cannot be read.

    Attributes:
        monotonic_s: the clock of all stamps.
        raw_s: the same without the corrections of a time daemon.
        boot_s: the same with the time that the machine was suspended.
        wall_s: seconds of the time of day.
        processors: how many this process may use.
        stolen_s: time that a hypervisor gave to others, over these processors.
        throttled_s: time for which a cgroup's CPU limit stopped this process's group, added up over processors.
        swapped_in_bytes: read back from swap, by any program.
        stalled_s: time for which all runnable programs at once waited for memory.
        oom_kills: processes that the kernel ended for lack of memory.
    """

    monotonic_s: float
    raw_s: float
    boot_s: float
    wall_s: float
    processors: int
    stolen_s: float | None = None
    throttled_s: float | None = None
    swapped_in_bytes: int | None = None
    stalled_s: float | None = None
    oom_kills: int | None = None


def read_counters(files: SystemFiles | None = None) -> Counters:
    """All counters now; costs some small files, so it is not read inside a window."""
    files = files or SystemFiles()
    usable = sorted(os.sched_getaffinity(0))
    swapped_in = files.vmstat("pswpin")
    return Counters(
        monotonic_s=time.monotonic(), raw_s=time.clock_gettime(time.CLOCK_MONOTONIC_RAW),
        boot_s=time.clock_gettime(time.CLOCK_BOOTTIME), wall_s=time.time(), processors=len(usable),
        stolen_s=files.stolen_s(usable), throttled_s=files.throttled_s(),
        swapped_in_bytes=None if swapped_in is None else swapped_in * os.sysconf("SC_PAGE_SIZE"),
        stalled_s=files.memory_stalled_s(), oom_kills=files.vmstat("oom_kill"))


def process_cpu_ns(pid: int) -> int | None:
    """CPU time used so far by another process, all its threads together, exact to the nanosecond; children excluded.

    Linux names every process's CPU clock by a clock id (clock_getcpuclockid(3): (~pid << 3) | CPUCLOCK_SCHED).

    Returns:
        None when there is no such process.
    """
    if pid <= 0:
        return None
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def machine_busy_ns() -> int | None:
    """Time that the CPUs which this process may use were busy, stolen time included; None when it cannot be read."""
    import psutil

    mine = os.sched_getaffinity(0)
    try:
        times = [cpu for number, cpu in enumerate(psutil.cpu_times(percpu=True)) if number in mine]
    except (OSError, RuntimeError):
        return None
    if len(times) != len(mine):
        return None
    return round(1e9 * sum(map(busy_s, times)))


def load_average() -> float | None:
    """How many processes ran or waited for a processor, over the last minute; None where the system does not say."""
    import psutil

    try:
        return float(psutil.getloadavg()[0])
    except (OSError, RuntimeError):
        return None


def busy_s(times: Any) -> float:
    """Seconds spent on anything but idling, out of psutil's times of one processor or of all."""
    # user already holds guest time, nice guest_nice: these two are left out.
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def taken(before: Counters, after: Counters) -> list[Finding]:
    """What happened between two readings, one finding for each kind."""
    return [*_processor(before, after), *_memory(before, after), *_clocks(before, after)]


def _processor(before: Counters, after: Counters) -> Iterator[Finding]:
    available_s = (after.monotonic_s - before.monotonic_s) * after.processors
    stolen_s = _more(before.stolen_s, after.stolen_s)
    if stolen_s > MOST_STOLEN_SHARE * available_s:
        yield findings.CPU_STOLEN.found(recorded(
            "the hypervisor gave {share} of this machine's CPU time to others (at most {most})",
            share=f"{stolen_s / available_s:.0%}", most=f"{MOST_STOLEN_SHARE:.0%}"))
    throttled_s = _more(before.throttled_s, after.throttled_s)
    if throttled_s > MOST_THROTTLED_SHARE * available_s:
        yield findings.CPU_THROTTLED.found(recorded(
            "a cgroup's CPU limit stopped this process for {seconds} s (at most {most} of the time)",
            seconds=f"{throttled_s:.2f}", most=f"{MOST_THROTTLED_SHARE:.0%}"))


def _memory(before: Counters, after: Counters) -> Iterator[Finding]:
    span_s = after.monotonic_s - before.monotonic_s
    swapped_in = _more(before.swapped_in_bytes, after.swapped_in_bytes)
    if swapped_in > MOST_SWAPPED_IN_BYTES:
        yield findings.SWAPPED_IN.found(recorded(
            "{size} MiB came back from swap (at most {most} MiB)",
            size=f"{swapped_in / MIB:.0f}", most=f"{MOST_SWAPPED_IN_BYTES / MIB:.0f}"))
    stalled_s = _more(before.stalled_s, after.stalled_s)
    if stalled_s > MOST_STALLED_SHARE * span_s:
        yield findings.MEMORY_PRESSURE.found(recorded(
            "every program waited for memory for {seconds} s (at most {most} of the time)",
            seconds=f"{stalled_s:.2f}", most=f"{MOST_STALLED_SHARE:.0%}"))
    killed = _more(before.oom_kills, after.oom_kills)
    if killed:
        yield findings.OOM_KILL.found(recorded(
            "the kernel ended {processes} for lack of memory", processes=recorded_plural(round(killed), "process")))


def _clocks(before: Counters, after: Counters) -> Iterator[Finding]:
    span_s = after.monotonic_s - before.monotonic_s
    suspended_s = after.boot_s - before.boot_s - span_s
    if suspended_s > MOST_SUSPENDED_S:
        yield findings.SUSPENDED.found(recorded("the machine was suspended for {seconds} s",
                                                seconds=f"{suspended_s:.1f}"))
    stepped_s = after.wall_s - before.wall_s - (after.boot_s - before.boot_s)
    if abs(stepped_s) > MOST_STEP_S:
        seconds = f"{abs(stepped_s):.1f}"
        yield findings.CLOCK_STEPPED.found(
            recorded("the time of day was set forward by {seconds} s", seconds=seconds) if stepped_s > 0 else
            recorded("the time of day was set back by {seconds} s", seconds=seconds))
    raw_s = after.raw_s - before.raw_s
    drift = span_s / raw_s - 1 if raw_s > LEAST_DRIFT_SPAN_S else 0.0
    if abs(drift) > MOST_DRIFT:
        share = f"{abs(drift):.2%}"
        yield findings.CLOCK_DRIFT.found(
            recorded("the system's clock ran {share} too fast against the hardware's", share=share) if drift > 0 else
            recorded("the system's clock ran {share} too slow against the hardware's", share=share))


def _more(before: float | None, after: float | None) -> float:
    """How much a counter has grown; 0 where it cannot be read, and where the group moved to another cgroup."""
    return 0.0 if before is None or after is None else max(0.0, after - before)
