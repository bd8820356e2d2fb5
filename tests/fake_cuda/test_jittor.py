"""Jittor's CUDA path without a GPU: from nothing but wheels its core and every kernel compile, and call what exists.

A quarter of an hour where nothing is compiled yet: asked for by `make test-fake-cuda`, which installs the compiler into
a folder of its own and names a home for what is compiled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from impls.jittor.setup import cuda_toolkit

HERE = Path(__file__).parent
COMPILER, HOME = os.environ.get("FAKE_CUDA_COMPILER"), os.environ.get("FAKE_CUDA_HOME")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200), pytest.mark.skipif(
    not COMPILER or not HOME, reason="compiles for 20 core-minutes: make test-fake-cuda")]
ARMS = ("jittor", "jittor:tf32", "jittor:amp")
# cudnnMathType_t, cudnnDataType_t, cublasComputeType_t.
DEFAULT, CONVERSION, FMA = 0, 2, 3
FLOAT, HALF = 0, 2
EXACT, FAST_TF32 = 68, 77


@pytest.fixture(scope="module")
def environment(stand_in) -> dict[str, str]:
    """A home of its own, the compiler's wheels beside the environment's, and no compiler in sight."""
    home = Path(str(HOME))
    home.mkdir(parents=True, exist_ok=True)
    made = stand_in.environment(HOME=str(home))
    made["PYTHONPATH"] = f"{made['PYTHONPATH']}:{COMPILER}"
    for name in ("XDG_CACHE_HOME", "JITTOR_HOME", "nvcc_path", "nvcc_flags", cuda_toolkit.TF32_SWITCH):
        made.pop(name, None)
    return made


@pytest.fixture(scope="module")
def prewarmed(stand_in, environment) -> subprocess.CompletedProcess[str]:
    return stand_in.run("-m", "impls.jittor.runtime", "--prewarm", "--device", "cuda", env=environment)


@pytest.fixture(scope="module")
def told(stand_in, environment, prewarmed) -> dict[str, dict]:
    found = {}
    for arm in ARMS:
        done = stand_in.run(str(HERE / "jittor_path.py"), arm, env=environment)
        assert done.returncode == 0, f"{arm}: {done.stderr[-4000:]}"
        found[arm] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_making_ready_compiles_and_then_refuses_a_device_without_numbers(prewarmed):
    assert prewarmed.returncode == 2
    last = prewarmed.stderr.splitlines()[-1]
    assert "error: matrix products give wrong numbers on this device" in last or "error: convolutions give" in last


@pytest.mark.parametrize("arm", ARMS)
def test_every_kernel_of_training_and_sampling_compiles_and_is_launched(told, arm):
    seen = told[arm]["told"]
    assert seen["launched"] > 50 and seen["launches"] > 1000
    # No grid or block that a GPU would not take.
    assert seen["refused"] == 0


@pytest.mark.parametrize("arm", ARMS)
def test_a_worker_refuses_the_device(told, arm):
    assert "give wrong numbers on this device" in told[arm]["refused"]


@pytest.mark.parametrize(("arm", "kind", "math", "product"), [
    ("jittor", FLOAT, {FMA}, EXACT), ("jittor:tf32", FLOAT, {DEFAULT}, FAST_TF32),
    ("jittor:amp", HALF, {DEFAULT, CONVERSION}, None)])
def test_the_real_cudnn_is_told_what_the_arm_means(told, arm, kind, math, product):
    calls = told[arm]["told"]["calls"]
    convolutions = {tuple(match.groups()) for what in calls
                    if calls[what] and (match := re.fullmatch(r"convolution (.+) type (\d+) math (\d+)", what))}
    assert {which for which, _, _ in convolutions} == {"forward", "by input", "by weight"}
    assert {int(found) for _, found, _ in convolutions} == {kind}
    assert {int(found) for _, _, found in convolutions} <= math
    products = {int(what.rsplit(" ", 1)[1]) for what in calls if what.startswith("product") and calls[what]}
    assert products == {product} if product else products


def test_everything_that_kernels_call_is_in_the_real_libraries(told):
    libraries = {library for arm in ARMS for library in told[arm]["libraries"]}
    needed = symbols(libraries, "--undefined-only")
    needed = {name for name in needed if re.match(r"(__)?(cuda|cudnn|cublas|curand|cufft|cusparse)[A-Z]", name)}
    assert len(needed) > 40
    real = symbols({str(path) for path in (cuda_toolkit_of(told) / "lib64").glob("lib*.so")}, "--defined-only")
    assert needed - real == set()
    assert "cudnnSetRNNDescriptor_v6" not in real, "a name of cuDNN 8 stands for what would be missed"


def cuda_toolkit_of(told: dict[str, dict]) -> Path:
    return Path(told["jittor"]["info"]["cuda"]).parents[1]


def symbols(libraries: set[str], which: str) -> set[str]:
    """Names in libraries' dynamic tables, without versions."""
    lines = subprocess.run(["nm", "-D", which, *sorted(libraries)], capture_output=True, text=True, check=False).stdout
    return {line.split()[-1].split("@")[0] for line in lines.splitlines() if line.strip() and not line.endswith(":")}


def test_a_second_start_compiles_nothing(stand_in, environment, told):
    done = stand_in.run(str(HERE / "jittor_path.py"), "jittor", env=environment)
    assert json.loads(done.stdout.splitlines()[-1])["compiled"] == max(found["compiled"] for found in told.values())
