"""The NVIDIA GPUs that CUDA may use, as NVML shows them, with the facts that do not change during a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.machine.monitors.nvml_calls import Nvml, ReadingError
from messages import recorded

Fact = str | int | float | None


@dataclass
class Device:
    """One GPU, or one MIG instance of it, and what is known of it.

    Attributes:
        index: NVML's index of the GPU, as nvidia-smi shows it.
        instance: number of the MIG instance on it; None for a whole GPU.
        seen_us: stamp of the newest utilisation reading taken from the ring buffer, in NVML's own microseconds.
        unreadable: reading -> why it gives None.
        hopeless: readings that will never work here and are not asked for again.
        lost: why the device stopped answering; None while it answers.
        aliases: other names by which CUDA_VISIBLE_DEVICES may call it.
    """

    index: int
    handle: Any
    static: dict[str, Fact]
    instance: int | None = None
    seen_us: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    hopeless: set[str] = field(default_factory=set)
    lost: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The name of this device in the journal."""
        return f"gpu:{self.index}" if self.instance is None else f"gpu:{self.index}.{self.instance}"

    @property
    def uuid(self) -> str:
        """Empty where it is not known."""
        return str(self.static["uuid"] or "")

    def cannot(self, reading: str, fault: ReadingError) -> None:
        """Remember why a reading gives None: the first reason stays, so that what fails now and then is told once."""
        if fault.kind == "gone":
            self.lost = str(fault)
        elif self.instance is not None:
            # NVML has most readings for whole GPUs only, and not one error for it.
            self.hopeless.add(reading)
            fault = ReadingError("unsupported", recorded("NVML does not give it for a MIG instance"))
        elif fault.kind == "unsupported":
            self.hopeless.add(reading)
        self.unreadable.setdefault(reading, str(fault))


@dataclass
class Gpu:
    """One GPU of the machine: itself, or its MIG instances, of which CUDA takes the first where the GPU is named.

    Attributes:
        uuid: empty where it is not known.
        devices: what CUDA may run on; never empty.
    """

    uuid: str
    devices: list[Device]


def open_devices(nvml: Nvml, visible: str | None) -> list[Device]:
    """The devices in CUDA's order, with their fixed facts; one that cannot be opened is lost and hides no other.

    Args:
        nvml: the started library.
        visible: the value of CUDA_VISIBLE_DEVICES; None when unset.

    Raises:
        ReadingError: the library does not tell how many there are.
    """
    every = [_opened(nvml, index) for index in range(int(nvml.call("nvmlDeviceGetCount")))]
    devices = visible_devices(visible, every)
    for ordinal, device in enumerate(devices):
        device.static["cuda_ordinal"] = ordinal
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


def _opened(nvml: Nvml, index: int) -> Gpu:
    """One GPU with its UUID and its MIG instances, or with the reason why it gives none."""
    device = Device(index, None, {"uuid": None})
    gpu = Gpu("", [device])
    try:
        device.handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
        gpu.uuid = str(nvml.call("nvmlDeviceGetUUID", device.handle))
        device.static["uuid"] = gpu.uuid
        if _is_divided(nvml, device):
            gpu.devices = _instances(nvml, device) or [device]
            device.lost = recorded("it is in MIG mode and has no instance (nvidia-smi mig makes one)")
    except ReadingError as fault:
        device.lost = str(fault)
    return gpu


def _is_divided(nvml: Nvml, device: Device) -> bool:
    """Whether a GPU is in MIG mode; most cannot be."""
    try:
        return bool(nvml.call("nvmlDeviceGetMigMode", device.handle)[0])
    except ReadingError as fault:
        if fault.kind == "gone":
            raise
        return False


def _instances(nvml: Nvml, gpu: Device) -> list[Device]:
    """The MIG instances of a GPU; their numbers have gaps where some were destroyed."""
    found = []
    for number in range(int(nvml.call("nvmlDeviceGetMaxMigDeviceCount", gpu.handle))):
        try:
            handle = nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, number)
            static: dict[str, Fact] = {"uuid": str(nvml.call("nvmlDeviceGetUUID", handle))}
            parts = [int(nvml.call(f"nvmlDeviceGet{part}InstanceId", handle)) for part in ("Gpu", "Compute")]
        except ReadingError as fault:
            if fault.kind == "gone":
                raise
            continue
        # Before driver 470 an instance had no UUID of its own; CUDA still knows it by that name.
        found.append(Device(gpu.index, handle, static, number, aliases=(f"MIG-{gpu.uuid}/{parts[0]}/{parts[1]}",)))
    return found


def visible_devices(visible: str | None, gpus: Sequence[Gpu]) -> list[Device]:
    """The devices that CUDA shows, in CUDA's order (CUDA C Programming Guide, "Environment Variables").

    The list ends at the first entry that names no device, as in CUDA. Indices are taken in PCI bus order.
    """
    if visible is None:
        return [gpu.devices[0] for gpu in gpus]
    chosen: list[Device] = []
    for entry in (part.strip() for part in visible.split(",")):
        found = _named(entry, gpus)
        if len(found) != 1 or any(found[0] is one for one in chosen):
            break
        chosen += found
    return chosen


def _named(entry: str, gpus: Sequence[Gpu]) -> list[Device]:
    """All devices that an entry may mean: an index, a UUID or its beginning."""
    if entry.isdecimal():
        return [gpu.devices[0] for gpu in gpus[int(entry):][:1]]
    if entry.startswith("GPU-"):
        return [gpu.devices[0] for gpu in gpus if gpu.uuid.startswith(entry)]
    if entry.startswith("MIG-"):
        return [device for gpu in gpus for device in gpu.devices
                if device.instance is not None and (device.uuid.startswith(entry) or entry in device.aliases)]
    return []


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
            device.cannot(name, fault)


def _cuda_version(code: int) -> str:
    return f"{code // 1000}.{code % 1000 // 10}"
