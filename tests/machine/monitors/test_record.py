"""docs/examples/record.py: a file of its own for scripts of others: what it waits for, marks, writes, and survives."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from scripted_nvml import start

FILE = Path(__file__).parents[3] / "docs" / "examples" / "record.py"
BY_THE_DRIVER = """import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("record", sys.argv[1]); record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)
rec = record.Recorder(sys.argv[2])
with rec.step(images=4):
    rec.log(loss=1.0)
with rec.step(images=4):
    rec.log(loss=1.0)
"""


@pytest.fixture
def record(monkeypatch):
    for name in ("torch", "jittor", "torch._dynamo.utils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("record", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def test_it_is_one_file_for_old_pythons_that_needs_nothing():
    tree = ast.parse(FILE.read_text(), feature_version=(3, 7))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_the_peak_is_the_process_s_own_and_not_that_of_the_process_that_started_it():
    held = bytearray(200 << 20)
    code = f"import sys; sys.path.insert(0, {str(FILE.parent)!r}); import record; print(record._memory())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 1 << 20 < ast.literal_eval(told)["rss_peak_bytes"] < len(held)


def test_a_step_that_fails_has_no_line_and_what_is_logged_after_it_has_one(record, tmp_path):
    rec = record.Recorder(tmp_path / "run.jsonl")
    with pytest.raises(MemoryError), rec.step():
        raise MemoryError
    rec.log(left_out=1)
    with rec.step():
        rec.log(loss=0.5)
    rec.close()
    _, log, step, _ = lines(tmp_path / "run.jsonl")
    assert (log["kind"], log["step"], log["left_out"]) == ("log", 1, 1) and (step["step"], step["loss"]) == (2, 0.5)


def test_times_values_and_lines(record, tmp_path):
    clock, path = Clock(), tmp_path / "run.jsonl"
    rec = record.Recorder(path, clock=clock, seed=3)
    for loss in (0.5, SimpleNamespace(item=lambda: 0.25), float("nan")):
        clock.s += 2
        with rec.step(images=8):
            clock.s += 0.5
            rec.log(loss=loss, word="x", many=7)
    rec.log(validation=0.75)
    rec.close()
    rec.close()
    first, *steps, log, end = lines(path)
    assert first["kind"] == "start" and first["seed"] == 3 and first["framework"] == {} and first["gpu"] is None
    assert "libnvidia-ml" in first["gpu_reason"]
    assert [(one["step"], one["data_s"], one["step_s"], one["images"], one["compiled"]) for one in steps] == [
        (1, 2, 0.5, 8, False), (2, 2, 0.5, 8, False), (3, 2, 0.5, 8, False)]
    assert [one["loss"] for one in steps] == [0.5, 0.25, "nan"] and steps[0]["rss_peak_bytes"] > 1e6
    assert log == {"kind": "log", "step": 3, "validation": 0.75} and end == {"kind": "end", "steps": 3}
    # A training that goes on.
    again = record.Recorder(path, first_step=4, clock=clock)
    with again.step():
        pass
    again.close()
    assert [one.get("step") for one in lines(path)][-3:] == [None, 4, None]


def test_it_waits_for_the_device_before_the_clock_stops_and_before_it_starts(record, tmp_path, monkeypatch):
    clock, path, torch, jittor = Clock(), tmp_path / "run.jsonl", ModuleType("torch"), ModuleType("jittor")

    def wait(*args):
        clock.s += 1

    reading = SimpleNamespace(total_cuda_used=5, total_cpu_used=6)
    torch.cuda = SimpleNamespace(is_available=lambda: True, synchronize=wait, memory_reserved=lambda: 7)
    torch.backends, torch.__version__ = SimpleNamespace(), "1.4"
    jittor.sync_all, jittor.__version__ = wait, "1.3.1"
    jittor.flags = SimpleNamespace(cache_path=str(tmp_path), use_cuda=0)
    jittor.core = SimpleNamespace(get_mem_info=lambda: reading)
    (tmp_path / "jit").mkdir()
    for module, name in ((torch, "torch"), (jittor, "jittor")):
        with monkeypatch.context() as context:
            context.setitem(sys.modules, name, module)
            rec = record.Recorder(path, clock=clock)
            with rec.step():
                rec.log(loss=1)
            if name == "jittor":
                (tmp_path / "jit" / "kernel.so").touch()
                os.utime(tmp_path / "jit", ns=(1, 1))
            with rec.step():
                rec.log(loss=1)
            rec.close()
        first, *steps, _ = lines(path)[-4:]
        assert first["framework"] == {name: module.__version__}
        assert [(one["data_s"], one["step_s"]) for one in steps] == [(1, 1), (1, 1)]
        assert [one["compiled"] for one in steps] == [False, name == "jittor"]
        assert {one["allocator_bytes"] for one in steps} == {7 if name == "torch" else 6}


def test_after_a_kill_there_are_whole_lines_only(tmp_path):
    path = tmp_path / "run.jsonl"
    program = BY_THE_DRIVER + "print(1, flush=True)\nwith rec.step():\n    os.read(0, 1)\n"
    with subprocess.Popen([sys.executable, "-c", program, str(FILE), str(path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert [line["kind"] for line in lines(path)] == ["start", "step", "step"]


def test_a_full_disk_ends_the_recording_with_one_line_and_not_the_training(record, capsys):
    rec, trained = record.Recorder("/dev/full"), 0
    for _ in range(3):
        with rec.step():
            rec.log(loss=0.5)
            trained += 1
        rec.log(validation=0.5)
    rec.close()
    assert trained == 3
    assert capsys.readouterr().err == ("record.py: /dev/full: No space left on device: the recording stops at step 0, "
                                       "the training goes on\n")


def test_where_half_a_line_fits_there_are_whole_lines_only(tmp_path):
    path = tmp_path / "run.jsonl"
    # The file's largest size stands for the disk's.
    program = BY_THE_DRIVER.replace("import", "import resource,", 1) + (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(sys.argv[2]) + 20, -1))\n"
        "for _ in range(2):\n    with rec.step():\n        rec.log(loss=2.0)\nprint('trained')\n")
    done = subprocess.run([sys.executable, "-c", program, str(FILE), str(path)], check=True, capture_output=True,
                          text=True)
    assert done.stdout == "trained\n" and done.stderr.count("\n") == 1 and "stops at step 3" in done.stderr
    assert [line["kind"] for line in lines(path)] == ["start", "step", "step"]


def test_the_gpu_tells_its_own_figures(library, tmp_path):
    path = tmp_path / "run.jsonl"
    start(BY_THE_DRIVER, library, str(FILE), str(path), CUDA_VISIBLE_DEVICES="0")
    first, one, other, end = lines(path)
    assert first["gpu"] and first["gpu_reason"] is None and end["kind"] == "end"
    assert {"gpu_used_bytes", "gpu_percent", "power_mw", "temperature_c", "sm_clock_mhz"} <= one.keys()
    assert "power_mw" not in other, "not more often than once a second"
    start(BY_THE_DRIVER, library, str(FILE), str(path), CUDA_VISIBLE_DEVICES="0", INIT_ERROR=9)
    assert lines(path)[4]["gpu"] is None and lines(path)[4]["gpu_reason"] == "NVML has no GPU '0' (error 9)"
