"""Jittor's compile threads: sources are written one at a time, and a crash ends the process instead of hanging it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# The gradients of a convolution read the same two variables.
PROGRAM = """
from impls.jittor import backend, runtime
backend.require_available((), "cpu")
import jittor as jt
from jittor import nn
from impls.jittor.setup import kernel_compiler
layers = [nn.Conv(4, 4, size, padding=size // 2) for size in (1, 3, 5)]
x = jt.rand(2, 4, 8, 8)
for layer in layers:
    x = nn.relu(layer(x)) + x
jt.sync(jt.grad(x.sqr().mean(), [layer.weight for layer in layers]))
print(*kernel_compiler.threads())
"""


def test_sources_are_written_one_at_a_time_and_kernels_compiled_side_by_side():
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        writing, compiling = map(int, done.stdout.splitlines()[-1].split())
        assert writing == 1
        if compiling > 1:
            return
    raise AssertionError("no two kernels were ever compiled at the same time")


CRASH = """
import ctypes, faulthandler, threading
faulthandler.enable()
from impls.jittor import backend
backend.require_available((), "cpu")
print("crashing", flush=True)
threading.Thread(target=lambda: ctypes.string_at(0)).start()
"""


def test_a_crash_in_a_thread_ends_the_process_and_says_where():
    done = subprocess.run([sys.executable, "-c", CRASH], cwd=ROOT, capture_output=True, text=True, check=False,
                          timeout=120)
    assert done.stdout.splitlines()[-1] == "crashing"
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr and "string_at" in done.stderr
    frames = done.stderr.partition("C++ stack of the thread that crashed:\n")[2].splitlines()
    # Neither the handlers nor so many that a log's end would hold nothing else.
    assert "_ctypes" in frames[0] and len(frames) <= 8
