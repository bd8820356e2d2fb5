"""The folder that Jittor finds its CUDA in, and what is refused before it is built; no GPU and no CUDA needed."""

# ruff: noqa: SIM112 - Jittor's settings are in lower case

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from scripted_cuda import Driver, Wheels, compiler

from impls.errors import UnavailableError
from impls.jittor.setup import cuda_toolkit, requirements


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A home, a driver of CUDA 13 and a PATH without compilers."""
    monkeypatch.setattr(ctypes, "CDLL", Driver())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("nvcc_path", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)


@pytest.fixture
def wheels(monkeypatch, tmp_path) -> Wheels:
    return Wheels(tmp_path / "site", monkeypatch)


def test_everything_that_jittor_asks_for_is_in_one_folder(wheels):
    nvcc = Path(requirements.nvcc())
    place = cuda_toolkit.folder()
    assert nvcc == place / "bin" / "nvcc"
    for name in ("libcudart.so", "libcublas.so", "libcudnn.so", "libcudnn_ops_infer.so", "libcudnn_ops_train.so",
                 "libcudnn_cnn_infer.so", "libcudnn_cnn_train.so", "libcurand.so", "libcufft.so", "libcusparse.so"):
        assert (place / "lib64" / name).read_text().startswith("the real lib"), name
    for name in ("cublas_v2.h", "crt/host_config.h", "crt/shared.h", "curand.h"):
        assert (place / "include" / name).read_text() == f"the real {Path(name).name}\n"
    assert "NPP_MAX_32U" in (place / "include" / "npp.h").read_text()


def test_the_stand_ins_include_the_real_headers_and_the_wheels_stay_as_they_were(wheels):
    requirements.nvcc()
    include = cuda_toolkit.folder() / "include"
    for name, real in (("cudnn.h", "cudnn/include"), ("cuda_runtime.h", "cu13/include")):
        whole = (wheels.site / "nvidia" / real / name).resolve()
        assert f'#include "{whole}"' in (include / name).read_text()
        assert whole.read_text() == f"the real {name}\n"
    assert "#include_next <cub/cub.cuh>" in (include / "cub" / "cub.cuh").read_text()
    assert not (include / "cub" / "cub.cuh").is_symlink()


def test_the_compiler_gets_the_newer_standard_and_code_for_newer_gpus(wheels):
    nvcc = requirements.nvcc()
    words = ["-std=c++14", "-arch=compute_90", "-code=sm_90", "-I", "a folder", "x y.cu"]
    told = subprocess.run([nvcc, *words], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == ["-std=c++17", "-arch=compute_90", "-code=compute_90", "-code=sm_90", "-I", "a folder", "x y.cu"]


def test_a_second_start_builds_nothing_and_changed_wheels_build_anew(wheels):
    requirements.nvcc()
    place = cuda_toolkit.folder()
    first, header = place.resolve(), (place / "include" / "cudnn.h").stat().st_ino
    requirements.nvcc()
    assert place.resolve() == first and (place / "include" / "cudnn.h").stat().st_ino == header
    wheels.install(cuda_toolkit.CUDNN, "9.25.0.1")
    requirements.nvcc()
    assert place.resolve() != first
    assert [path.name for path in place.resolve().parent.iterdir()] == [place.resolve().name]


def test_a_folder_that_was_half_built_is_built_again(wheels):
    place = Path(requirements.nvcc()).parents[1]
    (place / cuda_toolkit.MANIFEST).unlink()
    (place / "bin" / "nvcc").unlink()
    assert Path(requirements.nvcc()).is_file()


@pytest.mark.parametrize(("wheel", "told"), [
    ("nvidia-cuda-nvcc", "no CUDA compiler"), ("nvidia-cuda-cccl", "no CUDA compiler"),
    ("nvidia-cudnn-cu13", "libraries are not installed"), ("nvidia-cublas", "libraries are not installed")])
def test_a_missing_wheel_is_named_with_the_way_to_get_it(wheels, wheel, told):
    wheels.remove(wheel)
    with pytest.raises(UnavailableError, match=told) as refused:
        requirements.nvcc()
    assert cuda_toolkit.INSTALL in str(refused.value) and "\n" not in str(refused.value)


def test_a_compiler_of_another_release_than_the_libraries_is_refused(wheels):
    wheels.install("nvidia-cuda-nvcc", "13.2.1")
    with pytest.raises(UnavailableError, match=r"compiler is of CUDA 13\.2, PyTorch's libraries are of CUDA 13\.0"):
        requirements.nvcc()


@pytest.mark.parametrize(("driver", "told"), [
    (Driver(cuda=12040), r"up to 12\.4.*driver 580 or newer"),
    (Driver(cuda=12090), r"up to 12\.9.*driver 580 or newer"),
    (Driver(capabilities=[(7, 0)]), r"GPU 0 has compute capability 7\.0.*7\.5"),
    # Jittor compiles for every GPU that it sees.
    (Driver(capabilities=[(9, 0), (6, 1)]), r"GPU 1 has compute capability 6\.1.*CUDA_VISIBLE_DEVICES"),
    (Driver(capabilities=[]), "no GPU is visible"), (Driver(status=999), "no GPU is visible")])
def test_an_old_driver_and_an_old_gpu_are_refused(wheels, monkeypatch, driver, told):
    monkeypatch.setattr(ctypes, "CDLL", driver)
    with pytest.raises(UnavailableError, match=told):
        requirements.nvcc()
    assert not cuda_toolkit.folder().exists()


def test_the_oldest_gpu_and_driver_that_go_are_taken(wheels, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", Driver(capabilities=[(7, 5), (12, 0)]))
    assert Path(requirements.nvcc()).is_file()


@pytest.mark.parametrize("how", ["nvcc_path", "PATH"])
def test_a_compiler_of_ones_own_serves_where_the_wheels_have_none(wheels, monkeypatch, tmp_path, how):
    for name in cuda_toolkit.COMPILER:
        wheels.remove(name)
    home = tmp_path / "cuda-13"
    compiler(home / "bin" / "nvcc")
    wheels.write(home / "include" / "crt" / "own.h")
    # What is in PATH is often a script that calls the real one.
    script = compiler(tmp_path / "bin" / "nvcc", home=home)
    if how == "PATH":
        monkeypatch.setattr("shutil.which", lambda name: str(script))
    else:
        monkeypatch.setenv("nvcc_path", str(script))
    nvcc = requirements.nvcc()
    assert nvcc == str(cuda_toolkit.folder() / "bin" / "nvcc")
    assert str(script) in Path(nvcc).read_text()
    assert (cuda_toolkit.folder() / "include" / "crt" / "own.h").exists()
    # As a process does that was started by this one.
    monkeypatch.setenv("nvcc_path", nvcc)
    monkeypatch.setattr("shutil.which", lambda name: None)
    before = cuda_toolkit.folder().resolve()
    assert requirements.nvcc() == nvcc and cuda_toolkit.folder().resolve() == before


def test_a_child_process_takes_the_wheels_again_when_they_have_changed(wheels, monkeypatch):
    monkeypatch.setenv("nvcc_path", requirements.nvcc())
    wheels.install(cuda_toolkit.CUDNN, "9.25.0.1")
    requirements.nvcc()
    assert "9.25.0.1" in (cuda_toolkit.folder() / cuda_toolkit.MANIFEST).read_text()


@pytest.mark.parametrize(("cudnn", "told"), [(8, None), (9, "cuDNN 9"), (None, "no cuDNN")])
def test_cuda_12_is_used_as_it_is_with_the_cudnn_that_jittor_knows(monkeypatch, tmp_path, cudnn, told):
    nvcc = compiler(tmp_path / "cuda-12" / "bin" / "nvcc", "12.2")
    if cudnn:
        header = tmp_path / "cuda-12" / "include" / "cudnn_version.h"
        header.parent.mkdir()
        header.write_text(f"#define CUDNN_MAJOR {cudnn}\n#define CUDNN_MINOR 1\n")
    monkeypatch.setenv("nvcc_path", str(nvcc))
    monkeypatch.setattr(ctypes, "CDLL", Driver(cuda=12040))
    if told is None:
        assert requirements.nvcc() == str(nvcc)
        assert not cuda_toolkit.folder().exists()
    else:
        with pytest.raises(UnavailableError, match=told):
            requirements.nvcc()


@pytest.mark.parametrize(("release", "driver", "told"), [
    ("13.0", Driver(cuda=12080), r"up to 12\.8, the toolkit is CUDA 13: install driver 580 or newer"),
    ("12.2", Driver(cuda=11080), r"up to 11\.8, the toolkit is CUDA 12: install a newer driver")])
def test_a_compiler_of_ones_own_needs_a_driver_that_knows_it(wheels, monkeypatch, tmp_path, release, driver, told):
    monkeypatch.setenv("nvcc_path", str(compiler(tmp_path / "cuda" / "bin" / "nvcc", release)))
    monkeypatch.setattr(ctypes, "CDLL", driver)
    with pytest.raises(UnavailableError, match=told):
        requirements.nvcc()
    assert not cuda_toolkit.folder().exists()


def test_stand_ins_of_an_older_release_are_replaced_and_what_they_compiled_too(wheels, monkeypatch):
    requirements.nvcc()
    place, flag = cuda_toolkit.folder(), cuda_toolkit.compiler_flag()
    before = place.resolve()
    monkeypatch.setattr(cuda_toolkit, "FORMAT", cuda_toolkit.FORMAT + 1)
    requirements.nvcc()
    assert place.resolve() != before and cuda_toolkit.compiler_flag() != flag


def test_a_cache_folder_that_takes_nothing_is_one_clear_line(wheels, tmp_path):
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    os.environ["XDG_CACHE_HOME"] = str(blocker)
    try:
        with pytest.raises(UnavailableError, match="set XDG_CACHE_HOME to a writable folder"):
            requirements.nvcc()
    finally:
        del os.environ["XDG_CACHE_HOME"]


@pytest.mark.parametrize(("page", "told"), [
    ("gcc: No such file or directory\nnvcc fatal   : Failed to preprocess host compiler properties.",
     "the compiler does not work: gcc: No such file or directory: install the C\\+\\+ compiler"),
    ("/x/host_config.h:137:2: error: error -- unsupported GNU version! gcc versions later than 15 are not supported! x",
     "unsupported GNU version! gcc versions later than 15 are not supported.*older g\\+\\+ by cc_path"),
    ("<built-in>: fatal error: when writing output to /tmp/x.ii: No space left on device", "No space left.*make room"),
    ("/x/a.h:1:1: error: something new", "the compiler does not work: /x/a.h:1:1: error: something new")])
def test_a_compiler_that_compiles_nothing_is_refused_before_the_folder_is_there(wheels, page, told):
    nvcc = wheels.site / "nvidia" / "cu13" / "bin" / "nvcc"
    nvcc.write_text(nvcc.read_text().replace("*) for", f"*-ccbin*) cat >&2 <<'END'\n{page}\nEND\nexit 1 ;;\n*) for")
                    .replace("case $1", 'case "$*"').replace("--version)", "*--version*)").replace("--dryrun)",
                                                                                                   "*--dryrun*)"))
    with pytest.raises(UnavailableError, match=told) as refused:
        requirements.nvcc()
    assert "\n" not in str(refused.value) and not cuda_toolkit.folder().exists()


def test_another_host_compiler_is_tried_before_jittor_compiles_anything_with_it(wheels, monkeypatch, tmp_path):
    tried = tmp_path / "tried"
    nvcc = wheels.site / "nvidia" / "cu13" / "bin" / "nvcc"
    nvcc.write_text(nvcc.read_text().replace("*) for", f'*-ccbin*) echo "$*" >> {tried}; grep -q 16 "$CC" || exit 0; '
                                             "echo 'x.h:1:2: error: unsupported GNU version!' >&2; exit 1 ;;\n*) for")
                    .replace("case $1", 'case "$*"').replace("--version)", "*--version*)").replace("--dryrun)",
                                                                                                   "*--dryrun*)"))
    host = tmp_path / "g++"
    host.write_text("#!/bin/sh\necho g++ 14.2\n")
    host.chmod(0o755)
    monkeypatch.setenv("cc_path", str(host))
    monkeypatch.setenv("CC", str(host))
    requirements.nvcc()
    place = cuda_toolkit.folder().resolve()
    requirements.nvcc()
    assert len(tried.read_text().splitlines()) == 1, "what was tried is not tried at every start"
    # As an upgrade of the system does.
    host.write_text("#!/bin/sh\necho g++ 16.1\n")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="unsupported GNU version!: give Jittor an older g"):
            requirements.nvcc()
    host.write_text("#!/bin/sh\necho g++ 14.2\n")
    requirements.nvcc()
    assert cuda_toolkit.folder().resolve() == place and len(tried.read_text().splitlines()) == 3


def test_a_compiler_that_does_not_end_is_one_line(wheels, monkeypatch):
    monkeypatch.setattr(cuda_toolkit, "TRIAL_S", 0)
    with pytest.raises(UnavailableError, match="the compiler compiles nothing within 0 s") as refused:
        requirements.nvcc()
    assert "\n" not in str(refused.value) and not cuda_toolkit.folder().exists()
