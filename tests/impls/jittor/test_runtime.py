"""Jittor's preparation: every refusal is one clear line, and nothing here imports Jittor."""

# ruff: noqa: SIM112 - Jittor's settings are in lower case

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest
from scripted_cuda import Driver, compiler

from impls.errors import UnavailableError
from impls.jittor import runtime
from impls.jittor.setup import cuda_toolkit, home, onednn_wheels, precompiled

BUILD_SETTINGS = (
    "cc_path",
    "cc_flags",
    "nvcc_path",
    "python_config_path",
    "use_mkl",
    "use_mpi",
    "JITTOR_HOME",
    *("OMPI_COMM_WORLD_" + what for what in ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK")),
    "PMIX_RANK",
    "PMIX_NAMESPACE",
    "mpicc_path",
)
ROOT = Path(runtime.__file__).parents[2]


@pytest.fixture(autouse=True)
def unprepared(own_environment, monkeypatch, tmp_path):
    """A home folder of its own, and nothing that prepare() has set."""
    monkeypatch.setattr(runtime, "_prepared", None)
    for name in BUILD_SETTINGS:
        os.environ.pop(name, None)
    os.environ["HOME"] = str(tmp_path)
    monkeypatch.setattr(precompiled, "flag", lambda home, *said: f'-include "{home}/first.h"')


def onednn(home: Path) -> Path:
    return onednn_wheels.folder(home)


def test_prepare_sets_every_build_setting_once_and_is_idempotent(tmp_path):
    runtime.prepare("cpu")
    first = dict(os.environ)
    runtime.prepare("cpu")
    assert dict(os.environ) == first
    assert first["cc_flags"] == f'-include "{tmp_path}/first.h"'
    assert first["nvcc_path"] == "" and first["use_mpi"] == "0" and first["FIX_TORCH_ERROR"] == "0"
    assert Path(first["python_config_path"]).is_file()
    assert int(first["use_parallel_op_compiler"]) == max(2, len(os.sched_getaffinity(0)))
    assert (onednn(tmp_path) / "include" / "oneapi" / "dnnl" / "dnnl.hpp").is_file()
    assert ctypes.CDLL(str(onednn(tmp_path) / "lib" / "libmkldnn.so")).dnnl_sgemm


MPI_RANK = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
SRUN_RANK = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1",
             "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2"}


def test_mpi_stays_on_under_mpirun():
    # Where the process that started mpirun had prepared Jittor itself.
    os.environ.update(MPI_RANK, mpicc_path="/bin/true", use_mpi="0")
    runtime.prepare("cpu")
    assert "use_mpi" not in os.environ


def test_ranks_without_mpis_compiler_are_told_what_to_install():
    os.environ.update(MPI_RANK, mpicc_path="no-such-mpicc")
    with pytest.raises(UnavailableError, match="no-such-mpicc is missing: install it .*libopenmpi-dev"):
        runtime.prepare("cpu")


def test_ranks_of_slurm_are_told_to_jittor_as_mpirun_tells_them():
    os.environ.update(SRUN_RANK, mpicc_path="/bin/true")
    with pytest.raises(UnavailableError, match="srun --mpi=pmix"):
        runtime.prepare("cpu")
    os.environ["PMIX_RANK"] = "1"
    runtime.prepare("cpu")
    assert {name: os.environ[name] for name in MPI_RANK} == MPI_RANK


def test_the_process_that_compiles_first_is_no_rank(monkeypatch, tmp_path):
    started = []

    class Child:
        def __init__(self, command, env, **_):
            started.append(env)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def poll(self):
            return 0

    os.environ.update(MPI_RANK, PMIX_RANK="1", PMIX_NAMESPACE="7")
    monkeypatch.setattr(subprocess, "Popen", Child)
    runtime._import_in_child("cpu", print, tmp_path / "log")
    assert not [name for name in started[0] if name.startswith(("OMPI_", "PMIX_"))]
    # Its share of Jittor is compiled all the same.
    assert started[0]["use_mpi"] == "1"


