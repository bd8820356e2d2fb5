"""What a machine offers, found without a framework."""

from __future__ import annotations

import ctypes
import os
import platform


def cuda_driver_fault() -> str | None:
    """Why no program can use CUDA here, as the driver says; None when there is a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1) on this machine"
    status = driver.cuInit(0)
    if status != 0:
        return f"the CUDA driver does not start (error {status})"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    return None if status == 0 and count.value > 0 else "the CUDA driver shows no device"


def default_threads() -> int:
    """Threads for one operator: OMP_NUM_THREADS where it is set, else the CPUs that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """The processor's model name as Linux gives it, else the architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
