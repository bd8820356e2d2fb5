"""`make` says in one line what a fresh machine lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with a shell's basics and this Python, and nothing else."""
    for tool in ("sh", "make", "test", "touch"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    (tmp_path / "python3").symlink_to(os.path.realpath(sys.executable))
    return tmp_path


def check(path: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "check-machine", *settings],
        check=False, cwd=ROOT, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60)


def test_no_compiler(bare_path: Path) -> None:
    done = check(bare_path)
    assert done.returncode == 2
    assert "error: no g++ found" in done.stderr


def test_wrong_python(bare_path: Path) -> None:
    old = bare_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = check(bare_path, f"PYTHON={old}")
    assert done.returncode == 2
    assert "is not Python 3.10-3.12" in done.stderr


def test_no_python_at_all(bare_path: Path) -> None:
    (bare_path / "python3").unlink()
    done = check(bare_path)
    assert done.returncode == 2
    assert "no Python 3.10-3.12 found" in done.stderr


def test_complete_machine(bare_path: Path) -> None:
    (bare_path / "g++").symlink_to("/bin/true")
    assert check(bare_path).returncode == 0
