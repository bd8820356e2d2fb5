"""The headers that all of Jittor's sources begin with, parsed once: a kernel then compiles in half the time.

Most of a kernel's compilation is parsing the standard library. g++ takes a precompiled header only where its flags are
those of the file at hand, and the plain one otherwise, so what comes out is the same either way.
"""

# ruff: noqa: SIM112 - these are Jittor's names, in lower case

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from impls.errors import cause
from messages import tell

STANDARD = ("algorithm", "cmath", "cstring", "functional", "iostream", "list", "map", "memory", "set", "sstream",
            "string", "unordered_map", "unordered_set", "vector")
# Those of Jittor's that are the same for its core and for kernels.
OWN = ("common.h", "node.h", "var.h", "mem/allocator.h")
# Jittor's own flags: which of them a precompiled header depends on, and what the core and the kernels add.
FLAGS = ("-Wall", "-Wno-unknown-pragmas", "-std=c++14", "-fPIC")
HEADER, MAKING = "first.h", ".making-"
# Another environment's, perhaps: nobody waits so long between two starts of one.
KEPT_S = 90 * 24 * 3600.0
LONGEST = 300
KINDS = {"core": ("-O2",), "kernels": ("-g", "-fopenmp", "-Ofast")}


def _aside(text: str) -> None:
    print(text, file=sys.stderr)


def flag(home: Path, compiler: str, say: Callable[[str], None] = _aside) -> str | None:
    """What makes `compiler` begin each file with the precompiled headers, which are made where they are missing.

    Made in about 4 s, once for each compiler, processor and release of Jittor; tried once, too, where that compiler
    does not make them.

    Args:
        home: as from `home.jittor_home`.
        compiler: the C++ compiler that Jittor takes.
        say: told why they cannot be made.

    Returns:
        An option of g++; None for another compiler, or where the headers cannot be made: nothing but time is lost.
    """
    path = shutil.which(compiler)
    own = sources()
    if path is None or own is None or "g++" not in Path(path).name:
        return None
    text = "".join(f"#include <{name}>\n" for name in STANDARD) + "".join(f'#include "{name}"\n' for name in OWN)
    flags = [*FLAGS, *(["-march=native"] if platform.machine() == "x86_64" else []),
             *shlex.split(os.environ.get("cc_flags", ""))]
    folder = home / ".cache" / "jittor" / "precompiled" / _key(path, own, text, flags)
    if folder.is_dir():
        with suppress(OSError):
            # In use: see `_clear`.
            os.utime(folder)
    else:
        try:
            why = _make(folder, text, [path, *flags, f"-I{own}", f"-I{own.parent / 'extern'}",
                                       f"-I{sysconfig.get_paths()['include']}"])
        except (OSError, subprocess.SubprocessError) as error:
            why = str(error)
        _clear(folder)
        if why is not None:
            say(tell("Jittor: its headers cannot be parsed ahead, so that kernels take twice as long to compile: {why}",
                     why=why))
            if folder.is_dir():
                say(tell("Jittor: that is not tried again unless {folder} is removed", folder=folder))
    header = folder / HEADER
    return f'-include "{header}"' if header.exists() else None


def sources() -> Path | None:
    """The folder of Jittor's own headers, found without its import."""
    found = importlib.util.find_spec("jittor")
    return Path(found.submodule_search_locations[0]) / "src" if found and found.submodule_search_locations else None


def _key(compiler: str, own: Path, text: str, flags: list[str]) -> str:
    """All that a precompiled header depends on; g++ itself sees to the flags alone."""
    state = os.stat(os.path.realpath(compiler))
    with suppress(OSError, StopIteration):
        # What -march=native stands for: several machines may share a home.
        text += next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    # By content: an environment that is made anew needs no core anew.
    headers = [(str(path), path.read_bytes()) for path in sorted(own.rglob("*.h"))]
    return hashlib.sha256(repr((os.path.realpath(compiler), state.st_size, state.st_mtime_ns, text, flags,
                                headers)).encode()).hexdigest()[:16]


def _make(folder: Path, text: str, command: list[str]) -> str | None:
    """Both kinds at once, into a folder that appears when it is whole: several processes may start at once.

    Returns:
        why there are none, which the folder holds then unless it may pass; None where there are.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=MAKING) as scratch:
        whole, log = Path(scratch) / "whole", Path(scratch) / "log"
        header = whole / HEADER
        compiled = header.with_suffix(".h.gch")
        compiled.mkdir(parents=True)
        header.write_text(text)
        with log.open("wb") as sink:
            running = [subprocess.Popen(
                [*command, *options, "-x", "c++-header", str(header), "-o", str(compiled / kind)],
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink) for kind, options in KINDS.items()]
            statuses = [process.wait() for process in running]
        why = None
        if any(statuses):
            lines = log.read_text(errors="replace").splitlines()
            passing = cause(lines)
            if passing is not None:
                # A full disk will not be full for ever.
                return str(passing)
            why = next((line for line in lines if "error: " in line),
                       tell("exit status {status}", status=max(statuses, key=abs)))[:LONGEST]
            if min(statuses) < 0:
                # Nor will somebody kill it every time.
                return why
            shutil.rmtree(whole)
            whole.mkdir()
            (whole / "why").write_text(f"{why}\n", encoding="utf-8")
        # Another process may have been faster.
        with suppress(OSError):
            whole.rename(folder)
    return why


def _clear(folder: Path) -> None:
    """Remove what is beside it and was not used for long: of compilers and releases that are gone, or left by a kill.

    By age, because other machines and environments may share the home.
    """
    others: list[Path] = []
    with suppress(OSError):
        others = list(folder.parent.iterdir())
    for other in others:
        kept_s = 3600.0 if other.name.startswith(MAKING) else KEPT_S
        with suppress(OSError):
            if other != folder and time.time() - other.stat().st_mtime > kept_s:
                shutil.rmtree(other)
