"""The NVIDIA GPUs that CUDA may use, as NVML shows them, with the facts that do not change during a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.machine.monitors.nvml_calls import Nvml, ReadingError

Fact = str | int | float | None


@dataclass
class Device:
    """One GPU and what is known of it.

    Attributes:
        index: NVML's index, as nvidia-smi shows it.
        seen_us: stamp of the newest utilisation reading taken from the ring buffer, in NVML's own microseconds.
        unreadable: reading -> why it gives None.
        hopeless: readings that will never work here and are not asked for again.
        lost: why the device stopped answering; None while it answers.
    """

    index: int
    handle: Any
    static: dict[str, Fact]
    seen_us: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    hopeless: set[str] = field(default_factory=set)
    lost: str | None = None

    @property
    def source(self) -> str:
        """The name of this device in the journal."""
        return f"gpu:{self.index}"


def open_devices(nvml: Nvml, visible: str | None) -> list[Device]:
    """The devices in CUDA's order, with their fixed facts; one that cannot be opened is lost and hides no other.

    Args:
        nvml: the started library.
        visible: the value of CUDA_VISIBLE_DEVICES; None when unset.

    Raises:
        ReadingError: the library does not tell how many there are.
    """
    every = [_opened(nvml, index) for index in range(int(nvml.call("nvmlDeviceGetCount")))]
    devices = []
    for ordinal, index in enumerate(visible_indices(visible, [str(device.static["uuid"] or "") for device in every])):
        device = every[index]
        device.static["cuda_ordinal"] = ordinal
        devices.append(device)
        if device.lost is not None:
            continue
        _read_static(nvml, device)
        try:
            # What the ring buffer holds now is history of before this run.
            _, old = nvml.call("nvmlDeviceGetSamples", device.handle, nvml.constant("NVML_GPU_UTILIZATION_SAMPLES"), 0)
            device.seen_us = max((int(sample.timeStamp) for sample in old), default=0)
        except ReadingError:
            device.seen_us = 0
    return devices


def _opened(nvml: Nvml, index: int) -> Device:
    """One device with its UUID, or with the reason why it gives none."""
    device = Device(index, None, {"uuid": None})
    try:
        device.handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
        device.static["uuid"] = str(nvml.call("nvmlDeviceGetUUID", device.handle))
    except ReadingError as fault:
        device.lost = str(fault)
    return device


def visible_indices(visible: str | None, uuids: list[str]) -> list[int]:
    """NVML indices of the devices that CUDA shows, in CUDA's order (CUDA C Programming Guide, "Environment Variables").

    The list ends at the first entry that names no device, as in CUDA; a MIG slice ends it too, because NVML has most
    readings only for whole GPUs. Indices are taken in PCI bus order.
    """
    if visible is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdecimal():
            found = [int(entry)] if int(entry) < len(uuids) else []
        else:
            found = [i for i, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
        if len(found) != 1 or found[0] in chosen:
            break
        chosen.append(found[0])
    return chosen


def _read_static(nvml: Nvml, device: Device) -> None:
    """Facts that do not change during a run; what cannot be read is None with its reason."""
    clock = nvml.constant("NVML_CLOCK_SM")
    facts: dict[str, Callable[[], Fact]] = {
        "name": lambda: str(nvml.call("nvmlDeviceGetName", device.handle)),
        "driver": lambda: str(nvml.call("nvmlSystemGetDriverVersion")),
        "cuda_driver": lambda: _cuda_version(int(nvml.call("nvmlSystemGetCudaDriverVersion"))),
        "memory_total_bytes": lambda: int(nvml.call("nvmlDeviceGetMemoryInfo", device.handle).total),
        "power_limit_mw": lambda: int(nvml.call("nvmlDeviceGetEnforcedPowerLimit", device.handle)),
        "max_sm_clock_mhz": lambda: int(nvml.call("nvmlDeviceGetMaxClockInfo", device.handle, clock)),
        "ecc": lambda: "on" if nvml.call("nvmlDeviceGetEccMode", device.handle)[0] else "off",
    }
    for name, read in facts.items():
        try:
            device.static[name] = read()
        except ReadingError as fault:
            device.static[name] = None
            device.unreadable[name] = str(fault)


def _cuda_version(code: int) -> str:
    return f"{code // 1000}.{code % 1000 // 10}"
