"""The machine and its software as flat facts; the unreadable is None with a reason.

Names no host, user or folder: parts of a run that were measured on one host know each other by a hash of its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import psutil

from harness.machine import gpu
from harness.machine.files import ROOT, SystemFiles, git_state, tool_version
from harness.machine.monitors.host import cpu_frequency_mhz
from harness.machine.monitors.nvml import open_nvml
from harness.machine.preflight import DEBUG_SWITCHES
from harness.record.events import EnvironmentRecorded
from harness.record.run import HOST
from impls.devices import default_threads
from impls.recipe.randomness import STREAMS
from impls.store.source import source_sha256
from messages import recorded

Fact = str | int | float | bool | None

PACKAGES = ("torch", "torchvision", "jittor", "numpy", "scipy", "onednn-cpu-gomp", "onednn-devel-cpu-gomp",
            "nvidia-ml-py", "ddpm-bench")
CUDA_PACKAGES = ("nvidia-cuda-runtime", "nvidia-cudnn", "nvidia-cublas", "nvidia-nccl", "triton")
# What moves a step's time without any other fact telling of it.
SWITCHES = ("OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "MKL_NUM_THREADS",
            "NVIDIA_TF32_OVERRIDE", "MALLOC_ARENA_MAX", *DEBUG_SWITCHES)
VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_NUM_THREADS", *SWITCHES)
# Packages and kinds of files that decide what is measured.
MEASURED = ("harness", "impls")
# What another interpreter must have alike; it tells of itself.
FOREIGN = ("torch", "jittor", "numpy", "onednn-cpu-gomp")
ASKED = """import json, platform, sys
from importlib import metadata
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found["version_" + name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))"""  # English
ANSWER_S = 30
STARRED = ("cpu_model", "cpu_logical", "cpu_affinity", "cpu_limit_cores", "python", "version_torch", "version_jittor",
           "version_numpy", "version_onednn-cpu-gomp", "gpu_count", "gpu_driver", "threads", "source_sha256",
           *(f"env_{name}" for name in SWITCHES))


class _Facts:
    """Collects facts; a reader that gives None or fails leaves a reason instead."""

    def __init__(self) -> None:
        self.values: dict[str, Fact] = {}
        self.reasons: dict[str, str] = {}

    def add(self, name: str, value: Fact, reason: str) -> None:
        self.values[name] = value
        if value is None:
            self.reasons[name] = reason

    def read(self, name: str, reader: Callable[[], Fact], reason: str) -> None:
        """A reader that may fail. The system's own message stays out of the facts: it may name a folder."""
        try:
            self.add(name, reader(), reason)
        except (OSError, RuntimeError, ValueError, AttributeError, psutil.Error) as error:
            self.add(name, None, f"{reason} ({type(error).__name__})")


def capture(root: Path = ROOT, environ: Mapping[str, str] = os.environ,
            interpreters: Mapping[str, str] | None = None, threads: int | None = None) -> EnvironmentRecorded:
    """Everything about this machine that may move a measurement; imports no framework, takes well under a second.

    Args:
        root: the checkout whose git state is recorded.
        environ: environment variables.
        interpreters: arm or backend -> another Python that runs it.
        threads: of every arm; by default as many as OMP_NUM_THREADS and the processors say.
    """
    facts = _Facts()
    files = SystemFiles()
    _processor(facts, files, default_threads() if threads is None else threads)
    _memory(facts, files)
    _system(facts, files, environ)
    _software(facts)
    starred = [*STARRED, *_gpus(facts, environ.get("CUDA_VISIBLE_DEVICES")), *_interpreters(facts, interpreters or {})]
    facts.add("random_streams", STREAMS, "")
    facts.read("source_sha256", lambda: source_sha256(root, MEASURED), recorded("the program's files cannot be read"))
    commit, dirty, reason = git_state(root)
    facts.add("git_commit", commit, reason)
    facts.add("git_dirty", dirty, reason)
    return EnvironmentRecorded(t_ns=time.monotonic_ns(), facts=facts.values, reasons=facts.reasons, starred=starred)


def _processor(facts: _Facts, files: SystemFiles, threads: int) -> None:
    affinity = sorted(os.sched_getaffinity(0))
    facts.add("cpu_model", files.cpu_model(), recorded("the system does not name its processor"))
    facts.add("cpu_architecture", platform.machine() or None, recorded("the system does not name its architecture"))
    facts.add("cpu_logical", os.cpu_count(), recorded("the system does not say how many processors it has"))
    facts.add("cpu_physical", psutil.cpu_count(logical=False),
              recorded("the system does not say how many cores it has"))
    facts.add("cpu_affinity", ranges(affinity), "")
    facts.add("cpu_usable", len(affinity), "")
    facts.add("cpu_limit_cores", files.cpu_limit_cores(), recorded("no cgroup limits the CPU time"))
    facts.add("threads", threads, "")
    facts.add("cpu_governor", files.governor(affinity),
              recorded("no frequency scaling is shown (usual in a virtual machine)"))
    facts.read("cpu_frequency_mhz", cpu_frequency_mhz, recorded("the system shows no frequency"))
    facts.add("cpu_max_frequency_mhz", files.max_frequency_mhz(affinity), recorded("no frequency scaling is shown"))
    facts.add("cpu_turbo", files.turbo(), recorded("the system does not say whether turbo is on"))
    facts.read("load1", lambda: psutil.getloadavg()[0], recorded("the system has no load average"))


