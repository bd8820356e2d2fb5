"""Records a training of yours as JSON lines that survive a kill: copy this file beside your script, it needs nothing.

    rec = Recorder("jittor-seed0.jsonl", seed=0)          # any words: they go into the first line
    for batch in loader:
        with rec.step(images=128):                        # the time between two steps is that of the data
            loss = train_on(batch)
            rec.log(loss=loss)

Python 3.7 or newer, any PyTorch, Jittor 1.3.1 or newer; which of them runs is seen by what the script has imported.
On a full disk the recording stops with one line; the training goes on.
`python -m reports align jittor-seed*.jsonl --against torch-seed*.jsonl` compares the curves.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import json
import math
import os
import platform
import resource
import sys
import time
from contextlib import contextmanager, suppress

NVML_EVERY_S = 1.0


class Recorder:
    """One line a step: when it began, data_s before it, step_s of it, images, memory, and what was logged."""

    def __init__(self, path, first_step=1, clock=time.perf_counter, **about):
        """Open the file, to whose end everything goes.

        Args:
            path: the file.
            first_step: number of the first step; another one for a training that goes on.
            clock: seconds; a test brings its own.
            about: what else the first line says, such as seed=0, lr=2e-4.
        """
        self._path = os.fspath(path)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._clock, self._step, self._open = clock, first_step - 1, None
        self._compiled, self._gpu, self._gpu_read = _compiled(), _Gpu(), -math.inf
        self._began = self._ended = clock()
        self._write(dict(about, kind="start", framework=_frameworks(), python=platform.python_version(),
                         pid=os.getpid(), utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                         gpu=self._gpu.name, gpu_reason=self._gpu.reason))
        atexit.register(self.close)

    @contextmanager
    def step(self, images=None):
        """One optimisation step of so many images: the clock runs until the device has done it."""
        if self._file is None:
            # The disk was full: nothing is waited for any more.
            yield
            return
        _wait()
        began = self._clock()
        self._step += 1
        self._open = {}
        try:
            yield
        except BaseException:
            # No line for half a step, and what is logged after it belongs to none.
            self._open = None
            raise
        _wait()
        ended = self._clock()
        # What was logged is read behind the clock: reading it would wait in the middle of the step.
        line = {"kind": "step", "step": self._step, "time_s": began - self._began, "data_s": began - self._ended,
                "step_s": ended - began, "images": images, "compiled": self._compiles(), **_memory(),
                **self._readings(), **{name: _number(value) for name, value in self._open.items()}}
        self._open = None
        self._write(line)
        # From here on, so that this file's own work is not the data's.
        self._ended = self._clock()

    def log(self, **values):
        """Numbers of this step, such as loss=loss; tensors of one element too. Outside a step: of the last one."""
        if self._file is None:
            return
        if self._open is None:
            self._write({"kind": "log", "step": self._step, **{name: _number(value) for name, value in values.items()}})
        else:
            self._open.update(values)

    def close(self):
        """Write the last line. A file without it is that of a training that was killed."""
        if self._file is not None:
            self._write({"kind": "end", "steps": self._step})
            self._end()
            atexit.unregister(self.close)

    def _write(self, line):
        # One write without a buffer: after a kill there are whole lines only.
        data = (json.dumps(line) + "\n").encode()
        try:
            size = os.fstat(self._file).st_size
            if os.write(self._file, data) < len(data):
                os.ftruncate(self._file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # No record is worth a training; where the words go to may be full, too.
            with suppress(OSError):
                print(f"record.py: {self._path}: {error.strerror}: the recording stops at step {self._step}, the "
                      "training goes on", file=sys.stderr)
            self._end()

    def _end(self):
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _compiles(self):
        before, self._compiled = self._compiled, _compiled()
        return self._compiled != before

    def _readings(self):
        """The GPU's own figures, once a second: asking more often would cost time."""
        now = self._clock()
        if now - self._gpu_read < NVML_EVERY_S:
            return {}
        self._gpu_read = now
        return self._gpu.read()


def _frameworks():
    """Name and version of what the script has imported."""
    found = {name: getattr(sys.modules.get(name), "__version__", None) for name in ("torch", "jittor")}
    return {name: str(version) for name, version in found.items() if version is not None}


