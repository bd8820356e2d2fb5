"""The number of threads: OMP_NUM_THREADS as libgomp and PyTorch read it, at most one for each processor."""

from __future__ import annotations

import subprocess
import sys

import pytest

from impls import devices
from impls.devices import default_threads, openmp_threads, threads_remark

VALUES = ("1", " 1", "1 ", "\t2\n", "+3", "1,1", "2,1", "3 , 2", "64", str(2**31 - 1), "", " ", "0", "-1", "1.5", "1x",
          "0x1", "2,", ",2", "1,x", "1,0", "1;2", "one", "\u0661", str(2**63), str(2**64 + 1))
# It reads its environment when it is loaded: one process for each value.
ASK_LIBGOMP = """import ctypes, os, sys
for value in sys.argv[1:]:
    if os.fork() == 0:
        os.environ["OMP_NUM_THREADS"] = value
        print(ctypes.CDLL("libgomp.so.1").omp_get_max_threads(), flush=True)
        os._exit(0)
    os.wait()"""


def told(code: str, *words: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return list(map(int, done.stdout.split()))


def test_a_value_means_what_it_means_to_libgomp():
    here = devices.usable_cpus()
    assert told(ASK_LIBGOMP, *VALUES) == [openmp_threads(value) or here for value in VALUES]


def test_the_default_is_pytorchs(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1,1")
    assert told("import torch; print(torch.get_num_threads())") == [default_threads()] == [1]


@pytest.mark.parametrize(("value", "threads", "said"), [
    (None, 4, None), ("", 4, None), ("1,1", 1, None), (" 3", 3, None), ("4", 4, None),
    ("5", 4, "asks for more threads than there are processors: 4 used"), ("0", 4, "is no number of threads: 4 used"),
    ("many", 4, "OMP_NUM_THREADS='many' is no number")])
def test_what_cannot_be_followed_is_said_and_gives_one_thread_a_processor(value, threads, said, monkeypatch):
    monkeypatch.setattr(devices, "usable_cpus", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert default_threads() == threads
    remark = threads_remark(value, 4)
    assert remark is None if said is None else said in remark
