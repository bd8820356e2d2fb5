"""A CUDA driver and runtime on paper: compiled once, and what a process needs to be started on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


class StandIn:
    """The compiled stand-in; see runtime.cc."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "libcuda.so.1"
        subprocess.run(["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared",
                        "-fPIC", "-Wl,-soname,libcuda.so.1", str(HERE / "runtime.cc"), "-o", str(self.library),
                        "-ldl"], check=True)
        # What Jittor asks for.
        (folder / "libcuda.so").symlink_to(self.library.name)

    def environment(self, **more: str) -> dict[str, str]:
        """This process's, in which the stand-in comes before the real libraries."""
        return {**os.environ, "PYTHONPATH": str(ROOT), **more, "LD_PRELOAD": str(self.library),
                "LD_LIBRARY_PATH": str(self.library.parent)}

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Python in a process on the stand-in, to its end."""
        return subprocess.run([sys.executable, *words], cwd=ROOT, env=env or self.environment(), capture_output=True,
                              text=True, check=False)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory) -> StandIn:
    return StandIn(tmp_path_factory.mktemp("cuda"))
