"""Headers parsed once: taken by the compiler, without a difference in what it makes, and never in its way."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from impls.jittor.setup import precompiled

# As Jittor compiles a kernel, and a file of its core.
KINDS = {"kernels": ["-g", "-Ofast", "-fopenmp"], "core": ["-O2"]}
FLAGS = ["-Wall", "-Wno-unknown-pragmas", "-std=c++14", "-fPIC", "-march=native", "-fdiagnostics-color=always"]
KERNEL = """
#define JIT 1
#include "var.h"
#include "ops/op_register.h"
#include "fused_op.h"
float sum(const std::vector<float>& of) { float all = 0; for (auto one : of) all += one; return all; }
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return home, precompiled.flag(home, "g++")


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiler_takes_them_and_makes_the_same_code(made, tmp_path, kind):
    option = shlex.split(made[1])
    sources = precompiled.sources()
    (tmp_path / "kernel.cc").write_text(KERNEL)
    command = ["g++", *FLAGS, *KINDS[kind], f"-I{sources}", f"-I{sources.parent / 'extern'}", "-c", "kernel.cc"]
    with_, without = (subprocess.run([*command, *options, "-o", name], cwd=tmp_path, capture_output=True, text=True,
                                     check=True) for options, name in (([*option, "-H"], "with.o"), ([], "without.o")))
    # "!" is g++'s mark for a precompiled header that it took, "x" for one that it could not.
    assert f"! {option[1]}.gch/{kind}" in with_.stderr and not without.stderr
    subprocess.run(["strip", "-g", "with.o", "without.o"], cwd=tmp_path, check=True)
    assert (tmp_path / "with.o").read_bytes() == (tmp_path / "without.o").read_bytes()


def test_made_once_and_found_again(made, monkeypatch):
    home, option = made
    monkeypatch.setattr(precompiled, "_make", None)
    assert precompiled.flag(home, "g++") == option
    assert [path.name for path in (home / ".cache" / "jittor" / "precompiled").iterdir()] == [option.split("/")[-2]]


def test_flags_of_the_users_own_have_headers_of_their_own(made, monkeypatch):
    home, option = made
    monkeypatch.setattr(precompiled, "_make", lambda folder, text, command: (folder.mkdir(parents=True),
                                                                            (folder / "first.h").write_text(text)))
    monkeypatch.setenv("cc_flags", "-DMINE")
    assert precompiled.flag(home, "g++") not in (None, option)


def test_another_compiler_or_one_that_fails_goes_without(tmp_path):
    for name, script in (("clang", "exit 0"), ("g++", "exit 1")):
        compiler = tmp_path / name
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(compiler, 0o755)
        assert precompiled.flag(tmp_path, str(compiler)) is None
    left = tmp_path / ".cache" / "jittor" / "precompiled"
    assert list(left.iterdir()) == []