def _memory(facts: _Facts, files: SystemFiles) -> None:
    memory = psutil.virtual_memory()
    facts.add("memory_total_bytes", int(memory.total), "")
    facts.add("memory_available_bytes", int(memory.available), "")
    facts.add("memory_limit_bytes", files.memory_limit_bytes(), recorded("no cgroup limits the memory"))
    facts.read("swap_total_bytes", lambda: int(psutil.swap_memory().total), recorded("the system shows no swap"))
    facts.read("swap_used_bytes", lambda: int(psutil.swap_memory().used), recorded("the system shows no swap"))


def _system(facts: _Facts, files: SystemFiles, environ: Mapping[str, str]) -> None:
    libc, version = platform.libc_ver()
    facts.add("os", platform.system() or None, recorded("Python does not know this system"))
    facts.add(HOST, hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8], "")
    facts.add("distribution", files.distribution(), recorded("there is no os-release file"))
    facts.add("kernel", platform.release() or None, recorded("Python does not know this system"))
    facts.add("libc", f"{libc} {version}" if libc else None, recorded("Python does not recognise the C library"))
    facts.add("container", files.container(environ), recorded("no sign of a container was found"))
    facts.add("virtual_machine", files.virtual_machine(), recorded("the processor's flags cannot be read"))
    facts.add("clock_source", files.clock_source(), recorded("the system does not name its clock source"))
    facts.add("clock_resolution_ns", time.get_clock_info("perf_counter").resolution * 1e9, "")
    for name in VARIABLES:
        facts.add(f"env_{name}", environ.get(name), recorded("not set"))


def _software(facts: _Facts) -> None:
    facts.add("python", platform.python_version(), "")
    facts.add("python_implementation", platform.python_implementation(), "")
    facts.add("python_debug_build", bool(sysconfig.get_config_var("Py_DEBUG")), "")
    facts.add("python_tracing", sys.gettrace() is not None, "")
    facts.add("compiler", tool_version("g++", "g++"), recorded("no g++ on PATH"))
    facts.add("nvcc", tool_version("nvcc", "release"), recorded("no nvcc on PATH"))
    for name in PACKAGES:
        facts.add(f"version_{name}", installed_version(name), recorded("not installed in this environment"))
    names = {(distribution.metadata["Name"] or "").lower() for distribution in metadata.distributions()}
    for name in sorted(name for name in names if name.startswith(CUDA_PACKAGES)):
        facts.add(f"version_{name}", installed_version(name), recorded("its version cannot be read"))


def _interpreters(facts: _Facts, chosen: Mapping[str, str]) -> list[str]:
    """Python and framework versions of other interpreters; returns their names, all of which must match."""
    starred = []
    for name, python in chosen.items():
        found: dict[str, Fact] = {}
        reason = recorded("not installed there")
        try:
            done = subprocess.run([python, "-c", ASKED, *FOREIGN], stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, check=True, timeout=ANSWER_S)
            found = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            reason = recorded("that interpreter did not tell ({error})", error=type(error).__name__)
        for key in ("python", *(f"version_{package}" for package in FOREIGN)):
            value = found.get(key) if isinstance(found, dict) else None
            facts.add(f"interpreter_{name}_{key}", value if isinstance(value, str) else None, reason)
            starred.append(f"interpreter_{name}_{key}")
    return starred


def installed_version(package: str) -> str | None:
    """A package's version from its metadata, without importing it; None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus(facts: _Facts, visible: str | None) -> list[str]:
    """Facts of every GPU that CUDA may use; returns the names of those that must match between compared runs."""
    monitor = open_nvml(visible)
    try:
        samples = {sample.source: sample.values for sample in monitor.sample()}
        states = monitor.sources()
    finally:
        monitor.close()
    gpus = [state for state in states if state.source != "gpu"]
    reason = "; ".join(state.reason for state in states if state.reason) or recorded("NVML shows no GPU")
    facts.add("gpu_count", len(gpus) if gpus else None, reason)
    measured = gpu.measured(gpus)
    facts.add("gpu_measured", measured.source.replace(":", "_") if measured else None, reason)
    facts.add("gpu_driver", measured.static.get("driver") if measured else None, reason)
    facts.add("gpu_cuda_driver", measured.static.get("cuda_driver") if measured else None, reason)
    starred = []
    for state in gpus:
        prefix = state.source.replace(":", "_")
        why = state.reason or recorded("the driver does not say")
        for name in ("name", "uuid", "cuda_ordinal", "memory_total_bytes", "power_limit_mw", "max_sm_clock_mhz", "ecc"):
            facts.add(f"{prefix}_{name}", state.static.get(name), why)
        for name in ("processes", "foreign_processes", "memory_used_bytes", "temperature_c", "sm_clock_mhz"):
            facts.add(f"{prefix}_{name}", samples.get(state.source, {}).get(name), why)
        starred.append(f"{prefix}_name")
    return starred


def ranges(numbers: list[int]) -> str:
    """Processor numbers as the kernel writes them: [0, 1, 2, 5] is "0-2,5"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
