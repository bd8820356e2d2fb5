"""Command lines on drivers and GPUs that do not go: one line, exit code 2, and the CPU only where `auto` was asked."""

from __future__ import annotations

import pytest

# Where nothing is refused, nothing must be compiled either: that would take a quarter of an hour.
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


@pytest.mark.parametrize("device", ["cuda", "auto"])
@pytest.mark.parametrize(("machine", "words", "advice"), [
    ({"STAND_IN_FULL": "1"}, "out of memory", "choose a smaller batch, or end what else holds the memory"),
    ({"STAND_IN_GONE_AFTER": "0"}, "CUDA error: unspecified launch failure",
     "the driver lost the GPU or a kernel crashed: see dmesg for Xid, then nvidia-smi")])
def test_a_gpu_that_is_full_or_gone_is_told_by_the_frameworks_own_words_with_what_to_do(
        stand_in, tmp_path, machine, words, advice, device):
    done = stand_in.run("run_bench.py", "--arms", "pytorch", "--device", device, "--dry-run",
                        env=stand_in.environment(HOME=str(tmp_path), **machine))
    assert "Traceback" not in done.stderr
    if device == "cuda":
        told = done.stderr.splitlines()[-1]
        assert done.returncode == 2 and told.startswith("run_bench.py: error: --device cuda: pytorch: ")
    else:
        told, = (line for line in done.stdout.splitlines() if line.startswith("device: "))
        assert done.returncode == 0 and "device cpu" in done.stdout
    assert words in told and advice in told
