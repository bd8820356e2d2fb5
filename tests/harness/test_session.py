"""Sockets, launches and the worker itself, with real processes that run no framework."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Pipe
from types import SimpleNamespace

import psutil
import pytest
import scripted_backend

from harness import protocol
from harness.machine import counters, disturbance
from harness.processes.launcher import launch, worker_environment
from harness.processes.session import Session, WorkerFailedError, ending, log_tail
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from harness.protocol import life, timing
from harness.worker import loops
from harness.worker.__main__ import serve
from harness.worker.worker import Worker, out_of_memory
from impls import registry
from impls.registry import parse_arm


class OtherCommand:
    """Starts something else than a worker."""

    def __init__(self, code):
        self.code, self.started = code, 0

    def __call__(self, command, env, log):
        self.started += 1
        return launch([sys.executable, "-c", self.code], env, log)


@pytest.fixture
def arm(monkeypatch):
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, scripted_backend.SPEC))
    return parse_arm("scripted")


def test_a_real_worker_answers_and_stops(arm, scratch, tmp_path, real_env, monkeypatch):
    for key, value in real_env.items():
        monkeypatch.setenv(key, value)
    sessions = LocalSessions(1, scratch)
    try:
        with sessions.start("A", arm, tmp_path / "log") as session:
            assert session.pid == session.handle.pid and session.spawn_ns > 0
            created = session.ask(life.Create(arm="scripted", device="cpu", threads=1), 60)
            assert created.info["framework"] == "Scripted" and created.compiled_files is None
            with pytest.raises(WorkerFailedError, match="before anything was built") as fault:
                session.ask(timing.Stepwise(steps=1), 60)
            assert fault.value.cause == "error" and "Traceback" in fault.value.detail
            with monkeypatch.context() as lie:
                lie.setattr(life.Create, "reply", lambda command: timing.Span)
                with pytest.raises(WorkerFailedError, match="answered Created, not Span"):
                    session.ask(life.Create(arm="scripted", device="cpu", threads=1), 60)
            os.kill(session.pid, signal.SIGKILL)
            with pytest.raises(WorkerFailedError, match="signal 9") as fault:
                session.ask(life.ReadCache(), 60)
            assert fault.value.cause == "crash"
    finally:
        sessions.close()


def test_a_process_that_ends_silently_before_it_connects_is_started_three_times(arm, scratch, tmp_path):
    launcher = OtherCommand("pass")
    sessions = LocalSessions(1, scratch, launcher=launcher)
    with pytest.raises(WorkerFailedError, match="3 times"):
        sessions.start("A", arm, tmp_path / "log")
    sessions.close()
    assert launcher.started == 3


def test_a_process_that_fails_before_it_connects_is_not(arm, scratch, tmp_path):
    launcher = OtherCommand("print('my last words'); raise SystemExit(7)")
    sessions = LocalSessions(1, scratch, launcher=launcher)
    with pytest.raises(WorkerFailedError, match="status 7"):
        sessions.start("A", arm, tmp_path / "log")
    sessions.close()
    assert launcher.started == 1 and log_tail(tmp_path / "log") == ["my last words"]


def test_a_stranger_without_the_key_cannot_connect(arm, scratch, tmp_path, real_env, monkeypatch):
    for key, value in real_env.items():
        monkeypatch.setenv(key, value)
    from multiprocessing import AuthenticationError
    from multiprocessing.connection import Client

    sessions = LocalSessions(1, scratch)
    try:
        with pytest.raises((AuthenticationError, EOFError)):
            Client(str(sessions._listener.address), family="AF_UNIX", authkey=b"guess")
        sessions.start("A", arm, tmp_path / "log").stop()
    finally:
        sessions.close()


def test_a_worker_by_hand_says_how_it_is_started():
    env = {key: value for key, value in os.environ.items() if not key.startswith("DDPM_BENCH_")}
    done = subprocess.run([sys.executable, "-m", "harness.worker"], env=env, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and "run_bench.py" in done.stderr


def test_the_peak_of_a_worker_is_its_own_and_not_that_of_the_process_that_started_it():
    held = bytearray(400 << 20)
    code = ("from harness.worker.worker import peak_rss_bytes as peak; print(peak()); more = bytearray(100 << 20); "
            "del more; print(peak())")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    before, after = map(int, told)
    assert before < len(held) and after - before > 90 << 20


def test_killing_a_worker_ends_what_it_started(tmp_path):
    code = ("import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); "
            "time.sleep(600)")
    handle = launch([sys.executable, "-c", code], dict(os.environ), tmp_path / "log")
    while not (lines := log_tail(tmp_path / "log")):
        assert handle.poll() is None
    handle.kill()
    handle.kill()
    child = int(lines[0])
    if psutil.pid_exists(child):
        process = psutil.Process(child)
        assert process.status() == psutil.STATUS_ZOMBIE or psutil.wait_procs([process], timeout=30)[0]


def test_all_arms_get_the_same_threads_and_no_passive_waiting():
    env = worker_environment({"OMP_WAIT_POLICY": "passive", "PYTHONPATH": "/x", "OMP_NUM_THREADS": "7"}, 2)
    assert "OMP_WAIT_POLICY" not in env
    assert env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "2"
    assert env["PYTHONPATH"].endswith(os.pathsep + "/x")


def test_the_channel_carries_json_and_nothing_else():
    ours, theirs = Pipe()
    ours.send_bytes(protocol.encode(life.ReadCache()))
    ours.send_bytes(protocol.encode(life.Stop()))
    serve(theirs, Worker())
    assert json.loads(ours.recv_bytes()) == {"kind": "cache-count", "compiled_files": None}
    assert json.loads(ours.recv_bytes()) == {"kind": "done"}


def test_a_worker_ends_when_its_runner_is_gone():
    ours, theirs = Pipe()
    ours.close()
    serve(theirs, Worker())


def test_out_of_memory_is_recognised_in_every_framework():
    class OutOfMemoryError(RuntimeError):
        pass

    assert out_of_memory(MemoryError()) and out_of_memory(OutOfMemoryError("x"))
    assert out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate"))
    assert not out_of_memory(RuntimeError("shape mismatch"))


def test_endings_in_words():
    assert "status 3" in ending(3)
    assert "signal 9" in ending(-9) and "memory" in ending(-9)
    assert "signal 11" in ending(-11) and "memory" not in ending(-11)


class Counted:
    """A trainer that only counts what is done to it."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda: self.calls.append(name) or ([5] if name == "loader_wait_ns" else 0)


