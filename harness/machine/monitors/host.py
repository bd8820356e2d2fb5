"""The machine and our worker processes through psutil: CPU, resident memory, load, frequency; children included."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness.machine.counters import busy_s
from harness.record.events import MonitorState, Sample
from messages import recorded

Number = int | float | None

# Reading the frequency wakes idle cores on some kernels; it changes slowly, so every tenth sample is enough.
FREQUENCY_EVERY = 10
# The kernel counts CPU time in ticks of 10 ms; over less than ten of them a percentage is chance.
SHORTEST_NS = 100_000_000


@dataclass
class _Worker:
    """One worker process: CPU seconds of each process of its tree at the last reading, by (pid, time of creation)."""

    pid: int
    process: psutil.Process | None
    cpu_s: dict[tuple[int, float], float] = field(default_factory=dict)
    read_ns: int = 0
    ended: str | None = None


class HostMonitor:
    """Telemetry of the whole machine ("host") and of each worker ("process:A").

    CPU percentages cover the time since the sample before; 100 is one core; None when that was under 0.1 s. Resident
    memory of a tree counts pages that its processes share once for each of them.
    """

    def __init__(self, pids: Mapping[str, int], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._workers: dict[str, _Worker] = {}
        self._samples = 0
        self._reason: dict[str, str] = {}
        self._busy_s = busy_s(psutil.cpu_times())
        self._read_ns = clock_ns()
        self.set_processes(pids)

    def set_processes(self, pids: Mapping[str, int]) -> None:
        """Watch these workers (slot -> pid) from now on instead of the last ones."""
        workers = {slot: self._watch(pid) for slot, pid in pids.items()}
        with self._lock:
            self._workers = workers

    def sources(self) -> list[MonitorState]:
        """The machine and every watched worker; `reason` names what cannot be read here."""
        with self._lock:
            reason = "; ".join(f"{name}: {why}" for name, why in sorted(self._reason.items())) or None
            return [MonitorState(source="host", available=True, reason=reason)] + [
                MonitorState(source=f"process:{slot}", available=worker.ended is None, reason=worker.ended,
                             static={"pid": worker.pid})
                for slot, worker in self._workers.items()]

    def sample(self) -> list[Sample]:
        """The machine, then every worker that still runs."""
        with self._lock:
            samples = [self._host()]
            for slot, worker in self._workers.items():
                values = self._tree(worker)
                if values is not None:
                    samples.append(Sample(source=f"process:{slot}", t_ns=worker.read_ns, values=values))
            return samples

    def _host(self) -> Sample:
        now_ns, busy = self._clock_ns(), busy_s(psutil.cpu_times())
        memory = psutil.virtual_memory()
        values: dict[str, Number] = {
            "cpu_percent": _percent(busy - self._busy_s, now_ns - self._read_ns),
            "load1": self._optional("load1", lambda: psutil.getloadavg()[0]),
            "memory_available_bytes": int(memory.available),
            "swap_used_bytes": self._optional("swap_used_bytes", lambda: int(psutil.swap_memory().used)),
        }
        if self._samples % FREQUENCY_EVERY == 0:
            values["cpu_frequency_mhz"] = self._optional("cpu_frequency_mhz", cpu_frequency_mhz)
        self._samples += 1
        self._busy_s, self._read_ns = busy, now_ns
        return Sample(source="host", t_ns=now_ns, values=values)

    def _optional(self, name: str, read: Callable[[], Number]) -> Number:
        """A reading that some machines do not offer: None, and the reason kept."""
        try:
            value = read()
        # psutil parses files of the kernel: one that is missing, forbidden or odd is the machine's way, not our bug.
        except (OSError, RuntimeError, ValueError, psutil.Error) as error:
            self._reason.setdefault(name, f"{type(error).__name__}: {error}")
            return None
        if value is None:
            self._reason.setdefault(name, recorded("this machine does not show it"))
        return value

    def _watch(self, pid: int) -> _Worker:
        try:
            worker = _Worker(pid, psutil.Process(pid))
            worker.cpu_s, _ = _read_tree(worker.process)
        except psutil.Error as error:
            return _Worker(pid, None, ended=_why(pid, error))
        worker.read_ns = self._clock_ns()
        return worker

    def _tree(self, worker: _Worker) -> dict[str, Number] | None:
        if worker.process is None or worker.ended is not None:
            return None
        try:
            if not worker.process.is_running() or worker.process.status() == psutil.STATUS_ZOMBIE:
                raise psutil.NoSuchProcess(worker.pid)
            cpu_s, rss_bytes = _read_tree(worker.process)
        except psutil.Error as error:
            worker.ended = _why(worker.pid, error)
            return None
        now_ns = self._clock_ns()
        # A child that is new since the last sample has used all its CPU time since then.
        used_s = sum(seconds - worker.cpu_s.get(key, 0.0) for key, seconds in cpu_s.items())
        values: dict[str, Number] = {"cpu_percent": _percent(used_s, now_ns - worker.read_ns), "rss_bytes": rss_bytes,
                                     "processes": len(cpu_s)}
        worker.cpu_s, worker.read_ns = cpu_s, now_ns
        return values


def _why(pid: int, error: psutil.Error) -> str:
    return (recorded("process {pid} has ended", pid=pid) if isinstance(error, psutil.NoSuchProcess) else
            recorded("process {pid}: {error}", pid=pid, error=error))


def _read_tree(process: psutil.Process) -> tuple[dict[tuple[int, float], float], int]:
    """CPU seconds by process and the resident bytes of all.

    Raises:
        psutil.NoSuchProcess: the root has ended.
    """
    cpu_s: dict[tuple[int, float], float] = {}
    rss_bytes = 0
    for member in (process, *descendants(process)):
        try:
            with member.oneshot():
                times = member.cpu_times()
                cpu_s[(member.pid, member.create_time())] = times.user + times.system
                rss_bytes += member.memory_info().rss
        except psutil.NoSuchProcess:
            if member is process:
                raise
    return cpu_s, rss_bytes


def descendants(process: psutil.Process, proc: Path = Path("/proc")) -> list[psutil.Process]:
    """All living children and their children.

    Asks the kernel for each process's children where it lists them, because psutil reads the whole process table,
    which costs several milliseconds on a busy machine.
    """
    if not any((proc / "self" / "task").glob("*/children")):
        return list(process.children(recursive=True))
    found: list[psutil.Process] = []
    ahead = [process.pid]
    while ahead:
        for children in (proc / str(ahead.pop()) / "task").glob("*/children"):
            try:
                pids = [int(pid) for pid in children.read_text().split()]
                found.extend(psutil.Process(pid) for pid in pids)
            except (OSError, psutil.NoSuchProcess):
                continue
            ahead.extend(pids)
    return found


def cpu_frequency_mhz() -> float | None:
    """Mean current frequency of the cores; None where the machine shows none (most virtual machines)."""
    frequency = psutil.cpu_freq()
    return float(frequency.current) if frequency is not None and frequency.current else None


def _percent(used_s: float, elapsed_ns: int) -> float | None:
    """CPU use in per cent of one core; None over a time too short for the kernel's ticks to tell."""
    return None if elapsed_ns < SHORTEST_NS else max(0.0, 100 * used_s / (elapsed_ns / 1e9))
