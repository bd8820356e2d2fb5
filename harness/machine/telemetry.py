"""The monitors of one run: the recorder thread, the processes it watches, and what it saw against a block."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from harness.machine.monitors import Monitor, Recorder
from harness.machine.monitors.host import HostMonitor
from harness.machine.monitors.nvml import NvmlMonitor, open_nvml
from harness.machine.preflight import disturbances, during_run
from harness.record.events import ArmSlot, Finding, MonitorState, Sample
from harness.record.writer import RunWriter

INTERVAL_S = 0.5


class MonitorSet:
    """All monitors of this machine, writing into the journal.

    Args:
        writer: the run folder.
        device: where the arms run; what a GPU does matters to a block only on "cuda".
    """

    def __init__(self, writer: RunWriter, device: str) -> None:
        self._writer, self._device = writer, device
        self._host = HostMonitor({})
        self._gpu = open_nvml(os.environ.get("CUDA_VISIBLE_DEVICES"))
        monitors: Sequence[Monitor] = (self._host, self._gpu)
        self._recorder = Recorder(monitors, self._sink, INTERVAL_S)
        self._samples: list[Sample] = []
        self._marked = 0

    def start(self) -> None:
        """Sample from now on."""
        self._recorder.start()

    def stop(self) -> None:
        """Sample no more; harmless when done twice."""
        self._recorder.stop()
        self._host.close()
        self._gpu.close()

    def watch(self, pids: Mapping[ArmSlot, int]) -> None:
        """From now on these are the measured processes."""
        named: dict[str, int] = {str(slot): pid for slot, pid in pids.items()}
        self._host.set_processes(named)
        if isinstance(self._gpu, NvmlMonitor):
            self._gpu.set_processes(named)

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self._recorder.pause()

    def resume(self) -> None:
        """Read again."""
        self._recorder.resume()

    def energy_mj(self) -> Mapping[str, int | None]:
        """Energy counter of every GPU; nothing on a CPU run, where a GPU's energy says nothing about the arms."""
        return self._gpu.energy_mj() if self._device == "cuda" else {}

    def mark(self) -> None:
        """A block begins."""
        self._marked = len(self._samples)

    def disturbances(self) -> list[str]:
        """What the samples since `mark` say against the block."""
        return disturbances(self._samples[self._marked :], self._device)

    def findings(self) -> list[Finding]:
        """What the samples of the whole run say against it."""
        return during_run(self._samples, self._device)

    def _sink(self, event: Sample | MonitorState | Finding) -> None:
        self._writer.append(event)
        if isinstance(event, Sample):
            self._samples.append(event)
