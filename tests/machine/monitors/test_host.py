"""The host monitor on real processes whose CPU time and memory the test controls, with a clock that the test holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from harness.machine.monitors import host
from harness.machine.monitors.host import HostMonitor, descendants

SECOND_NS = 1_000_000_000
WORKER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "held = bytearray(60 << 20); print(1, flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE) if len(sys.argv) > 1 else None
if child:
    child.stdout.readline()
print("ready", flush=True)
input()
end = time.process_time() + 0.5
while time.process_time() < end:
    pass
print("burnt", flush=True)
input()
if child:
    child.communicate(b"\\n")
"""


class Worker:
    """A process that starts, burns half a second of CPU, and ends, each on command."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def burn(self) -> None:
        print(file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "burnt\n"

    def end(self) -> None:
        self.process.communicate("\n\n")


@pytest.fixture
def workers():
    started: list[Worker] = []

    def start(*arguments: str) -> Worker:
        started.append(Worker(*arguments))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
        worker.process.communicate()


class Clock:
    """Monotonic time that moves only when told."""

    now_ns = 5 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


def values(samples, source):
    found = [sample.values for sample in samples if sample.source == source]
    return found[0] if found else None


def test_cpu_use_is_the_workers_own_over_the_time_between_samples(workers):
    clock, worker = Clock(), workers()
    monitor = HostMonitor({"A": worker.process.pid}, clock)
    worker.burn()
    clock.now_ns += 2 * SECOND_NS
    samples = monitor.sample()
    # Half a second of CPU in two seconds; the kernel counts in ticks of 10 ms.
    assert 23 <= values(samples, "process:A")["cpu_percent"] <= 30
    assert [sample.t_ns for sample in samples] == [clock.now_ns] * 2
    clock.now_ns += 2 * SECOND_NS
    assert values(monitor.sample(), "process:A")["cpu_percent"] <= 2


def test_children_count_and_their_memory_too(workers):
    alone, parent = workers(), workers("child")
    clock = Clock()
    monitor = HostMonitor({"A": alone.process.pid, "B": parent.process.pid}, clock)
    clock.now_ns += SECOND_NS
    samples = monitor.sample()
    a, b = values(samples, "process:A"), values(samples, "process:B")
    assert (a["processes"], b["processes"]) == (1, 2)
    assert b["rss_bytes"] > a["rss_bytes"] + (60 << 20)


def test_children_are_those_that_psutil_finds(workers):
    parent = psutil.Process(workers("child").process.pid)
    found = {process.pid for process in descendants(parent)}
    assert found == {process.pid for process in parent.children(recursive=True)}
    assert len(found) == 1


def test_where_the_kernel_lists_no_children_psutil_is_asked(workers, tmp_path):
    parent = psutil.Process(workers("child").process.pid)
    assert descendants(parent, tmp_path) == parent.children(recursive=True)


def test_a_worker_that_ends_becomes_unavailable_and_the_rest_goes_on(workers):
    first, second = workers(), workers()
    clock = Clock()
    monitor = HostMonitor({"A": first.process.pid, "B": second.process.pid}, clock)
    first.end()
    clock.now_ns += SECOND_NS
    samples = monitor.sample()
    assert [sample.source for sample in samples] == ["host", "process:B"]
    state = {state.source: state for state in monitor.sources()}
    assert (state["process:A"].available, state["process:A"].reason) == (
        False, f"process {first.process.pid} has ended")
    assert state["process:B"].available


def test_a_zombie_has_ended(workers):
    worker = workers()
    monitor = HostMonitor({"A": worker.process.pid}, Clock())
    worker.process.kill()
    os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)
    assert [sample.source for sample in monitor.sample()] == ["host"]


def test_a_worker_that_never_was_is_unavailable_from_the_start():
    monitor = HostMonitor({"A": 2**22 + 1}, Clock())
    assert [sample.source for sample in monitor.sample()] == ["host"]
    assert not monitor.sources()[1].available


def test_other_workers_replace_the_last(workers):
    first, second = workers(), workers()
    clock = Clock()
    monitor = HostMonitor({"A": first.process.pid}, clock)
    monitor.set_processes({"B": second.process.pid})
    clock.now_ns += SECOND_NS
    assert [sample.source for sample in monitor.sample()] == ["host", "process:B"]
    assert [state.source for state in monitor.sources()] == ["host", "process:B"]
    monitor.set_processes({})
    assert [sample.source for sample in monitor.sample()] == ["host"]


def test_the_machine(monkeypatch):
    times = namedtuple("times", "user nice system idle iowait irq softirq steal guest")  # noqa: PYI024
    readings = iter([times(10, 0, 5, 100, 3, 0, 0, 1, 9), times(11, 0, 5.5, 150, 9, 0.25, 0, 1.25, 9)])
    monkeypatch.setattr(host.psutil, "cpu_times", lambda: next(readings))
    monkeypatch.setattr(host.psutil, "getloadavg", lambda: (1.5, 9, 9))
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: SimpleNamespace(available=77))
    monkeypatch.setattr(host.psutil, "swap_memory", lambda: SimpleNamespace(used=5))
    monkeypatch.setattr(host.psutil, "cpu_freq", lambda: SimpleNamespace(current=2300.0))
    clock = Clock()
    monitor = HostMonitor({}, clock)
    clock.now_ns += 4 * SECOND_NS
    assert values(monitor.sample(), "host") == {
        "cpu_percent": pytest.approx(50), "load1": 1.5, "memory_available_bytes": 77, "swap_used_bytes": 5,
        "cpu_frequency_mhz": 2300.0}


def test_a_time_too_short_for_the_kernels_ticks_gives_no_percentage():
    clock = Clock()
    monitor = HostMonitor({}, clock)
    clock.now_ns += SECOND_NS // 20
    assert values(monitor.sample(), "host")["cpu_percent"] is None


def test_what_the_machine_does_not_show_is_none_with_the_reason(monkeypatch):
    def refused():
        raise OSError(13, "no")

    monkeypatch.setattr(host.psutil, "getloadavg", refused)
    monkeypatch.setattr(host.psutil, "cpu_freq", lambda: None)
    monitor = HostMonitor({}, Clock())
    found = values(monitor.sample(), "host")
    assert found["load1"] is None
    assert found["cpu_frequency_mhz"] is None
    assert "load1: PermissionError" in monitor.sources()[0].reason
    assert "cpu_frequency_mhz: this machine does not show it" in monitor.sources()[0].reason
    assert monitor.sources()[0].available


def test_the_frequency_is_not_read_at_every_sample():
    monitor = HostMonitor({}, Clock())
    read = ["cpu_frequency_mhz" in values(monitor.sample(), "host") for _ in range(21)]
    assert [i for i, present in enumerate(read) if present] == [0, 10, 20]


def test_a_reading_stamps_the_monotonic_clock():
    before = time.monotonic_ns()
    sample = HostMonitor({}).sample()[0]
    assert before <= sample.t_ns <= time.monotonic_ns()
