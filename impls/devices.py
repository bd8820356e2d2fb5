"""What a machine offers, found without a framework."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path

from impls.errors import UnavailableError
from messages import marked, recorded

# NVIDIA's libraries obey it whatever a program asks for; "0": no TF32 in products or convolutions of float32.
TF32_SWITCH = "NVIDIA_TF32_OVERRIDE"
DEV = Path("/dev")
# Errors of cuInit that have a known cause (CUresult in cuda.h).
NO_DEVICE, OPERATING_SYSTEM, UNKNOWN = 100, 304, 999
DRIVER_ERRORS = {
    NO_DEVICE: marked("it sees no GPU: check nvidia-smi"),
    OPERATING_SYSTEM: marked("the system denies it its device files: check the rights of /dev/nvidia*"),
    802: marked("the GPUs are not ready: start nvidia-fabricmanager"),
    803: marked("the driver's library and its kernel module are of different versions: restart the machine"),
    804: marked("this GPU does not take a newer driver's library: remove the compatibility libraries of CUDA"),
    UNKNOWN: marked("the driver is in a bad state (usual after sleep): load its kernel modules anew, or restart the "
                    "machine"),
}
# What C's isspace takes.
BLANKS = " \t\n\v\f\r"
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h.
CAPABILITY = (75, 76)
# The first GPUs with units for bfloat16: Ampere.
BF16_CAPABILITY = (8, 0)
CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def cuda_driver_fault() -> str | None:
    """Why no program can use CUDA here, as the driver says; None when there is a device."""
    driver = _driver()
    if driver is None:
        return recorded("there is no NVIDIA driver (libcuda.so.1) on this machine")
    status = driver.cuInit(0)
    if status != 0:
        return recorded("the CUDA driver does not start (error {status}): {why}", status=status, why=_why(status))
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status == 0 and count.value > 0:
        return None
    return recorded("the CUDA driver shows no device: {why}", why=_why(NO_DEVICE))


def has_driver() -> bool:
    """Whether an NVIDIA driver is installed, whatever its state."""
    return _driver() is not None


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _why(status: int) -> str:
    """What an error of the driver's start comes from, as far as can be told, and what to do."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if status == NO_DEVICE and hidden is not None:
        return recorded("CUDA_VISIBLE_DEVICES={devices} leaves none: unset it, or name one that nvidia-smi -L lists",
                        devices=repr(hidden[:80]))
    if status in (NO_DEVICE, UNKNOWN, OPERATING_SYSTEM) and not any(DEV.glob("nvidia[0-9]*")) and (
            not (DEV / "dxg").exists()):
        return recorded("there are no device files {folder}/nvidia*: give the container the GPU (docker run --gpus "
                        "all), or load the driver's kernel module (nvidia-smi does)", folder=DEV)
    return DRIVER_ERRORS.get(status, recorded("check nvidia-smi"))


def require_tf32_switch(tf32: bool) -> None:
    """Refuse a setting of NVIDIA's libraries that overrules what an arm computes in.

    Args:
        tf32: whether the arm computes in TF32.

    Raises:
        UnavailableError: the switch is set the other way.
    """
    value = os.environ.get(TF32_SWITCH, "")
    if tf32 and value == "0":
        raise UnavailableError(recorded("option tf32: {variable}=0 in the environment forbids it: unset it",
                                        variable=TF32_SWITCH))
    if not tf32 and value not in ("", "0"):
        raise UnavailableError(recorded("{variable}={value} in the environment makes every arm compute in TF32: "
                                        "unset it (option tf32 asks for TF32)", variable=TF32_SWITCH,
                                        value=repr(value[:20])))


def cuda_capability() -> tuple[int, int] | None:
    """Compute capability, as (major, minor), of the first GPU that the driver shows; None where it does not tell."""
    driver = _driver()
    if driver is None:
        return None
    device, parts = ctypes.c_int(0), (ctypes.c_int(0), ctypes.c_int(0))
    if driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    failed = [driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
              for part, attribute in zip(parts, CAPABILITY, strict=True)]
    return None if any(failed) else (parts[0].value, parts[1].value)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def openmp_threads(text: str) -> int | None:
    """The threads that a value of OMP_NUM_THREADS asks for, read as libgomp does (its env.c); None where it is invalid.

    A list gives the threads of each level of nested parallelism, of which operators use the first. Blanks around a
    number and a plus sign are allowed; zero, negative numbers, and those beyond a C long are not.
    """
    numbers = [part.strip(BLANKS) for part in text.split(",")]
    if not all(re.fullmatch(r"\+?[0-9]+", number) for number in numbers):
        return None
    values = [int(number) for number in numbers]
    return values[0] if all(0 < value < 2**63 for value in values) else None


def default_threads() -> int:
    """Threads for one operator: OMP_NUM_THREADS where it is valid, at most the CPUs that this process may use.

    PyTorch caps it so too; more threads than processors only wait for one another.
    """
    asked, most = openmp_threads(os.environ.get("OMP_NUM_THREADS", "")), usable_cpus()
    return most if asked is None else min(asked, most)


def threads_remark(text: str | None, most: int) -> str | None:
    """What is done with a value of OMP_NUM_THREADS that cannot be followed, in one line; None where it can be.

    Args:
        text: the variable's value; None or blank where nothing is asked for.
        most: CPUs that may be used.
    """
    if text is None or not text.strip(BLANKS):
        return None
    asked = openmp_threads(text)
    if asked is not None and asked <= most:
        return None
    if asked is None:
        return recorded("OMP_NUM_THREADS={value} is no number of threads: {most} used, one for each processor that may "
                        "be used", value=repr(text[:40]), most=most)
    return recorded("OMP_NUM_THREADS={value} asks for more threads than there are processors: {most} used, one for "
                    "each processor that may be used", value=repr(text[:40]), most=most)


def bf16_units(device: str) -> bool:
    """Whether the processor, or the first GPU, has units for products of bfloat16: without, it is slower than float32.

    Args:
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        return (cuda_capability() or (0, 0)) >= BF16_CAPABILITY
    return not BF16_FLAGS.isdisjoint(_cpuinfo("flags").split())


def cpu_name() -> str:
    """The processor's model name as Linux gives it, else the architecture."""
    return _cpuinfo("model name") or platform.machine()  # English


def _cpuinfo(field: str) -> str:
    """What Linux says of the first processor; "" where it says nothing."""
    try:
        with CPUINFO.open(encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")
    except OSError:
        return ""
