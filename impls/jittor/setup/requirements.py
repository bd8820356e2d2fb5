"""What Jittor needs of the machine to compile itself; whatever is missing is one line that names the way out."""

# ruff: noqa: SIM112 - these are Jittor's names, in lower case

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from impls.errors import UnavailableError


def check_python() -> None:
    """Python, numpy and Jittor itself.

    Raises:
        UnavailableError: one of them is missing or does not go with Jittor.
    """
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise UnavailableError(f"Jittor reads garbage with numpy {numpy.__version__}: pip install 'numpy<2'")
    if sys.version_info >= (3, 13):
        version = sys.version.split()[0]
        raise UnavailableError(f"Jittor 1.3.11 does not start on Python {version}: use Python 3.10, 3.11 or 3.12")
    try:
        importlib.metadata.version("jittor")
    except importlib.metadata.PackageNotFoundError as error:
        raise UnavailableError("Jittor is not installed: pip install jittor==1.3.11.0") from error


def check_compiler() -> None:
    """A C++ compiler and Python's headers.

    Raises:
        UnavailableError: they are missing; the message says how to install them.
    """
    compiler = os.environ.get("cc_path") or "g++"
    if shutil.which(compiler) is None:
        raise UnavailableError(f"Jittor compiles its operators with {compiler}: install it (Debian: apt install g++)")
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UnavailableError(
            f"Jittor needs Python's headers: {include / 'Python.h'} is missing: install them"
            f" (Debian: apt install python{version}-dev)"
        )


def python_config() -> str:
    """The script that tells Jittor the headers' place: named explicitly, a virtual environment has none of its own.

    Raises:
        UnavailableError: there is none.
    """
    if os.environ.get("python_config_path"):
        return os.environ["python_config_path"]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folders = [
        Path(sysconfig.get_config_var("BINDIR")),
        Path(sys.base_prefix) / "bin",
        Path(sys.executable).resolve().parent,
    ]
    for folder in folders:
        for name in (f"python{version}-config", "python3-config"):
            if (folder / name).is_file():
                return str(folder / name)
    raise UnavailableError(
        f"Jittor needs python{version}-config, which is not in {folders[0]}: install Python's development files"
        f" (Debian: apt install python{version}-dev) or set python_config_path"
    )


def nvcc() -> str:
    """The CUDA compiler that Jittor can use.

    Raises:
        UnavailableError: no GPU, no compiler, or one that Jittor does not support.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise UnavailableError("Jittor on CUDA: no driver (libcuda.so.1 is missing): use --device cpu") from error
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise UnavailableError("Jittor on CUDA: no GPU is visible: use --device cpu, or see CUDA_VISIBLE_DEVICES")
    path = os.environ.get("nvcc_path") or shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if path is None:
        raise UnavailableError("Jittor on CUDA: nvcc is not in PATH: install CUDA 12.x with cuDNN 8, or set nvcc_path")
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"Jittor on CUDA: {path} does not run: {error}") from error
    release = re.search(r"release (\d+)\.(\d+)", text)
    if release is None or int(release[1]) >= 13:
        version = f"{release[1]}.{release[2]}" if release else "of unknown version"
        raise UnavailableError(
            f"Jittor on CUDA: {path} is CUDA {version}; Jittor 1.3.11 needs"
            " CUDA 11.x or 12.x with cuDNN 8: set nvcc_path"
        )
    return path
