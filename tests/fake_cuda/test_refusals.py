"""Command lines on drivers and GPUs that do not go: one line, exit code 2, and the CPU only where `auto` was asked."""

from __future__ import annotations

import pytest

# Where nothing is refused, nothing must be compiled either: that would take half an hour.
NO_COMPILER = {"cc_path": "false"}
OLD_DRIVER = {"STAND_IN_DRIVER": "12080", **NO_COMPILER}
OLD_GPU = {"STAND_IN_CAPABILITY": "70", **NO_COMPILER}


@pytest.mark.parametrize(("machine", "told"), [
    (OLD_DRIVER, "the NVIDIA driver knows CUDA up to 12.8, the toolkit is CUDA 13: install driver 580 or newer"),
    (OLD_GPU, "GPU 0 has compute capability 7.0, CUDA 13 needs 7.5")])
def test_jittor_is_not_made_ready(stand_in, tmp_path, machine, told):
    done = stand_in.run("-m", "impls.jittor.runtime", "--prewarm", "--device", "cuda",
                        env=stand_in.environment(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"), **machine))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("python -m impls.jittor.runtime: error: Jittor on CUDA: ") and told in last


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_run_on_the_device_is_refused_or_says_why_it_takes_the_cpu(stand_in, tmp_path, device):
    done = stand_in.run("run_bench.py", "--arms", "jittor", "--device", device, "--dry-run",
                        env=stand_in.environment(HOME=str(tmp_path), **OLD_GPU))
    told = done.stderr + done.stdout
    assert "GPU 0 has compute capability 7.0, CUDA 13 needs 7.5" in told
    if device == "cuda":
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("run_bench.py: error: --device cuda: jittor: ")
    else:
        assert done.returncode == 0 and "cpu" in told
