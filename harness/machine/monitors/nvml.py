"""NVIDIA GPUs through NVML: utilisation, clocks, power, energy and who else is on the device. The bindings load late.

NVML's own names and units: docs.nvidia.com/deploy/nvml-api, chapter "Device Queries".
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import psutil

from harness.machine.monitors import NullMonitor
from harness.machine.monitors.host import descendants
from harness.machine.monitors.nvml_calls import Nvml, ReadingError
from harness.machine.monitors.nvml_devices import Device, open_devices
from harness.record.events import MonitorState, Sample
from messages import recorded

Number = int | float | None

# The inode that Linux gives the first PID namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h).
FIRST_PID_NAMESPACE = 0xEFFFFFFC


class NvmlMonitor:
    """Telemetry of the visible GPUs; a reading that fails is None with its reason, a lost device never ends a run."""

    def __init__(self, nvml: Nvml, devices: list[Device]) -> None:
        self._nvml = nvml
        self._devices = devices
        self._lock = threading.Lock()
        self._own: frozenset[int] = frozenset()
        self._host_pids = _sees_host_pids()

    def set_processes(self, pids: Mapping[str, int]) -> None:
        """Name workers of ours that this process did not start itself (slot -> pid); they stay ours from now on."""
        with self._lock:
            self._own |= frozenset(pids.values())

    def sources(self) -> list[MonitorState]:
        """Every device with its fixed facts; `reason` names the readings that do not work."""
        with self._lock:
            return [_state(device) for device in self._devices]

    def sample(self) -> list[Sample]:
        """One reading of every device that still answers."""
        with self._lock:
            return [sample for device in self._devices if (sample := self._read_all(device)) is not None]

    def energy_mj(self) -> dict[str, int | None]:
        """The energy counter of every device in millijoules; None where it cannot be read."""
        with self._lock:
            counters: dict[str, int | None] = {}
            for device in self._devices:
                values: dict[str, Number] = {}
                if device.lost is None:
                    self._attempt(device, "energy_mj", self._plain("nvmlDeviceGetTotalEnergyConsumption"), values)
                counter = values.get("energy_mj")
                counters[device.source] = None if counter is None else int(counter)
            return counters

    def close(self) -> None:
        """Release NVML. A driver that is already gone needs no release."""
        with self._lock:
            self._devices = []
            try:
                self._nvml.call("nvmlShutdown")
            except ReadingError as fault:
                if fault.kind != "gone":
                    raise

    def _read_all(self, device: Device) -> Sample | None:
        if device.lost is not None:
            return None
        values: dict[str, Number] = {}
        worked = [self._attempt(device, name, read, values) for name, read in self._readings().items()]
        if device.lost is None and not any(worked):
            device.lost = "; ".join(sorted(set(device.unreadable.values()))) or recorded("no reading works")
        return None if device.lost else Sample(source=device.source, t_ns=time.monotonic_ns(), values=values)

    def _readings(self) -> dict[str, Callable[[Device], dict[str, Number] | Number]]:
        constant, nvml = self._nvml.constant, self._nvml
        return {
            "utilisation_percent": self._utilisation,
            "memory_used_bytes": lambda d: int(nvml.call("nvmlDeviceGetMemoryInfo", d.handle).used),
            "power_mw": self._plain("nvmlDeviceGetPowerUsage"),
            "sm_clock_mhz": self._plain("nvmlDeviceGetClockInfo", constant("NVML_CLOCK_SM")),
            "memory_clock_mhz": self._plain("nvmlDeviceGetClockInfo", constant("NVML_CLOCK_MEM")),
            "temperature_c": self._plain("nvmlDeviceGetTemperature", constant("NVML_TEMPERATURE_GPU")),
            "energy_mj": self._plain("nvmlDeviceGetTotalEnergyConsumption"),
            "clock_event_reasons": self._clock_events,
            "power_violation_ns": self._violation("NVML_PERF_POLICY_POWER"),
            "thermal_violation_ns": self._violation("NVML_PERF_POLICY_THERMAL"),
            "processes": self._processes,
        }

    def _attempt(self, device: Device, name: str, read: Callable[[Device], dict[str, Number] | Number],
                 values: dict[str, Number]) -> bool:
        """Put one reading, or None with its reason, into `values`; whether the device answered."""
        values[name] = None
        if device.lost is not None or name in device.hopeless:
            return False
        try:
            result = read(device)
        except ReadingError as fault:
            device.cannot(name, fault)
            return False
        values.update(result if isinstance(result, dict) else {name: result})
        return True

    def _plain(self, function: str, *arguments: Any) -> Callable[[Device], Number]:
        return lambda device: int(self._nvml.call(function, device.handle, *arguments))

    def _violation(self, policy: str) -> Callable[[Device], Number]:
        code = self._nvml.constant(policy)
        return lambda device: int(self._nvml.call("nvmlDeviceGetViolationStatus", device.handle, code).violationTime)

    def _utilisation(self, device: Device) -> dict[str, Number]:
        """Readings of the ring buffer since the last sample, so that a trough between two samples is not missed."""
        try:
            readings = self._buffered(device)
        except ReadingError as fault:
            if fault.kind == "gone":
                raise
            readings = []
        if readings:
            mean = sum(readings) / len(readings)
            return {"utilisation_percent": mean, "utilisation_min_percent": min(readings),
                    "utilisation_max_percent": max(readings)}
        return {"utilisation_percent": int(self._nvml.call("nvmlDeviceGetUtilizationRates", device.handle).gpu)}

    def _buffered(self, device: Device) -> list[int]:
        kind, samples = self._nvml.call("nvmlDeviceGetSamples", device.handle,
                                        self._nvml.constant("NVML_GPU_UTILIZATION_SAMPLES"), device.seen_us)
        if kind != self._nvml.constant("NVML_VALUE_TYPE_UNSIGNED_INT"):
            raise ReadingError("unsupported", recorded("utilisation readings of an unexpected type {kind}", kind=kind))
        # Some drivers hand out readings that were seen before, or empty slots stamped 0.
        fresh = [sample for sample in samples if sample.timeStamp > device.seen_us]
        device.seen_us = max((int(sample.timeStamp) for sample in fresh), default=device.seen_us)
        return [int(sample.sampleValue.uiVal) for sample in fresh]

    def _clock_events(self, device: Device) -> Number:
        try:
            return int(self._nvml.call("nvmlDeviceGetCurrentClocksEventReasons", device.handle))
        except ReadingError as fault:
            if fault.kind != "unsupported":
                raise
            # The name before driver 535.
            return int(self._nvml.call("nvmlDeviceGetCurrentClocksThrottleReasons", device.handle))

    def _processes(self, device: Device) -> dict[str, Number]:
        pids = [int(process.pid) for process in self._nvml.call("nvmlDeviceGetComputeRunningProcesses", device.handle)]
        return {"processes": len(pids), "foreign_processes": self._foreign(pids) if pids else 0}

    def _foreign(self, pids: list[int]) -> int:
        """How many of these processes are neither ours nor started by us; one that has just ended is nobody's."""
        living = self._own | {process.pid for process in descendants(psutil.Process())}
        self._own |= living
        if self._host_pids:
            return sum(pid not in self._own and bool(psutil.pid_exists(pid)) for pid in pids)
        # Inside a container NVML shows the host's numbers: only counts compare, and the answer is "at least so many".
        ours: int = sum(psutil.pid_exists(pid) for pid in living)
        return max(0, len(pids) - ours)