def test_a_refusal_of_the_process_that_compiles_is_understood_in_any_language(monkeypatch, tmp_path):
    """Python, not a compiler, meets what cannot be written: the child's own line is the whole answer."""
    full = tmp_path / "full.py"
    full.write_text("import sys\nfrom impls.command import process\n"
                    "def work(words):\n    raise OSError(28, 'No space left on device', '/x')\n"
                    f"sys.exit(process.run('{runtime.PROG}', work, []))\n")
    started = subprocess.Popen
    monkeypatch.setenv("DDPM_BENCH_LANG", "zh")
    monkeypatch.setattr(subprocess, "Popen",
                        lambda command, **how: started([sys.executable, str(full)], **how))
    os.environ["PYTHONPATH"] = str(ROOT)
    with pytest.raises(UnavailableError, match="^/x: No space left on device: make room on the disk; what was") as told:
        runtime.prewarm("cpu", lambda text: None, log=tmp_path / "log")
    assert type(told.value) is UnavailableError


def test_of_the_ranks_of_a_host_one_prewarms(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(runtime, "_prewarm", lambda device, echo, log: done.append(device))
    os.environ.update(MPI_RANK, PMIX_NAMESPACE="7")
    for _ in range(2):
        runtime.prewarm("cpu")
    assert done == ["cpu"]
    os.environ["PMIX_NAMESPACE"] = "8"
    runtime.prewarm("cpu")
    assert done == ["cpu"] * 2


def test_links_into_a_deleted_environment_are_replaced(tmp_path):
    lib = onednn(tmp_path) / "lib"
    lib.mkdir(parents=True)
    (lib / "libmkldnn.so").symlink_to(tmp_path / "deleted" / "libdnnl.so.2")
    (onednn(tmp_path) / "include").symlink_to(tmp_path / "deleted" / "include")
    runtime.prepare("cpu")
    assert (lib / "libmkldnn.so").exists() and (onednn(tmp_path) / "include" / "dnnl.hpp").exists()
    assert sorted(path.name for path in lib.iterdir()) == ["libdnnl.so.2", "libmkldnn.so"]


def test_missing_onednn_names_the_packages_and_use_mkl_0_goes_without(monkeypatch, tmp_path):
    real = importlib.metadata.distribution

    def missing(name):
        if not name.startswith("onednn"):
            return real(name)
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(UnavailableError, match="pip install onednn-cpu-gomp"):
        runtime.prepare("cpu")
    monkeypatch.setenv("use_mkl", "0")
    runtime.prepare("cpu")
    assert not onednn(tmp_path).exists()


def test_numpy_2_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0")
    with pytest.raises(UnavailableError, match="numpy<2"):
        runtime.prepare("cpu")


def test_python_3_13_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(UnavailableError, match=r"use Python 3\.10"):
        runtime.prepare("cpu")


def test_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"apt install g\+\+"):
        runtime.prepare("cpu")


def test_missing_headers_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(UnavailableError, match=r"Python\.h.*apt install python3"):
        runtime.prepare("cpu")


