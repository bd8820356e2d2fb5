"""The recorder driven by a clock and an alarm that the test holds: nothing here waits for time to pass."""

from __future__ import annotations

import threading

import pytest

from harness.machine.monitors import NullMonitor
from harness.machine.monitors.recorder import Recorder
from harness.record.events import Finding, MonitorState, Sample

SECOND_NS = 1_000_000_000


class Clock:
    """Monotonic time that moves only when told."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Metronome:
    """An alarm whose wait ends at once: time advances by the timeout, the script for that tick runs, and it may end."""

    def __init__(self, clock: Clock, ticks: int, script=lambda tick: None) -> None:
        self.clock, self.ticks, self.script = clock, ticks, script
        self.timeouts: list[float] = []
        self._set = threading.Event()

    def wait(self, timeout=None):
        self.timeouts.append(timeout)
        self.clock.now_ns += round(timeout * 1e9)
        self.script(len(self.timeouts))
        if len(self.timeouts) >= self.ticks:
            self._set.set()
        return self._set.is_set()

    def set(self):
        self._set.set()

    def is_set(self):
        return self._set.is_set()


class Scripted:
    """A monitor whose readings count up; it takes `cost_ns` of the clock and may fail or change its state."""

    def __init__(self, clock: Clock, cost_ns: int = 0) -> None:
        self.clock, self.cost_ns = clock, cost_ns
        self.state = MonitorState(source="gpu:0", available=True)
        self.fault: Exception | None = None
        self.readings = 0

    def sources(self):
        return [self.state]

    def sample(self):
        if self.fault is not None:
            raise self.fault
        self.readings += 1
        sample = Sample(source="gpu:0", t_ns=self.clock.now_ns, values={"reading": self.readings})
        self.clock.now_ns += self.cost_ns
        return [sample]


def record(monitor, clock, ticks, script=lambda tick: None, interval_s=0.5):
    written: list = []
    alarm = Metronome(clock, ticks, script)
    recorder = Recorder([monitor], written.append, interval_s, clock, alarm)
    recorder.start()
    recorder._thread.join()
    return recorder, written, alarm


def samples(written):
    return [event for event in written if isinstance(event, Sample)]


def test_samples_come_at_the_interval():
    clock = Clock()
    recorder, written, _ = record(Scripted(clock), clock, 4)
    recorder.stop()
    assert [sample.t_ns for sample in samples(written)] == [0, SECOND_NS // 2, SECOND_NS, 3 * SECOND_NS // 2]
    assert recorder.cpu_ns > 0


def test_the_cost_of_a_reading_does_not_stretch_the_interval():
    clock = Clock()
    recorder, written, alarm = record(Scripted(clock, cost_ns=SECOND_NS // 10), clock, 3)
    recorder.stop()
    assert [sample.t_ns for sample in samples(written)] == [0, SECOND_NS // 2, SECOND_NS]
    assert alarm.timeouts == pytest.approx([0.4] * 3)


def test_a_reading_longer_than_the_interval_is_not_followed_by_a_burst():
    clock = Clock()
    recorder, written, alarm = record(Scripted(clock, cost_ns=2 * SECOND_NS), clock, 3)
    recorder.stop()
    assert [sample.t_ns for sample in samples(written)] == [0, 2 * SECOND_NS, 4 * SECOND_NS]
    assert min(alarm.timeouts) >= 0


def test_the_state_comes_first_and_again_only_when_it_changes():
    clock = Clock()
    monitor = Scripted(clock)

    def script(tick):
        if tick == 2:
            monitor.state = MonitorState(source="gpu:0", available=False, reason="GPU is lost")

    recorder, written, _ = record(monitor, clock, 4, script)
    recorder.stop()
    states = [(i, event.available, event.reason) for i, event in enumerate(written) if isinstance(event, MonitorState)]
    assert states == [(0, True, None), (4, False, "GPU is lost")]
    assert written[4].t_ns == SECOND_NS


def test_a_paused_recorder_reads_nothing():
    clock = Clock()
    monitor = Scripted(clock)

    def script(tick):
        if tick == 1:
            recorder.pause()
        if tick == 3:
            recorder.resume()

    written: list = []
    alarm = Metronome(clock, 5, script)
    recorder = Recorder([monitor], written.append, 0.5, clock, alarm)
    recorder.start()
    recorder._thread.join()
    recorder.stop()
    assert [sample.t_ns for sample in samples(written)] == [0, 3 * SECOND_NS // 2, 2 * SECOND_NS]
    assert monitor.readings == 3


def test_a_fault_in_a_monitor_ends_that_monitor_with_a_finding_and_nothing_else():
    clock = Clock()
    good, bad = Scripted(clock), Scripted(clock)
    bad.fault = KeyError("surprise")
    bad.state = MonitorState(source="gpu:1", available=True)
    written: list = []
    recorder = Recorder([bad, good], written.append, 0.5, clock, Metronome(clock, 3))
    recorder.start()
    recorder._thread.join()
    recorder.stop()
    assert len(samples(written)) == 3
    finding, = [event for event in written if isinstance(event, Finding)]
    assert finding.code == "monitor-failed"
    assert "gpu:1" in finding.message
    assert "KeyError" in finding.message


def test_what_the_sink_raises_reaches_the_one_who_stops():
    clock = Clock()

    def full(event):
        if isinstance(event, Sample):
            raise OSError(28, "No space left on device")

    recorder = Recorder([Scripted(clock)], full, 0.5, clock, Metronome(clock, 3))
    recorder.start()
    with pytest.raises(OSError, match="No space left"):
        recorder.stop()
    recorder.stop()


def test_stopping_ends_the_thread_with_the_real_alarm():
    first = threading.Event()
    recorder = Recorder([Scripted(Clock())], lambda event: first.set(), interval_s=3600)
    recorder.start()
    assert first.wait(30)
    recorder.stop()
    assert not recorder._thread.is_alive()
    recorder.stop()


def test_stopping_before_the_start_is_harmless_and_a_second_start_is_not():
    Recorder([], print).stop()
    recorder = Recorder([], print, 3600)
    recorder.start()
    recorder.stop()
    with pytest.raises(RuntimeError, match="once"):
        recorder.start()


@pytest.mark.parametrize("interval_s", [0, -1, float("nan")])
def test_an_interval_must_be_positive(interval_s):
    with pytest.raises(ValueError, match="interval_s"):
        Recorder([], print, interval_s)


def test_the_null_object_says_why_and_reads_nothing():
    clock = Clock()
    null = NullMonitor("gpu", "no driver")
    recorder, written, _ = record(null, clock, 2)
    recorder.stop()
    null.set_processes({"A": 1})
    null.close()
    assert (null.sample(), null.energy_mj()) == ([], {})
    assert [(event.available, event.reason) for event in written] == [(False, "no driver")]
