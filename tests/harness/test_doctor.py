"""`--doctor` on machines that are broken in one way each: one line with cause and what mends it, and exit code 1."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import scripted_backend

from harness import cli
from harness.doctor import doctor, inside, machine
from harness.doctor.machine import Ailment
from harness.machine.files import SystemFiles
from impls import registry
from impls.errors import UsageError
from impls.jittor.setup import home as jittors_home

REAL_ASKED, REAL_TRIALS = doctor.asked, doctor.trials
COMPILER = shutil.which("g++")


def asked_here(python, arm, device, environment):
    """What an interpreter would find, without the second that starting it takes."""
    check = arm.spec.prepares("ailments")
    return [] if check is None else [Ailment(f"{arm.name}, {what}", text) for what, text in check(device)]


def all_well(options, sound, versions, progress):
    versions.update({arm.name: f"works, {device}" for arm, device in sound})
    return []


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A sound machine: a home folder of its own, Linux's files in a folder, and no framework that is tried."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "version").write_text("Linux version 6.1.0 (gcc 12)")
    for name in ("cc_path", "use_mkl", "JITTOR_HOME", "python_config_path", "LD_LIBRARY_PATH", "nvcc_path"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "asked", asked_here)
    monkeypatch.setattr(doctor, "trials", all_well)
    monkeypatch.setattr(doctor, "SystemFiles", lambda: SystemFiles(root))
    monkeypatch.setattr(machine, "has_driver", lambda: False)
    monkeypatch.setattr(machine.gpu, "fault", lambda: "there is no NVIDIA driver")
    plenty = shutil.disk_usage("/")._replace(free=100 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plenty)
    return root


def examined(capsys, *words):
    """Exit code, and the lines in front of the table."""
    code = cli.main(["--doctor", "--quiet", *(words or ("--arms", "jittor"))])
    printed = capsys.readouterr()
    assert printed.err == ""
    lines, _, table = printed.out.partition("\nfor a bug report")
    assert "| cpu_logical |" in table and "\n| python |" in table
    return code, lines.splitlines()


def test_a_sound_machine_is_in_order(here, capsys):
    code, lines = examined(capsys)
    assert (code, lines) == (0, ["all in order: jittor (works, cpu)"])
    assert [path.name for path in here.parent.iterdir()] == ["root"], "it leaves nothing behind"


def no_compiler(home, monkeypatch):
    monkeypatch.setenv("PATH", str(home))


def broken_compiler(home, monkeypatch):
    fake = home / "bin" / "g++"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho \"g++: fatal error: cannot execute 'cc1plus': execvp: No such\" >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)


def clang(home, monkeypatch):
    fake = home / "clang++"
    fake.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'clang version 14' || exec {COMPILER} \"$@\"\n")
    fake.chmod(0o755)
    monkeypatch.setenv("cc_path", str(fake))


def no_headers(home, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(home)})


def new_numpy(home, monkeypatch):
    found = home / "site" / "numpy-2.3.1.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.3.1\n")
    monkeypatch.syspath_prepend(str(found.parent))


def new_python(home, monkeypatch):
    monkeypatch.setattr(sys, "version_info", namedtuple("Version", "major minor micro")(3, 13, 0))
    monkeypatch.setenv("python_config_path", "/any")


def home_read_only(home, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")


def foreign_cache(home, monkeypatch):
    (home / ".cache" / "jittor" / "jt1.3.11").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4711)
    writable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: writable(path, mode) and not str(path).endswith("jt1.3.11"))


def abandoned_lock(home, monkeypatch):
    lock = home / ".cache" / "jittor" / "jt1.3.11" / "g++12" / "jittor.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    monkeypatch.setattr(jittors_home, "IDLE_S", 0.05)
    holding = subprocess.Popen([sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'w'); "
                                "fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(600)", str(lock)],
                               stdout=subprocess.PIPE)
    holding.stdout.readline()
    return holding


def full_disk(home, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100 << 20))


def old_conda(home, monkeypatch):
    (home / "conda" / "conda-meta").mkdir(parents=True)
    (home / "conda" / "lib").mkdir()
    (home / "conda" / "lib" / "libstdc++.so.6").write_bytes(b"\x7fELF GLIBCXX_3.4 GLIBCXX_3.4.9 GLIBCXX_3.4.19\0")
    monkeypatch.setattr(sys, "base_prefix", str(home / "conda"))


def no_onednn(home, monkeypatch):
    real = importlib.metadata.distribution

    def missing(name):
        if name.startswith("onednn"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)


def slow_convolutions(home, monkeypatch):
    monkeypatch.setenv("use_mkl", "0")


def first_wsl(home, monkeypatch):
    (home / "root" / "proc" / "version").write_text("Linux version 4.4.0-19041-Microsoft (gcc 5.4.0)")
    monkeypatch.setenv("WSL_DISTRO_NAME", "Debian")


def second_wsl(home, monkeypatch):
    (home / "root" / "proc" / "version").write_text("Linux version 5.15.90.1-microsoft-standard-WSL2")
    (home / "root" / "usr/lib/wsl/lib").mkdir(parents=True)
    (home / "root" / "usr/lib/wsl/lib/libcuda.so.1").touch()


def no_driver(home, monkeypatch):
    device = home / "root" / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")


BROKEN = {
    no_compiler: ("jittor, g++: ", "apt install g++"),
    broken_compiler: ("jittor, g++: ", "cannot execute 'cc1plus'", "apt install g++"),
    clang: ("jittor, g++: ", "is clang", "export cc_path=/usr/bin/g++"),
    no_headers: ("jittor, headers: ", "Python.h is missing", "apt install python3."),
    new_numpy: ("jittor, numpy: ", "garbage with numpy 2.3.1", "pip install 'numpy<2'"),
    new_python: ("jittor, Python: ", "does not start on Python 3", "use Python 3.10, 3.11 or 3.12"),
    home_read_only: ("jittor, home: ", "needs a writable home folder: /proc", "export HOME="),
    foreign_cache: ("jittor, cache: ", "files of another user", "sudo chown -R "),
    abandoned_lock: ("jittor, lock: ", "holds Jittor's lock", "and does nothing", "kill "),
    full_disk: ("disk: 0.10 GiB are free", "export HOME="),
    old_conda: ("jittor, libstdc++: ", "up to 3.4.19", "conda install -p ", "libstdcxx-ng"),
    no_onednn: ("jittor, oneDNN: ", "pip install onednn-cpu-gomp"),
    slow_convolutions: ("jittor, oneDNN: ", "20 times slower", "unset use_mkl"),
    first_wsl: ("WSL: this is WSL 1", "wsl.exe --set-version Debian 2"),
    second_wsl: ("WSL: Windows' driver is not in the loader's path", "export LD_LIBRARY_PATH=/usr/lib/wsl/lib"),
    no_driver: ("driver: there is no NVIDIA driver", "sudo apt install nvidia-driver-"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_what_is_broken_is_one_line_with_what_mends_it(broken, here, monkeypatch, capsys):
    with monkeypatch.context() as context:
        process = broken(here.parent, context)
        try:
            code, lines = examined(capsys)
        finally:
            if process is not None:
                process.kill()
                process.communicate()
    assert code == 1 and len(lines) == 1, lines
    assert lines[0].startswith(BROKEN[broken][0])
    for words in BROKEN[broken][1:]:
        assert words in lines[0]


def test_a_lock_that_is_being_used_is_no_fault(here, capsys, monkeypatch):
    lock = here.parent / ".cache" / "jittor" / "jt1.3.11" / "jittor.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # This process holds it, and counts as one that computes.
        monkeypatch.setattr(jittors_home, "_busy", lambda pid: pid == os.getpid())
        assert examined(capsys)[0] == 0


def test_several_faults_are_all_told(here, monkeypatch, capsys):
    new_numpy(here.parent, monkeypatch)
    first_wsl(here.parent, monkeypatch)
    with monkeypatch.context() as context:
        no_headers(here.parent, context)
        code, lines = examined(capsys)
    assert code == 1 and [line.partition(": ")[0] for line in lines] == ["WSL", "jittor, numpy", "jittor, headers"]


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_interpreter_of_an_arm_is_asked(here, monkeypatch, capsys):
    """A real one, then one without packages, one of another version, one that is none, one that babbles."""
    monkeypatch.setattr(doctor, "asked", REAL_ASKED)
    home = here.parent
    bare = script(home / "bare", f'exec {sys.executable} -S "$@"')
    other = script(home / "other", 'echo \'{"python": "3.13.1", "ailments": []}\'')
    deaf = script(home / "deaf", "echo nothing here >&2; exit 7")
    none = home / "none"
    none.write_bytes(b"\0\0")
    none.chmod(0o755)
    assert examined(capsys)[0] == 0
    for python, words in ((bare, ("jittor, packages: module ", "is missing", "-m pip install ddpm-bench")),
                          (other, ("jittor, Python: ", "is Python 3.13.1", "conda create")),
                          (deaf, ("jittor: ", "cannot be asked (nothing here)", "-m pip install")),
                          (str(none), ("jittor: ", "does not run", "--interpreter"))):
        code, lines = examined(capsys, "--arms", "jittor", "--interpreter", f"jittor={python}")
        assert code == 1 and len(lines) == 1 and lines[0].startswith(words[0])
        assert all(word in lines[0] for word in words)


def test_a_python_too_old_for_our_packages_tells_its_version(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "messages", ModuleType("messages"))
    inside.main("jittor", "cpu")
    assert json.loads(capsys.readouterr().out) == {"python": platform.python_version(), "ailments": []}


def test_a_gpu_that_an_arm_cannot_use_is_no_silent_fall_back(here, monkeypatch, capsys):
    monkeypatch.setattr(machine.gpu, "fault", lambda: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    code, lines = examined(capsys)
    assert code == 1 and lines[0].startswith("jittor, CUDA: Jittor on CUDA: no driver")
    assert lines[-1].startswith("jittor: it cannot use the GPU, so that runs with --device auto take the CPU")


@pytest.mark.parametrize(("arm", "words"), [
    ("scripted", None),
    ("scripted:unusable", ("scripted:unusable: scripted: this backend was told to be unusable",)),
    ("scripted:oom", ("scripted:oom: MemoryError: no room for the step: ", "end other programs")),
    ("scripted:raise", ("scripted:raise: RuntimeError: the step went wrong", "-m pip install --force-reinstall")),
    ("scripted:crash", ("scripted:crash: ", "ended by itself with status 3", "-m pip install --force-reinstall"))])
def test_every_arm_is_tried(arm, words, here, lab, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "trials", REAL_TRIALS)
    monkeypatch.setattr(doctor, "LocalSessions", lambda *args, **more: lab.sessions)
    monkeypatch.setattr(scripted_backend, "CRASH_AT", 0)
    code, lines = examined(capsys, "--arms", arm)
    assert (code, lines) == (0, ["all in order: scripted (Scripted 1, cpu)"]) if words is None else code == 1
    # What a worker prints in this process is none of it.
    told = [line for line in lines if ": " in line]
    for word in words or ():
        assert len(told) == 1 and word in told[0]


def test_an_alias_that_cannot_be_written_out_is_that_arms_fault_alone(here, lab, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "trials", REAL_TRIALS)
    monkeypatch.setattr(doctor, "LocalSessions", lambda *args, **more: lab.sessions)
    monkeypatch.setenv("PATH", str(here))
    known = registry.specs()
    compiles = replace(known["pytorch"], best={("cpu", "training"): ("compile",)})
    monkeypatch.setattr(registry, "specs", lambda file=None: {**known, "pytorch": compiles})
    code, lines = examined(capsys, "--arms", "pytorch:best,scripted:unusable")
    first, second = (line for line in lines if ": " in line)
    assert code == 1 and first.startswith("pytorch:best: ") and "compile needs the program g++: install it" in first
    assert second.startswith("scripted:unusable: "), "the other one is tried all the same"


@pytest.mark.parametrize(("loss", "wrong"), [(1.1, False), (float("nan"), True), (3e7, True)])
def test_wrong_numbers_are_noticed(loss, wrong, here, lab, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "trials", REAL_TRIALS)
    monkeypatch.setattr(doctor, "LocalSessions", lambda *args, **more: lab.sessions)
    monkeypatch.setattr(scripted_backend.ScriptedTrainer, "_loss", lambda trainer: loss)
    code, lines = examined(capsys, "--arms", "scripted")
    assert code == wrong and ("where 1 is right" in lines[0]) == wrong


@pytest.mark.parametrize("words", [
    ["--dry-run"], ["--selfcheck"], ["--time-limit", "3"], ["--model-path", "x"], ["--pair", "x.py"]])
def test_what_asks_for_a_measurement_does_not_go_with_it(words, here, capsys):
    assert cli.main(["--doctor", *words]) == 2
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_it_belongs_on_the_command_line(here, tmp_path):
    (tmp_path / "config.json").write_text('{"doctor": true}')
    from harness.options import read_config

    with pytest.raises(UsageError, match="'doctor' belongs on the command line"):
        read_config(Path("config.json"))
