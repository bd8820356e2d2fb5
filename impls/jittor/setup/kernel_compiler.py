"""Jittor's compilation of kernels, made safe in several threads: their sources are written one at a time."""

from __future__ import annotations

import ctypes
import faulthandler
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_suffix(".cc")


class Threads(NamedTuple):
    """The most that were ever at it at the same time in this process.

    Attributes:
        writing: the source of a kernel; never more than 1.
        compiling: a kernel, or loading one that is compiled.
    """

    writing: int
    compiling: int


@cache
def install() -> ctypes.CDLL:
    """Let Jittor compile as SOURCE explains, and die of a crash; call after its import, before the first operator runs.

    Compiled once for each core of Jittor's, in about 5 s.
    """
    import jittor as jt

    compiler = jt.compiler
    library = Path(compiler.cache_path) / "ddpm_bench" / "kernel_compiler.so"
    library.parent.mkdir(exist_ok=True)
    with compiler.lock.lock_scope():
        compiler.compile(compiler.cc_path, f"{compiler.cc_flags} -O1", [str(SOURCE)], str(library))
    loaded = ctypes.CDLL(str(library))
    # Jittor has replaced faulthandler's handlers, which hand a crash on to those that stood when it was enabled.
    dumps = faulthandler.is_enabled()
    if dumps:
        faulthandler.disable()
    loaded.ddpm_bench_install()
    if dumps:
        faulthandler.enable()
    return loaded


def threads() -> Threads:
    """What was seen since `install`."""
    loaded = install()
    return Threads(loaded.ddpm_bench_most_writers(), loaded.ddpm_bench_most_compilers())
