"""A thread that samples monitors at a steady interval and hands the readings to a sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from harness.machine.monitors import Monitor
from harness.record.events import Finding, MonitorState, Sample
from harness.record.findings import MONITOR_FAILED
from messages import recorded

Sink = Callable[[Sample | MonitorState | Finding], None]


class Recorder:
    """Samples all monitors every `interval_s` until `alarm` is set; a paused recorder reads and writes nothing.

    The sink is called from one thread at a time, also for the states written by `start`, so it needs no lock of its
    own against this recorder (it needs one against its other writers).
    """

    def __init__(self, monitors: Sequence[Monitor], sink: Sink, interval_s: float = 0.5,
                 clock_ns: Callable[[], int] = time.monotonic_ns, alarm: threading.Event | None = None) -> None:
        if not interval_s > 0:
            raise ValueError(f"interval_s must be positive, got {interval_s}")
        self._monitors = tuple(monitors)
        self._sink = sink
        self._interval_ns = round(interval_s * 1e9)
        self._clock_ns = clock_ns
        self._alarm = alarm or threading.Event()
        self._lock = threading.Lock()
        self._paused = False
        self._seen: dict[str, MonitorState] = {}
        self._thread: threading.Thread | None = None
        self._fault: Exception | None = None
        self.cpu_ns: int | None = None

    def start(self) -> None:
        """Write the state of every source, then sample in the background."""
        if self._thread is not None:
            raise RuntimeError("a recorder starts once")
        with self._lock:
            self._write_changed_states()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop reading; when this returns no reading is under way."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """Read again from the next tick on."""
        with self._lock:
            self._paused = False

    def stop(self) -> None:
        """End the thread and wait for it; the monitors stay open. Doing it twice, or before `start`, is harmless.

        Raises:
            Exception: what the sink raised in the background, if it did; the recording ended there.
        """
        self._alarm.set()
        if self._thread is not None:
            self._thread.join()
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def _run(self) -> None:
        try:
            due_ns = self._clock_ns()
            while not self._alarm.is_set():
                self._tick()
                self.cpu_ns = time.thread_time_ns()
                # A late tick is skipped, not made up for: a burst of readings after a stall would load the machine.
                now_ns = self._clock_ns()
                due_ns = max(due_ns + self._interval_ns, now_ns)
                self._alarm.wait((due_ns - now_ns) / 1e9)
        except Exception as error:
            self._fault = error

    def _tick(self) -> None:
        with self._lock:
            if self._paused:
                return
            for monitor in self._monitors:
                for sample in self._read(monitor):
                    self._sink(sample)
            self._write_changed_states()

    def _read(self, monitor: Monitor) -> list[Sample]:
        """The monitor's readings; a fault of ours in a monitor becomes a finding, for telemetry must not end a run."""
        try:
            return monitor.sample()
        except Exception as error:
            source = ", ".join(state.source for state in monitor.sources())
            self._monitors = tuple(kept for kept in self._monitors if kept is not monitor)
            self._sink(MONITOR_FAILED.found(recorded("telemetry of {source} ended: {error}", source=source,
                                                     error=f"{type(error).__name__}: {error}"),
                                            t_ns=self._clock_ns()))
            return []

    def _write_changed_states(self) -> None:
        for monitor in self._monitors:
            for state in monitor.sources():
                if self._seen.get(state.source) != state:
                    self._seen[state.source] = state
                    self._sink(state.model_copy(update={"t_ns": self._clock_ns()}))
