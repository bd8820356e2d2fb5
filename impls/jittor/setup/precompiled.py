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
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

STANDARD = ("algorithm", "cmath", "cstring", "functional", "iostream", "list", "map", "memory", "set", "sstream",
            "string", "unordered_map", "unordered_set", "vector")
# Those of Jittor's that are the same for its core and for kernels.
OWN = ("common.h", "node.h", "var.h", "mem/allocator.h")
# Jittor's own flags: which of them a precompiled header depends on, and what the core and the kernels add.
FLAGS = ("-Wall", "-Wno-unknown-pragmas", "-std=c++14", "-fPIC")
KINDS = {"core": ("-O2",), "kernels": ("-g", "-fopenmp", "-Ofast")}


def flag(home: Path, compiler: str) -> str | None:
    """What makes `compiler` begin each file with the precompiled headers, which are made where they are missing.

    Made in about 4 s, once for each compiler, processor and release of Jittor.

    Args:
        home: as from `home.jittor_home`.
        compiler: the C++ compiler that Jittor takes.

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
    header = folder / "first.h"
    if not header.exists():
        with suppress(OSError, subprocess.SubprocessError):
            _make(folder, text, [path, *flags, f"-I{own}", f"-I{own.parent / 'extern'}",
                                 f"-I{sysconfig.get_paths()['include']}"])
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


def _make(folder: Path, text: str, command: list[str]) -> None:
    """Both kinds at once, into a folder that appears when it is whole: several processes may start at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        header = Path(scratch) / "whole" / "first.h"
        compiled = header.with_suffix(".h.gch")
        compiled.mkdir(parents=True)
        header.write_text(text)
        running = [subprocess.Popen([*command, *options, "-x", "c++-header", str(header), "-o", str(compiled / kind)],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for kind, options in KINDS.items()]
        if not any([process.wait() for process in running]):
            # Another process may have been faster.
            with suppress(OSError):
                header.parent.rename(folder)
