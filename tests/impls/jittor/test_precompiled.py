"""Headers parsed once: taken by the compiler, without a difference in what it makes, and never in its way."""

from __future__ import annotations

import os
import shlex
import subprocess
import time

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
                                                                            (folder / "first.h").write_text(text),
                                                                            None)[-1])
    monkeypatch.setenv("cc_flags", "-DMINE")
    assert precompiled.flag(home, "g++") not in (None, option)


def compiler_of(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o755)
    return str(path)


def kept(home):
    return sorted(path.name for path in (home / ".cache" / "jittor" / "precompiled").iterdir())


def test_another_compiler_goes_without(tmp_path):
    said = []
    assert precompiled.flag(tmp_path, compiler_of(tmp_path, "clang", "exit 0"), said.append) is None
    assert said == [] and not (tmp_path / ".cache").exists()


def test_a_compiler_that_cannot_is_tried_and_told_of_once(tmp_path):
    said, tried = [], tmp_path / "tried"
    tried.touch()
    compiler = compiler_of(tmp_path, "g++", f"echo >> {tried}; echo 'first.h:1: fatal error: no <map>' >&2; exit 1")
    for _ in range(2):
        assert precompiled.flag(tmp_path, compiler, said.append) is None
    (folder,) = kept(tmp_path)
    assert tried.read_text().count("\n") == len(precompiled.KINDS)
    why, again = said
    assert "fatal error: no <map>" in why and folder in again


@pytest.mark.parametrize(("script", "line"), [
    ("echo 'fatal error: /tmp/x.s: No space left on device' >&2; exit 1", "make room on the disk"),
    ("kill -9 $$", "exit status -9")])
def test_what_may_pass_is_tried_again(tmp_path, script, line):
    said = []
    compiler = compiler_of(tmp_path, "g++", script)
    for _ in range(2):
        assert precompiled.flag(tmp_path, compiler, said.append) is None
    assert kept(tmp_path) == [] and len(said) == 2 and line in said[0]


def test_what_was_not_used_for_long_goes_and_what_was_stays(tmp_path):
    def made():
        compiler = compiler_of(tmp_path, "g++", f'# {len(compilers)}\n'
                                                'for last; do :; done; echo > "$last"')
        compilers.append(precompiled.flag(tmp_path, compiler, print))
        return compilers[-1].split("/")[-2]

    compilers, place, now = [], tmp_path / ".cache" / "jittor" / "precompiled", time.time()
    old, used = made(), made()
    for name, age_s in ((old, precompiled.KEPT_S + 60), (used, precompiled.KEPT_S + 60), (".making-x", 7200)):
        (place / name).mkdir(exist_ok=True)
        os.utime(place / name, (now - age_s, now - age_s))
    (place / ".making-y").mkdir()
    assert precompiled.flag(tmp_path, str(tmp_path / "g++"), print) == compilers[1]
    newest = made()
    assert kept(tmp_path) == sorted([used, newest, ".making-y"])
