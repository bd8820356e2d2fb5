"""The monitors of one run: the recorder thread, the processes it watches, and what speaks against block or run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from harness.machine import gpu
from harness.machine.gpu import GIB
from harness.machine.monitors.host import HostMonitor
from harness.machine.monitors.nvml import open_nvml
from harness.machine.monitors.recorder import Recorder
from harness.record.events import ArmSlot, Finding, MonitorState, Sample
from harness.record.findings import (
    CPU_FREQUENCY_DRIFT,
    GPU_DISTURBED,
    GPU_LOST,
    GPU_POWER_LIMITED,
    MEMORY_NEARLY_FULL,
    SWAPPING,
)
from harness.record.writer import RunWriter
from messages import marked, recorded

INTERVAL_S = 0.5
MOST_SWAPPED_OUT_BYTES = 64 << 20
MOST_FREQUENCY_DRIFT = 0.10
MOST_SLOWED_SHARE = 0.05
LEAST_LEFT_BYTES = GIB // 2
# Bits of NVML's clock event reasons (nvml.h) that mean: slower than asked for, by heat or by the supply.
SLOWDOWNS = {0x08: marked("hardware slowdown"), 0x20: marked("heat (driver)"), 0x40: marked("heat (hardware)"),
             0x80: marked("power brake")}
# At full load the power limit sets the clock of most GPUs: a fact to report, no disturbance.
POWER_CAP = 0x04


class Telemetry:
    """All monitors of this machine, writing into the journal.

    Args:
        writer: the run folder.
        device: where the arms run; what a GPU does matters to a block only on "cuda".
    """

    def __init__(self, writer: RunWriter, device: str) -> None:
        self._writer, self._device = writer, device
        self._host = HostMonitor({})
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        # What others do on another GPU is nobody's business here.
        self._gpu = open_nvml(gpu.chosen(visible).uuid or visible)
        self._recorder = Recorder((self._host, self._gpu), self._sink, INTERVAL_S)
        self._samples: list[Sample] = []
        # Those that answered before and do so no more, with the reason.
        self._gone: dict[str, str] = {}
        self._marked = 0

    def start(self) -> None:
        """Sample from now on."""
        self._recorder.start()

    def stop(self) -> None:
        """Sample no more; harmless when done twice."""
        self._recorder.stop()
        self._gpu.close()

    def watch(self, pids: Mapping[ArmSlot, int]) -> None:
        """From now on these are the measured processes."""
        named: dict[str, int] = {str(slot): pid for slot, pid in pids.items()}
        self._host.set_processes(named)
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
        """What the samples since `mark` say against the block, and a GPU that is gone against all from then on."""
        return [*disturbances(self._samples[self._marked :], self._device), *self._missing()]

    def findings(self) -> list[Finding]:
        """What the samples of the whole run say against it."""
        return [*during_run(self._samples, self._device), *(GPU_LOST.found(text) for text in self._missing())]

    def _missing(self) -> list[str]:
        return [recorded("{source} stopped answering: {why}", source=source, why=why)
                for source, why in self._gone.items() if self._device == "cuda"]

    def _sink(self, event: Sample | MonitorState | Finding) -> None:
        self._writer.append(event)
        if isinstance(event, Sample):
            self._samples.append(event)
        elif isinstance(event, MonitorState) and event.source.startswith("gpu:") and not event.available:
            self._gone.setdefault(event.source, event.reason or recorded("no reason is known"))


def during_run(samples: Sequence[Sample], device: str) -> list[Finding]:
    """What the telemetry of a whole run says against it.

    Args:
        samples: all samples, oldest first.
        device: "cpu" or "cuda"; GPUs speak against a run only when it uses them.
    """
    findings = []
    frequencies = _series(samples, "host", "cpu_frequency_mhz")
    if frequencies and max(frequencies) - min(frequencies) > MOST_FREQUENCY_DRIFT * max(frequencies):
        findings.append(CPU_FREQUENCY_DRIFT.found(recorded(
            "the CPU's frequency moved between {lowest} and {highest} MHz during the run",
            lowest=f"{min(frequencies):.0f}", highest=f"{max(frequencies):.0f}")))
    swap = _series(samples, "host", "swap_used_bytes")
    if swap and max(swap) - swap[0] > MOST_SWAPPED_OUT_BYTES:
        findings.append(SWAPPING.found(recorded("the machine swapped out {size} GiB during the run",
                                                size=f"{(max(swap) - swap[0]) / GIB:.2f}")))
    left = _series(samples, "host", "memory_available_bytes")
    if left and min(left) < LEAST_LEFT_BYTES:
        findings.append(MEMORY_NEARLY_FULL.found(recorded(
            "only {size} GiB of memory were left at one moment of the run", size=f"{min(left) / GIB:.2f}")))
    if device != "cuda":
        return findings
    findings += [GPU_DISTURBED.found(reason) for reason in disturbances(samples, device)]
    for source in _gpus(samples):
        masks = _series(samples, source, "clock_event_reasons")
        share = sum(bool(int(mask) & POWER_CAP) for mask in masks) / len(masks) if masks else 0.0
        if share > MOST_SLOWED_SHARE:
            findings.append(GPU_POWER_LIMITED.found(recorded(
                "{source} ran at its power limit in {share} of the samples", source=source, share=f"{share:.0%}")))
    return findings


def disturbances(samples: Sequence[Sample], device: str) -> list[str]:
    """One sentence per reason why the block in which these samples were taken is dirty; none for a CPU run."""
    found: list[str] = []
    for source in _gpus(samples) if device == "cuda" else []:
        masks = [int(mask) for mask in _series(samples, source, "clock_event_reasons")]
        slowed = [mask for mask in masks if any(mask & bit for bit in SLOWDOWNS)]
        if len(slowed) > MOST_SLOWED_SHARE * len(masks):
            names = [name for bit, name in SLOWDOWNS.items() if any(mask & bit for mask in slowed)]
            found.append(recorded("{source} lowered its clock in {share} of the samples: {causes}", source=source,
                                  share=f"{len(slowed) / len(masks):.0%}", causes=", ".join(names)))
        foreign = max(_series(samples, source, "foreign_processes"), default=0)
        if foreign > 0:
            n = f"{foreign:.0f}"
            found.append(recorded("{n} other process on {source}", n=n, source=source) if foreign == 1 else
                         recorded("{n} other processes on {source}", n=n, source=source))
    return found


def _gpus(samples: Sequence[Sample]) -> list[str]:
    return sorted({sample.source for sample in samples if sample.source.startswith("gpu:")})


def _series(samples: Sequence[Sample], source: str, name: str) -> list[float]:
    """All readable values of one quantity of one source, oldest first."""
    values = (sample.values.get(name) for sample in samples if sample.source == source)
    return [float(value) for value in values if value is not None]
