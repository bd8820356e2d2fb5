"""A CUDA driver, wheels and compilers that exist on paper only: what the preparation of Jittor looks at."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import pytest

from impls.jittor.setup import cuda_toolkit

HEADERS = {"nvidia-cuda-runtime": ("cuda_runtime.h", "crt/shared.h"), "nvidia-cublas": ("cublas_v2.h",),
           "nvidia-curand": ("curand.h",), "nvidia-cufft": ("cufft.h",), "nvidia-cusparse": ("cusparse.h",),
           "nvidia-cuda-crt": ("crt/host_config.h",), "nvidia-cuda-cccl": ("cccl/cub/cub.cuh",)}
LIBRARIES = {"nvidia-cuda-runtime": "libcudart.so.13", "nvidia-cublas": "libcublas.so.13",
             "nvidia-curand": "libcurand.so.10", "nvidia-cufft": "libcufft.so.12",
             "nvidia-cusparse": "libcusparse.so.12"}


class Driver:
    """What stands in for libcuda.so.1: GPUs, their driver and their age.

    Args:
        cuda: newest CUDA of the driver, times 1000.
        capabilities: major and minor of each GPU.
        status: what the driver answers when it is started.
    """

    def __init__(self, cuda: int = 13000, capabilities: Sequence[tuple[int, int]] = ((9, 0),), status: int = 0) -> None:
        self.cuda, self.capabilities, self.status = cuda, capabilities, status

    def __call__(self, name: str) -> Driver:
        assert name == "libcuda.so.1"
        return self

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count) -> int:  # noqa: N802
        count._obj.value = len(self.capabilities)
        return 0

    def cuDriverGetVersion(self, version) -> int:  # noqa: N802
        version._obj.value = self.cuda
        return 0

    def cuDeviceGet(self, device, ordinal: int) -> int:  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetAttribute(self, value, attribute: int, device) -> int:  # noqa: N802
        value._obj.value = self.capabilities[device.value][{75: 0, 76: 1}[attribute]]
        return 0


def compiler(path: Path, release: str = "13.0", home: Path | None = None) -> Path:
    """A compiler that tells its release, its home, and else the words it was given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\ncase $1 in\n"
                    f"--version) echo Cuda compilation tools, release {release}, V{release}.88 ;;\n"
                    f"--dryrun) echo '#$ _HERE_={(home or path.parents[1]) / 'bin'}' >&2 ;;\n"
                    "*) for word; do echo \"$word\"; done ;;\nesac\n")
    path.chmod(0o755)
    return path


class Wheels:
    """An environment with the wheels of CUDA, of which some may be missing or of another version."""

    def __init__(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        for name in (*cuda_toolkit.LIBRARIES, *cuda_toolkit.COMPILER):
            self.install(name, "13.0.88")
        self.install(cuda_toolkit.CUDNN, "9.24.0.43")
        monkeypatch.setattr(importlib.metadata, "distribution", self.distribution)
        monkeypatch.setattr(importlib.metadata, "version", lambda name: self.distribution(name).version)
        self.real = importlib.metadata.distributions

    def install(self, name: str, version: str) -> None:
        self.remove(name)
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        cuda = self.site / "nvidia" / "cu13"
        for header in HEADERS.get(name, ()):
            self.write(cuda / "include" / header)
        if name in LIBRARIES:
            self.write(cuda / "lib" / LIBRARIES[name])
        if name == cuda_toolkit.CUDNN:
            for part in ("include/cudnn.h", "lib/libcudnn.so.9", "lib/libcudnn_ops.so.9", "lib/libcudnn_cnn.so.9"):
                self.write(self.site / "nvidia" / "cudnn" / part)
        if name == "nvidia-cuda-nvcc":
            compiler(cuda / "bin" / "nvcc", version[:4])

    def remove(self, name: str) -> None:
        for info in self.site.glob(f"{name.replace('-', '_')}-*.dist-info"):
            (info / "METADATA").unlink()
            info.rmdir()

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the real {path.name}\n")

    def distribution(self, name: str) -> importlib.metadata.Distribution:
        if not name.startswith("nvidia"):
            return next(iter(self.real(name=name)))
        for found in self.real(name=name, path=[str(self.site)]):
            return found
        raise importlib.metadata.PackageNotFoundError(name)