def ticking():
    ticks = iter(range(0, 10**9, 10))
    return lambda: next(ticks)


def test_stepwise_synchronises_every_step_and_starts_with_nothing_pending():
    trainer = Counted()
    times = loops.stepwise(trainer, timing.Stepwise(steps=3), ticking())
    assert trainer.calls == ["synchronize"] + ["step", "synchronize"] * 3
    assert (times.start_ns, times.step_ns, times.end_ns) == ([0, 10, 20], [10, 10, 10], 30)


def test_free_synchronises_at_the_ends_only():
    trainer = Counted()
    loops.free(trainer, timing.Free(steps=3), ticking())
    assert trainer.calls == ["synchronize", "step", "step", "step", "synchronize"]


def test_the_bare_loop_does_the_same_steps_as_the_window():
    trainer = Counted()
    times = loops.overhead(trainer, timing.Overhead(pairs=4, steps=2), ticking())
    assert trainer.calls.count("step") == 4 * 2 * 2
    assert len(times.bare_ns) == len(times.harness_ns) == 4


def test_the_collector_is_off_inside_a_window_and_on_again_after_a_fault():
    import gc

    class Faulty(Counted):
        def step(self):
            self.calls.append(gc.isenabled())
            raise RuntimeError

    trainer = Faulty()
    with pytest.raises(RuntimeError):
        loops.free(trainer, timing.Free(steps=1), ticking())
    assert trainer.calls[-1] is False and gc.isenabled()


