"""Whole runs on a scripted driver and NVML: what keeps them from a GPU, and a GPU that vanishes under one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record.events import BlockState, Case, Finding
from harness.record.run import read_run

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests" / "fake_backend"))

import scripted_site  # noqa: E402

GIB = 1 << 30
FULL = {"FAKE_NVML_TOTAL": 80 * GIB, "FAKE_NVML_USED": 80 * GIB - (200 << 20)}
NO_FILES = {"FAKE_NVML_INIT_ERROR": 9, "FAKE_DRIVER_INIT": 100}
UNLIKE = {"FAKE_NVML_TOTAL": 80 * GIB, "FAKE_NVML_COUNT": 2, "FAKE_NVML_KINDS": "Small GPU,Large GPU"}


@pytest.fixture
def bench(library, tmp_path):
    """Start a run with the scripted backend on a scripted machine."""
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    scripted_site.install(env, tmp_path)
    env["LD_LIBRARY_PATH"] = str(library)

    def run(*words, **script):
        command = [sys.executable, str(ROOT / "run_bench.py"), "--out", str(tmp_path / "results"), *words]
        return subprocess.run(command, env=env | {name: str(value) for name, value in script.items()}, cwd=tmp_path,
                              capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.mark.parametrize(("machine", "line"), [
    (FULL, "gpu:0 (Fake GPU) has only 0.20 of 80.0 GiB of memory free: end the programs that hold the rest"),
    (NO_FILES, "the CUDA driver does not start (error 100): there are no device files /dev/nvidia*: give the "),
    ({**UNLIKE, "CUDA_VISIBLE_DEVICES": "7"}, "CUDA_VISIBLE_DEVICES='7' names no GPU that answers")])
def test_what_keeps_a_run_from_the_gpu_is_one_line_and_the_cpu_is_taken_only_where_auto_was_asked(
        bench, tmp_path, machine, line):
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has the device files of a GPU")
    refused = bench("--arms", "scripted", "--device", "cuda", "--dry-run", **machine)
    faults = [told for told in refused.stderr.splitlines() if ": error: " in told]
    assert refused.returncode == 2 and refused.stdout == "" and len(faults) == 1
    assert faults[0].startswith(f"run_bench.py: error: --device cuda: scripted: {line}")
    taken = bench("--arms", "scripted", "--device", "auto", "--dry-run", **machine)
    assert taken.returncode == 0 and "device cpu" in taken.stdout
    assert f"device: not every arm can use CUDA here: scripted: {line}" in taken.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_gpu_that_vanishes_under_a_run_is_told_by_arm_block_and_finding(bench, tmp_path):
    done = bench("--arms", "scripted,scripted:lost", "--device", "cuda", "--preset", "tiny", "--dataset", "digits",
                 "--blocks", "6", "--pairs", "4", "--epochs", "0", **UNLIKE, FAKE_NVML_VANISH_AFTER=80,
                 SCRIPTED_CRASH_AT=23)
    assert done.returncode == 1, done.stderr
    assert "device cuda: as asked; on gpu:0 (Small GPU), not gpu:1 (Large GPU)" in done.stderr
    (folder,) = (path for path in (tmp_path / "results").iterdir() if path.is_dir())
    run = read_run(folder)
    failed = [case for case in run.of(Case) if case.status == "failed"]
    assert {run.arms[str(case.arm)] for case in failed} == {"scripted:lost"}
    assert all("unspecified launch failure: the driver lost the GPU" in case.reason for case in failed)
    found = {finding.code: finding.message for finding in run.of(Finding)}
    assert found["gpu-lost"] == "gpu:0 stopped answering: GPU is lost" and "Small GPU" in found["unlike-gpus"]
    last = run.of(BlockState)[-1]
    assert last.dirty and "gpu:0 stopped answering: GPU is lost" in last.reasons
    assert "gpu:0 stopped answering: GPU is lost" in (folder / "report.md").read_text(encoding="utf-8")
    assert "Traceback" not in done.stderr