def test_unwritable_home_is_one_clear_line(monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("HOME", str(blocker))
    with pytest.raises(UnavailableError, match="set HOME to a writable folder"):
        runtime.prepare("cpu")


def test_remembered_jittor_home_is_honoured(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    cache = tmp_path / ".cache" / "jittor"
    cache.mkdir(parents=True)
    (cache / "config.json").write_text(json.dumps({"JITTOR_HOME": str(elsewhere)}))
    assert home.jittor_home() == elsewhere
    runtime.prepare("cpu")
    assert (onednn(elsewhere) / "lib" / "libmkldnn.so").exists()


def test_cuda_without_a_driver_is_refused(monkeypatch):
    def no_driver(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", no_driver)
    with pytest.raises(UnavailableError, match=r"libcuda\.so\.1"):
        runtime.prepare("cuda")


def test_cuda_sets_the_compiler_and_forbids_tf32_unless_it_is_asked_for(monkeypatch, tmp_path):
    nvcc = compiler(tmp_path / "cuda-12" / "bin" / "nvcc", "12.2")
    (tmp_path / "cuda-12" / "include").mkdir()
    (tmp_path / "cuda-12" / "include" / "cudnn_version.h").write_text("#define CUDNN_MAJOR 8\n")
    monkeypatch.setattr(ctypes, "CDLL", Driver())
    monkeypatch.setenv("nvcc_path", str(nvcc))
    monkeypatch.delenv(runtime.TF32_SWITCH, raising=False)
    monkeypatch.setenv("nvcc_flags", "-lineinfo")
    runtime.prepare("cuda", tf32=True)
    assert os.environ["nvcc_path"] == str(nvcc) and os.environ["use_cutlass"] == "0" and os.environ["use_mkl"] == "0"
    assert runtime.TF32_SWITCH not in os.environ
    runtime.prepare("cuda")
    assert os.environ[runtime.TF32_SWITCH] == "0"
    # Kernels of older stand-ins are compiled anew; said once, whoever prepares, beside a user's own words.
    assert os.environ["nvcc_flags"].split() == ["-lineinfo", cuda_toolkit.compiler_flag()]
    with pytest.raises(UnavailableError, match="option tf32: NVIDIA_TF32_OVERRIDE=0"):
        runtime.prepare("cuda", tf32=True)
    monkeypatch.setenv(runtime.TF32_SWITCH, "1")
    with pytest.raises(UnavailableError, match="NVIDIA_TF32_OVERRIDE='1' in the environment makes every arm"):
        runtime.prepare("cuda")


def test_another_device_after_the_import_is_refused(monkeypatch):
    runtime.prepare("cpu")
    monkeypatch.setitem(sys.modules, "jittor", types.ModuleType("jittor"))
    runtime.prepare("cpu")
    with pytest.raises(UnavailableError, match="already imported for device 'cpu'"):
        runtime.prepare("cuda")


def test_an_import_before_prepare_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "jittor", types.ModuleType("jittor"))
    with pytest.raises(UnavailableError, match="before"):
        runtime.prepare("cpu")


def children(monkeypatch, *outputs: str) -> list[str]:
    """Script the outputs of successive import tries; returns the tries made."""
    tries: list[str] = []

    def run(device, echo, log):
        tries.append(device)
        return outputs[len(tries) - 1]

    monkeypatch.setattr(runtime, "_import_in_child", run)
    return tries


def test_prewarm_tries_again_after_a_silent_exit(monkeypatch):
    tries = children(monkeypatch, "jit_utils updated, please rerun your command.\n", runtime.READY)
    said: list[str] = []
    runtime.prewarm("cpu", said.append)
    assert tries == ["cpu", "cpu"]
    assert "started again" in said[-1]


def test_prewarm_gives_up_with_the_last_words(monkeypatch, tmp_path):
    children(monkeypatch, *["one\nfatal error: never seen\n\n"] * 3)
    with pytest.raises(UnavailableError, match="after 3 tries: fatal error: never seen.*own.log"):
        runtime.prewarm("cpu", lambda text: None, tmp_path / "own.log")


def test_prewarm_says_why_at_once_where_the_compiler_does(monkeypatch, tmp_path):
    tries = children(monkeypatch, "/usr/bin/ld: final link failed: No space left on device\nKeyError: 3\n")
    with pytest.raises(UnavailableError, match="compiled here: .*No space left on device: make room.*own.log"):
        runtime.prewarm("cpu", lambda text: None, tmp_path / "own.log")
    assert len(tries) == 1


@pytest.mark.parametrize("output", ["one\nfatal error: no space left on device\n", runtime.READY])
def test_prewarm_leaves_no_log_and_shows_its_end_on_failure(monkeypatch, tmp_path, capsys, output):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(runtime, "_import_in_child", lambda device, echo, log: log.write_text(output) and output)
    if runtime.READY not in output:
        with pytest.raises(UnavailableError, match="no space left on device.*--prewarm --log FILE"):
            runtime.prewarm("cpu", lambda text: None)
        assert capsys.readouterr().err == output
    else:
        runtime.prewarm("cpu", lambda text: None)
    assert list(temporary.iterdir()) == []


def test_prewarm_tells_why_headers_are_not_parsed_ahead(monkeypatch):
    children(monkeypatch, runtime.READY)
    monkeypatch.setattr(precompiled, "flag", lambda home, compiler, say: say("they cannot"))
    said: list[str] = []
    runtime.prewarm("cpu", said.append)
    assert said[-1] == "they cannot"


@pytest.mark.parametrize(("output", "line"), [
    ("noise\nUnavailableError: no GPU is visible\n", "no GPU is visible"),
    # A full disk, met by Python and not by a compiler.
    ("noise\npython -m impls.jittor.runtime: error: /x: No space left on device: make room on the disk\n",
     "/x: No space left on device: make room on the disk")])
def test_prewarm_passes_a_refusal_on_at_once(monkeypatch, output, line):
    tries = children(monkeypatch, output)
    with pytest.raises(UnavailableError, match=f"^{line}$"):
        runtime.prewarm("cpu", lambda text: None)
    assert len(tries) == 1


def test_command_line_reports_a_user_fault_in_one_line(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    command = [sys.executable, "-m", "impls.jittor.runtime", "--prewarm", "--log", str(tmp_path / "log")]
    environment = dict(os.environ, HOME=str(blocker))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "set HOME" in done.stderr


@pytest.mark.parametrize("name", ["", "file/log"])
def test_a_log_that_cannot_be_written_is_one_line(tmp_path, capsys, name):
    (tmp_path / "file").touch()
    assert runtime.main(["--prewarm", "--log", str(tmp_path / name)]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / name}: cannot be written" in told and told.count("\n") == 1


def test_progress_is_the_newest_count(tmp_path):
    log = tmp_path / "log"
    log.write_text("Compiling jittor_core(9/150) used: 2.113s eta: 33.107s\r"
                   "Compiling jittor_core(10/150) used: 9.500s eta: 133.000s\r")
    assert runtime._progress(log) == " (10 of 150 files, about 2 min left)"
    log.write_text("Compiling jittor_core(96/151) used: 40.000s eta: 22.917s\r")
    assert runtime._progress(log) == " (96 of 151 files, about 23 s left)"
    log.write_text("")
    assert runtime._progress(log) == ""


@pytest.mark.parametrize(("log", "told"), [
    ("", None), ("a warning\n", None),
    ("\nCompiling Operators(3/42) used: 2.11s eta: 31.5s \r", "3 of 42 kernels compiled, about 32 s left"),
    ("\nCompiling Operators(3/42) used: 2.11s eta:   90s \rCompiling Operators(5/42) used: 12.1s eta: 1.2e+03s \r",
     "5 of 42 kernels compiled, about 20 min left"),
    # Done, and nothing said since; or something else said since.
    ("Compiling Operators(42/42) used: 40.1s eta:    0s \r\n", None),
    ("Compiling Operators(3/42) used: 2.11s eta: 31.5s \r\nTraceback\n", None)])
def test_how_far_kernels_are_is_read_from_the_end_of_the_output(log, told):
    assert runtime.compiling(log) == told


def test_compiled_files_counts_kernels_and_not_onednn(tmp_path):
    runtime.prepare("cpu")
    assert runtime.compiled_files() == 0
    jit = tmp_path / ".cache" / "jittor" / "jt1.3.11" / "default" / "jit"
    jit.mkdir(parents=True)
    for name in ("a.so", "b.so", "b.cc"):
        (jit / name).write_text("")
    assert runtime.compiled_files() == 2
