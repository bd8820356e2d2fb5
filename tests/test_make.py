"""`make` says in one line what a fresh machine lacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
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


@pytest.fixture
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of the driver's name."""
    folder = tmp_path_factory.mktemp("driver")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the library with")
    subprocess.run([compiler, "-shared", "-x", "c", os.devnull, "-o", str(folder / "libcuda.so.1")], check=True)
    return folder


def make(*words: str, libraries: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("LD_LIBRARY_PATH", "MAKEFLAGS", "MAKELEVEL")}
    if libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    return subprocess.run(["make", "--no-print-directory", f"PYTHON={sys.executable}", *words], check=False, cwd=ROOT,
                          env=environment, capture_output=True, text=True, timeout=60)


def scripted_venv(folder: Path) -> Path:
    """A virtual environment whose Python writes down what it is told."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {folder}/told\n')
    python.chmod(0o755)
    return folder


@pytest.mark.parametrize("there", [False, True])
def test_setup_installs_the_cuda_compiler_where_a_driver_is(driver: Path, tmp_path: Path, there: bool) -> None:
    if not there and make("-n", "setup", f"VENV={tmp_path}/none").stdout.count(",cuda"):
        pytest.skip("this machine has a driver")
    venv = scripted_venv(tmp_path / "venv")
    done = make("setup", f"VENV={venv}", libraries=driver if there else None)
    assert done.returncode == 0, done.stderr
    told = (venv / "told").read_text()
    pip = "-m pip install --disable-pip-version-check -c constraints.txt"
    asked = {f"{pip} -e .[test{',cuda' if there else ''}]", *([] if there else ["-m impls.jittor.runtime --prewarm"])}
    # What Jittor's core needs first; then it is compiled beside the rest, in whichever order both begin.
    assert told.splitlines()[0] == f"{pip} -r {venv}/.core.txt" and set(told.splitlines()[1:]) == asked
    assert ("installing the CUDA compiler" in done.stdout) == there
    # Once: what follows installs nothing.
    assert make("setup", f"VENV={venv}", libraries=driver if there else None).returncode == 0
    assert (venv / "told").read_text() == told


def test_what_the_core_needs_is_read_from_the_project(tmp_path: Path) -> None:
    venv = scripted_venv(tmp_path / "venv")
    assert make("setup", f"VENV={venv}", "CUDA=").returncode == 0
    lines = (venv / ".core.txt").read_text().splitlines()
    assert "jittor==1.3.11.0" in lines and {re.split("[^a-z]", line)[0] for line in lines} == {
        "jittor", "numpy", "onednn", "psutil", "pydantic", "tqdm"}
    project = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{line}",' in project for line in lines)


def test_a_benchmark_after_the_set_up_is_one_command(tmp_path: Path) -> None:
    venv = scripted_venv(tmp_path / "venv")
    assert make("setup", f"VENV={venv}", "CUDA=").returncode == 0
    lines = make("-n", "bench", f"VENV={venv}", "CUDA=").stdout.splitlines()
    assert lines == [f"{venv}/bin/python run_bench.py --suite train-speed"]


def test_gpu_check_without_a_driver_is_one_line_before_any_set_up(tmp_path: Path) -> None:
    venv = scripted_venv(tmp_path / "venv")
    done = make("gpu-check", f"VENV={venv}", "CUDA=")
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "" and not (venv / "told").exists()
    assert first == "error: there is no GPU to check: no NVIDIA driver (libcuda.so.1) is on this machine"
    assert [line[:5] for line in rest] == ["make:"]


def test_gpu_check_with_a_driver_sets_up_and_checks(driver: Path, tmp_path: Path) -> None:
    venv = scripted_venv(tmp_path / "venv")
    assert make("gpu-check", f"VENV={venv}", libraries=driver).returncode == 0
    assert (venv / "told").read_text().splitlines()[-1] == "-m harness.gpucheck"


def dockerfile() -> str:
    return "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines()
                     if line and not line.startswith("#"))


def test_every_command_of_the_image_is_one_that_is_there(tmp_path: Path) -> None:
    lines = dockerfile().splitlines()
    assert {line.split()[0] for line in lines} == {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "CMD"}
    commands = [part.split() for line in lines if line.startswith("RUN ") for part in line[4:].split("&&")]
    commands += [json.loads(line[4:]) for line in lines if line.startswith("CMD ")]
    assert [words[0] for words in commands] == ["apt-get", "apt-get", "rm", "make", "rm", "make"]
    said = [make("-n", *words[1:], f"VENV={tmp_path}/venv") for words in commands if words[0] == "make"]
    assert [done.returncode for done in said] == [0, 0], said[0].stderr + said[1].stderr
    assert "install --disable-pip-version-check -c constraints.txt -e '.[test,cuda]'" in said[0].stdout
    assert said[1].stdout.rstrip().endswith("run_bench.py --suite train-speed")


def test_the_image_gets_every_file_of_the_project_and_documents_name_its_folder() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no clone")
    lines, ignored = dockerfile().splitlines(), (ROOT / ".dockerignore").read_text().split()
    assert "COPY . ." in lines
    # A pattern without `**/` is one of the context's own root.
    left_out = [name for name in listed.stdout.splitlines() for pattern in ignored
                if fnmatch(name.split("/")[0], pattern) or (pattern[:3] == "**/" and pattern[3:] in name.split("/"))]
    assert left_out == []
    (folder,) = (line.split()[1] for line in lines if line.startswith("WORKDIR "))
    for page in ("README.md", "README.zh.md", "docs/gpu.md", "docs/zh/gpu.md", "Dockerfile"):
        mounted = re.findall(r'-v "\$PWD/([\w-]+):([^"]+)"', (ROOT / page).read_text())
        assert mounted and all(inside == f"{folder}/{outside}" for outside, inside in mounted), page


def test_the_image_has_what_a_machine_needs_and_nothing_of_cuda() -> None:
    text = dockerfile()
    base = re.search(r"^FROM python:(3\.\d+)-slim-(\w+)$", text, re.MULTILINE)
    assert base is not None and base[1] in ("3.10", "3.11", "3.12")
    packages = re.search(r"apt-get install -y --no-install-recommends (.+?) &&", text)
    assert packages is not None
    needed = {"g++", "make"}
    assert set(packages[1].split()) == needed
    # A Python image has Python's headers and venv; the rest is what is asked for elsewhere.
    ci, makefile = (ROOT / ".ci" / "run").read_text(), (ROOT / "Makefile").read_text()
    assert all(f"command -v {name} " in ci for name in needed) and "command -v g++ " in makefile
    assert "make setup CUDA=,cuda" in text and text.endswith('CMD ["make", "bench"]')
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in text
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "results", "gpu-evidence"} <= set(ignored)