def _wait():
    """Until all work that was asked for is done: both frameworks only note it down."""
    torch, jittor = sys.modules.get("torch"), sys.modules.get("jittor")
    if torch is not None:
        for device in ("cuda", "mps", "xpu"):
            part = getattr(torch, device, None)
            there = getattr(part, "is_available", None) or getattr(getattr(torch.backends, device, None),
                                                                   "is_available", lambda: False)
            if part is not None and there():
                part.synchronize()
    if jittor is not None:
        jittor.sync_all(True)


def _compiled():
    """Something that changes when kernels are compiled: in Jittor's cache, or by torch.compile.

    Another process that compiles into the same cache at the same moment changes it too.
    """
    seen = []
    jittor, dynamo = sys.modules.get("jittor"), sys.modules.get("torch._dynamo.utils")
    if jittor is not None:
        cache = getattr(jittor.flags, "cache_path", None) or jittor.compiler.cache_path
        for folder in ("jit", "custom_ops"):
            try:
                seen.append(os.stat(os.path.join(cache, folder)).st_mtime_ns)
            except OSError:
                seen.append(None)
    if dynamo is not None:
        seen.append(sum(getattr(dynamo, "counters", {}).get("stats", {}).values()))
    return seen


def _peak_rss():
    """What the system calls this process's peak; where it has no VmHWM, what the starting process held counts, too."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Kilobytes on Linux, bytes on a Mac.
    factor = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor


def _memory():
    """This process's peak, and what its framework's allocator has taken: the two allocators do not count alike."""
    found = {"rss_peak_bytes": _peak_rss()}
    torch, jittor = sys.modules.get("torch"), sys.modules.get("jittor")
    if torch is not None and torch.cuda.is_available():
        found["allocator_bytes"] = torch.cuda.memory_reserved()
    if jittor is not None and hasattr(jittor.core, "get_mem_info"):
        info = jittor.core.get_mem_info()
        found["allocator_bytes"] = info.total_cuda_used if jittor.flags.use_cuda else info.total_cpu_used
    return found


def _number(value):
    """A plain number; JSON has none that are not finite, which are written as words."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    value = float(value)
    return value if math.isfinite(value) else str(value)


class _Gpu:
    """NVIDIA's own figures of the GPU that the script uses, by the driver's library; a reason where it has none."""

    class _Memory(ctypes.Structure):
        _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]

    class _Use(ctypes.Structure):
        _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]

    def __init__(self):
        self.name, self.reason, self._device = None, None, ctypes.c_void_p()
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            self.reason = "there is no NVIDIA driver (libnvidia-ml.so.1)"
            return
        # The first that the script may use. CUDA counts the fastest first, NVML as CUDA_DEVICE_ORDER=PCI_BUS_ID.
        asked = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        status = self._nvml.nvmlInitWithFlags(ctypes.c_uint(0))
        if status == 0 and asked.isdigit():
            status = self._nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(asked)), ctypes.byref(self._device))
        elif status == 0:
            status = self._nvml.nvmlDeviceGetHandleByUUID(asked.encode(), ctypes.byref(self._device))
        name = ctypes.create_string_buffer(96)
        if status != 0 or self._nvml.nvmlDeviceGetName(self._device, name, ctypes.c_uint(96)) != 0:
            self.reason = f"NVML has no GPU {asked!r} (error {status})"
            return
        self.name = name.value.decode()

    def read(self):
        if self.name is None:
            return {}
        memory, use, number = self._Memory(), self._Use(), ctypes.c_uint()
        found = {}
        if self._nvml.nvmlDeviceGetMemoryInfo(self._device, ctypes.byref(memory)) == 0:
            found["gpu_used_bytes"] = memory.used
        if self._nvml.nvmlDeviceGetUtilizationRates(self._device, ctypes.byref(use)) == 0:
            found["gpu_percent"] = use.gpu
        for key, call in (("power_mw", lambda: self._nvml.nvmlDeviceGetPowerUsage(self._device, ctypes.byref(number))),
                          ("temperature_c", lambda: self._nvml.nvmlDeviceGetTemperature(
                              self._device, ctypes.c_uint(0), ctypes.byref(number))),
                          ("sm_clock_mhz", lambda: self._nvml.nvmlDeviceGetClockInfo(
                              self._device, ctypes.c_uint(1), ctypes.byref(number)))):
            if call() == 0:
                found[key] = number.value
        return found
