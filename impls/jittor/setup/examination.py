"""Everything that Jittor needs of a machine, looked at one by one and without Jittor; nothing is changed.

`runtime.prepare` refuses at the first fault; here all of them are told, each with the command that mends it.
"""

# ruff: noqa: SIM112 - these are Jittor's names, in lower case

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from impls.errors import UnavailableError, cause
from impls.jittor.setup import home, onednn_wheels, requirements
from messages import tell

TRIAL_S = 300
SOURCE = """#include <Python.h>
#include <omp.h>
#include <iostream>
#include <string>
extern "C" int trial(int n) {
  int sum = 0;
  #pragma omp parallel for reduction(+ : sum)
  for (int i = 0; i < n; i++) sum += i;
  std::cout << std::string() << std::flush;
  return sum;
}
"""  # English


def ailments(device: Literal["cpu", "cuda"]) -> Iterator[tuple[str, str]]:
    """What is wrong: the name of what was looked at, and one line with the cause and what mends it.

    Args:
        device: what Jittor is to run on.
    """
    checks: dict[str, Callable[[], object]] = {
        "Python": requirements.check_version,
        "numpy": requirements.check_numpy,
        "Jittor": requirements.check_installed,
        "g++": requirements.compiler,
        "headers": requirements.headers,
        "python-config": requirements.python_config,
        "home": home.check_writable,
        "cache": home.check_owner,
        "lock": home.check_lock,
    }
    checks |= {"oneDNN": check_onednn} if device == "cpu" else {"CUDA": requirements.nvcc}
    ill = set()
    for what, check in checks.items():
        fault = _fault(check)
        if fault is not None:
            ill.add(what)
            yield what, fault
    # They need what was looked at above.
    if not ill & {"g++", "headers"}:
        for what, check in {"g++": check_compilation, "libstdc++": check_libstdcxx}.items():
            fault = _fault(check)
            if fault is not None:
                yield what, fault
                return


def _fault(check: Callable[[], object]) -> str | None:
    try:
        check()
    except UnavailableError as error:
        return str(error)
    return None


def check_compilation() -> None:
    """Compile a library as Jittor does, load it here, and call it.

    Raises:
        UnavailableError: one of these fails.
    """
    compiler = requirements.compiler()
    with tempfile.TemporaryDirectory(prefix="jittor-trial-") as folder:
        source, library = Path(folder) / "trial.cc", Path(folder) / "trial.so"
        source.write_text(SOURCE, encoding="ascii")
        told = _said([compiler, "-std=c++14", "-fPIC", "-shared", "-fopenmp", f"-I{requirements.headers()}",
                      str(source), "-o", str(library)])
        if "clang" in _said([compiler, "--version"]).stdout:
            raise UnavailableError(tell("{compiler} is clang, with which Jittor's core does not compile: export "
                                        "cc_path=/usr/bin/g++", compiler=compiler))
        if told.returncode != 0:
            lines = [line for line in (*told.stderr.splitlines(), *told.stdout.splitlines()) if line.strip()]
            said = next((line for line in lines if "error" in line),
                        (*lines, tell("exit status {status}", status=told.returncode))[0])
            raise UnavailableError(tell("{compiler} compiles nothing: {cause}", compiler=compiler,
                                        cause=cause(lines) or f"{said[:160]}: apt install --reinstall g++"))  # English
        try:
            if ctypes.CDLL(str(library)).trial(4) != 6:
                raise UnavailableError(tell("what {compiler} compiles computes wrongly: apt install --reinstall g++",
                                            compiler=compiler))
        except OSError as error:
            raise UnavailableError(tell("what {compiler} compiles does not load in {python}: {error}: {advice}",
                                        compiler=compiler, python=sys.executable, error=error,
                                        advice=_newer_libstdcxx())) from error


def check_libstdcxx() -> None:
    """A conda environment loads its own C++ library, which may be older than that of the system's compiler.

    Raises:
        UnavailableError: it is.
    """
    prefix = Path(sys.base_prefix)
    own = prefix / "lib" / "libstdc++.so.6"
    if not (prefix / "conda-meta").is_dir() or not own.exists():
        return
    compiler = requirements.compiler()
    ours, theirs = _newest(own), _newest(Path(_said([compiler, "-print-file-name=libstdc++.so.6"]).stdout.strip()))
    if ours < theirs:
        raise UnavailableError(tell("conda's libstdc++ knows GLIBCXX up to 3.4.{ours}, {compiler} compiles against "
                                    "3.4.{theirs}, so that kernels do not load: {advice}", ours=ours,
                                    compiler=compiler, theirs=theirs, advice=_newer_libstdcxx()))


def check_onednn() -> None:
    """The library of the CPU's convolutions; without it they are silently about twenty times slower.

    Raises:
        UnavailableError: it is missing, does not load, or is switched off.
    """
    if os.environ.get("use_mkl", "1") != "1":
        raise UnavailableError(tell("use_mkl=0 in the environment leaves convolutions without oneDNN, about 20 times "
                                    "slower: unset use_mkl"))
    place = onednn_wheels.folder(home.places()[1])
    library = place / "lib" / "libmkldnn.so"
    library = onednn_wheels.missing(place).get(library, library)
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise UnavailableError(tell("oneDNN does not load ({error}): pip install --force-reinstall {wheels}",
                                    error=error, wheels=" ".join(onednn_wheels.WHEELS))) from error


def _newest(library: Path) -> int:
    """The newest symbols that a libstdc++ has: n of GLIBCXX_3.4.n; 0 where it names none."""
    try:
        return max(map(int, re.findall(rb"GLIBCXX_3\.4\.(\d+)", library.read_bytes())), default=0)
    except OSError:
        return 0


def _newer_libstdcxx() -> str:
    return f"conda install -p {sys.base_prefix} -c conda-forge 'libstdcxx-ng>=12'"  # English


def _said(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A command to its end.

    Raises:
        UnavailableError: it does not start, or does not end.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=TRIAL_S,
                              stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(tell("{command} does not run ({error}): apt install --reinstall g++", command=command[0],
                                    error=error)) from error