class NoGpu(NullMonitor):
    """NVML answers, and there is no GPU that CUDA may use; the reason says why."""


def open_nvml(visible: str | None) -> NvmlMonitor | NullMonitor:
    """The GPUs that CUDA may use, or a null object that says why there are none: `NoGpu` where NVML says so itself.

    Args:
        visible: the value of CUDA_VISIBLE_DEVICES (indices, UUIDs of GPUs and MIG instances, or their beginnings);
            None when unset.
    """
    try:
        nvml = Nvml(import_module("pynvml"))
    except ImportError as error:
        return NullMonitor("gpu", recorded("the NVML bindings (nvidia-ml-py) cannot be imported: {error}",
                                           error=error))
    try:
        nvml.call("nvmlInit")
    except ReadingError as fault:
        return NullMonitor("gpu", recorded("NVML does not start: {fault}", fault=fault))
    try:
        devices, reason = open_devices(nvml, visible), _why_none(visible)
    except ReadingError as fault:
        devices, reason = [], recorded("no GPU can be opened: {fault}", fault=fault)
    if devices and all(device.lost is not None for device in devices):
        each = [f"{device.source}: {device.lost}" for device in devices]
        devices, reason = [], recorded("no GPU can be used: {each}", each="; ".join(each))
    monitor = NvmlMonitor(nvml, devices)
    if devices:
        return monitor
    monitor.close()
    return NoGpu("gpu", reason)


def _why_none(visible: str | None) -> str:
    """Why CUDA shows nothing, where it does."""
    if visible is None:
        return recorded("NVML shows no GPU")
    if not visible.strip():
        return recorded("CUDA_VISIBLE_DEVICES is empty, which hides every GPU: unset it, or name one")
    return recorded("CUDA_VISIBLE_DEVICES={visible} names no GPU that answers: nvidia-smi -L lists them",
                    visible=repr(visible[:80]))


def _state(device: Device) -> MonitorState:
    partly = "; ".join(f"{name}: {why}" for name, why in sorted(device.unreadable.items())) or None
    return MonitorState(source=device.source, available=device.lost is None, reason=device.lost or partly,
                        static=dict(device.static))


def _sees_host_pids() -> bool:
    """Whether process ids here are those the driver reports, that is, whether this is no container."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == FIRST_PID_NAMESPACE
    except OSError:
        return False
