"""Programs in a process of their own beside the scripted NVML and driver, which variables tell what to say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Variables that are the program's own and not the library's.
PLAIN = ("CUDA_VISIBLE_DEVICES", "POLLS", "ENERGY", "NAMESPACE")


def build(folder: Path) -> Path:
    """The folder with the compiled libraries, NVML and the driver, for LD_LIBRARY_PATH."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake libraries with")
    for source, name in (("fake_nvml.c", "libnvidia-ml.so.1"), ("fake_driver.c", "libcuda.so.1")):
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(folder / name),
                        str(Path(__file__).with_name(source))], check=True)
    return folder


def start(program: str, folder: Path | None, *words: str, **script: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")}
    environment |= {(key if key in PLAIN or key.startswith("FAKE_") else f"FAKE_NVML_{key}"): str(value)
                    for key, value in script.items()}
    environment["LD_LIBRARY_PATH"] = str(folder)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, *words], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done