def test_disturbances_are_shares_of_what_was_measured():
    busy, cpu = iter([0, 10**9]), {1: 0}
    clock = iter([0, 10**9])
    seen = disturbance.Disturbance({"A": "one", "B": "two"}, lambda pid: cpu[pid], lambda: next(busy),
                                   lambda: next(clock))
    seen.begin([1])
    seen.waited({"A": 19_000_000}, 10**9)
    seen.waited({"B": 21_000_000}, 10**9)
    seen.end()
    reasons = seen.reasons()
    assert any(reason.startswith("two used 2.1%") for reason in reasons)
    assert not any(reason.startswith("one") for reason in reasons)
    share = 1 / len(os.sched_getaffinity(0))
    assert any("other programs" in reason for reason in reasons) == (share > disturbance.MOST_FOREIGN_SHARE)


def test_unreadable_load_is_no_disturbance():
    seen = disturbance.Disturbance({"A": "one"}, lambda pid: None, lambda: None)
    seen.begin([1])
    seen.end()
    assert seen.reasons() == []


def test_the_machine_s_busy_time_grows_and_is_in_nanoseconds():
    first = counters.machine_busy_ns()
    assert first is None or first > 10**9


def test_a_quiet_progress_writes_nothing_and_a_loud_one_has_a_heartbeat():
    for quiet in (True, False):
        stream = io.StringIO()
        progress = Progress(quiet, stream)
        with progress.bar(2, "work"):
            progress.advance()
            progress.say("a line")
            for second in range(30):
                progress.tick("busy", float(second), f"{second} of 30" if second > 20 else None)
        text = stream.getvalue()
        assert (text == "") == quiet
        assert text.count("busy (") == (0 if quiet else 3)
        assert quiet or ("busy (24 s, 24 of 30)" in text and "busy (16 s)" in text)


class Compiling:
    """A worker that is heard again only after three waits, and its clock."""

    def __init__(self):
        self.waits, self.sent = 0, []
        self.send_bytes = self.sent.append

    def poll(self, timeout=None):
        self.waits += timeout is not None
        return self.waits > 3

    def recv_bytes(self, _most):
        return protocol.encode(life.CacheCount(compiled_files=7))

    def clock(self):
        return 10.0 * self.waits


def test_who_waits_for_a_compiling_worker_sees_how_far_it_is(tmp_path):
    log, stream, worker = tmp_path / "log", io.StringIO(), Compiling()
    log.write_text("a warning\n\nCompiling Operators(3/42) used: 2.1s eta: 31.5s \r"
                   "Compiling Operators(12/42) used: 10.1s eta: 25.2s \r")
    handle = SimpleNamespace(poll=lambda: None)
    session = Session("A", parse_arm("jittor"), 1, 1, log, worker, handle, Progress(stream=stream), worker.clock)
    assert session.ask(life.ReadCache(), 60).compiled_files == 7
    assert "jittor: cache (20 s, 12 of 42 kernels compiled, about 25 s left)" in stream.getvalue()
    worker.waits = 0
    session.arm = parse_arm("pytorch")
    session.ask(life.ReadCache(), 60)
    assert "pytorch: cache (20 s)" in stream.getvalue()


def test_a_worker_that_dies_is_told_with_the_line_of_its_log_that_says_why(tmp_path):
    log = tmp_path / "log"
    pages = "\n".join(f"    {number} | more" for number in range(200))
    log.write_text(f"/usr/bin/ld: final link failed: No space left on device\n{pages}\nterminate called\n")
    closed = SimpleNamespace(send_bytes=lambda data: None, poll=lambda timeout=None: False)
    handle = SimpleNamespace(poll=lambda: -6, wait=lambda timeout: -6)
    session = Session("A", parse_arm("jittor"), 1, 1, log, closed, handle, Progress(quiet=True))
    with pytest.raises(WorkerFailedError) as fault:
        session.ask(life.ReadCache(), 60)
    assert fault.value.message == ("jittor: the worker was killed by signal 6: /usr/bin/ld: final link failed: "
                                   "No space left on device: make room on the disk")
