"""Ranks of a scripted arm by a launcher that looks after none of them: they answer as one, fail as one, and all end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import scripted_backend

from harness import protocol
from harness.processes import janitor
from harness.processes.group import Group, Rank, together
from harness.processes.ranks import Launch
from harness.processes.session import Limits, WorkerFailedError
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from harness.protocol import group, life, timing, training
from harness.worker.__main__ import connected
from impls import registry
from impls.recipe.config import preset
from impls.registry import parse_arm

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "fake_backend" / "fake_mpirun.py"
TWO = Launch("mpirun", 2)
NOTICE_S = 10


@pytest.fixture
def arm(monkeypatch):
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, scripted_backend.SPEC))
    return parse_arm("scripted")


@pytest.fixture
def env(real_env, tmp_path, monkeypatch):
    """With `mpirun` on PATH, which starts ranks as its namesake does."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mpirun").write_text(f"#!/bin/sh\nexec {sys.executable} {FAKE} \"$@\"\n")
    (programs / "mpirun").chmod(0o755)
    real_env["PATH"] = os.pathsep.join([str(programs), real_env["PATH"]])
    for key, value in real_env.items():
        monkeypatch.setenv(key, value)
    return real_env


@pytest.fixture
def sessions(scratch, env):
    made = LocalSessions(1, scratch, limits=Limits(connect_s=60))
    yield made
    made.close()


def built(session):
    """With a trainer of 4 images a step."""
    created = session.ask(life.Create(arm="scripted", device="cpu", threads=1), 60)
    recipe = preset("tiny")
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"batch_size": 4})})
    session.ask(life.Build(experiment=recipe.model_dump(mode="json"), data_path=None), 60)
    return created


def test_ranks_answer_as_one_worker_and_all_of_them_end(arm, sessions, scratch, tmp_path):
    with sessions.start("A", arm, tmp_path / "log", by=TWO) as session:
        assert [rank.number for rank in session.ranks] == [0, 1] and session.hosts == [socket.gethostname()] * 2
        assert len({session.handle.pid, *session.pids}) == 3
        assert built(session).info["framework"] == "Scripted"
        assert session.ask(timing.Stepwise(steps=3), 60).step_ns and len(
            session.ask_all(timing.Stepwise(steps=3), 60)) == 2
        assert session.ask(group.Average(on=False), 60) == life.Done()
        assert len(session.ask(group.Reduce(floats=8, rounds=4), 60).round_ns) == 4
        assert len({str(told) for told in session.ask_all(group.ReadDigests(), 60)}) == 1
        assert len(session.ask(training.ReadLosses(), 60).losses) == 6
        with pytest.raises(WorkerFailedError, match=r"rank \d on \S+: scripted: this backend was told") as fault:
            session.ask(life.Create(arm="scripted:unusable", device="cpu", threads=1), 60)
        assert fault.value.cause == "usage"
    assert not janitor.marked(str(scratch.path))


def test_one_that_stops_is_named_and_one_that_never_comes_too(arm, scratch, env, tmp_path):
    quick = LocalSessions(1, scratch, limits=Limits(connect_s=60, answer_s=1.5, stop_s=0.1))
    with quick.start("A", arm, tmp_path / "log", by=TWO) as session, pytest.raises(WorkerFailedError) as fault:
        os.kill(session.pids[1], signal.SIGSTOP)
        session.ask(life.ReadCache(), 60)
    assert fault.value.cause == "hang"
    assert f"from rank 1 on {socket.gethostname()} (stopped)" in fault.value.message
    quick.close()
    late = LocalSessions(1, scratch, limits=Limits(connect_s=3))
    # On a busy machine the other one may be late, too.
    with pytest.raises(WorkerFailedError, match=r"scripted: rank (0, )?1 did not connect within 3 s"):
        late.start("A", arm, tmp_path / "log", {"FAKE_MPIRUN_WITHOUT": "1"}, TWO)
    late.close()
    assert not janitor.marked(str(scratch.path))


def test_a_rank_whose_group_never_comes_together_is_hung_up_on(arm, scratch, tmp_path, monkeypatch):
    ranks = []

    def come(command, env, log):
        monkeypatch.setattr(os, "environ", dict(env))
        token, channel = env[protocol.TOKEN_VARIABLE], connected()
        channel.send_bytes(protocol.encode(life.Hello(token=token, pid=1, rank=0, host="far away")))
        ranks.append((token, channel))
        return SimpleNamespace(pid=os.getpid(), poll=lambda: None, kill=lambda: None)

    monkeypatch.setattr(scratch, "has_process", lambda pid: None)
    sessions = LocalSessions(1, scratch, launcher=come, limits=Limits(connect_s=0.3))
    with pytest.raises(WorkerFailedError, match="rank 1 did not connect"):
        sessions.start("A", arm, tmp_path / "log", by=TWO)
    ((_, channel),) = ranks
    assert channel.poll(NOTICE_S)
    with pytest.raises(EOFError):
        channel.recv_bytes()
    sessions.close()


def test_a_rank_that_died_is_named_and_not_one_that_failed_because_of_it(arm, tmp_path):
    (first, worker), (second, other) = Pipe(), Pipe()
    handle = SimpleNamespace(poll=lambda: None, wait=lambda seconds: None)
    ranks = Rank(0, "a", 1, first), Rank(1, "b", 2, second)
    session = Group("A", arm, 0, 0, tmp_path / "log", first, handle, Progress(quiet=True), launcher="mpirun",
                    ranks=ranks)
    worker.send_bytes(protocol.encode(life.Failure(cause="error", message="connection closed by peer", traceback="")))
    threading.Timer(0.2, other.close).start()
    with pytest.raises(WorkerFailedError, match=r"rank 1 on b \(process 2\) is gone"):
        session.ask(life.ReadCache(), 60)


def test_across_hosts_ranks_come_by_tcp_with_a_key_that_only_its_owner_can_read(arm, sessions, tmp_path, monkeypatch):
    seen = []

    class Watched(Launch):
        def command(self, python, env):
            (file,) = tmp_path.glob(".*.key")
            seen.append((oct(file.stat().st_mode & 0o777), env["DDPM_BENCH_ADDRESS"], "DDPM_BENCH_KEY" in env))
            return super().command(python, env)

    # The name of a container may have no address.
    monkeypatch.setattr("harness.processes.workers.socket.gethostname", lambda: "127.0.0.1")
    with sessions.start("A", arm, tmp_path / "log", by=Watched("mpirun", 2, nodes=2)) as session:
        assert built(session).info["framework"] == "Scripted"
    ((mode, address, key),) = seen
    assert mode == "0o600" and address.startswith("tcp://127.0.0.1:") and not key
    assert not list(tmp_path.glob(".*.key"))


def test_a_group_s_step_ends_with_its_last_rank(arm):
    told = [timing.StepTimes(start_ns=[10, 20], step_ns=[10, 10], end_ns=30),
            timing.StepTimes(start_ns=[12, 25], step_ns=[13, 7], end_ns=32)]
    assert together(told, ["a", "a"]) == timing.StepTimes(start_ns=[10, 25], step_ns=[15, 7], end_ns=32)
    # Their clocks do not compare.
    assert together(told, ["a", "b"]).step_ns == [13, 10]
    spans = [timing.Span(start_ns=1, end_ns=5, steps=2), timing.Span(start_ns=2, end_ns=9, steps=2)]
    assert together(spans, ["a", "a"]) == timing.Span(start_ns=1, end_ns=9, steps=2)
    assert together(spans, ["a", "b"]).end_ns == 8


@pytest.mark.parametrize(("other", "line"), [
    ({"version": "2"}, "rank 1 on b has another version than rank 0: 2 instead of 1"),
    ({"device_uuid": "GPU-1"}, "2 ranks share 1 GPU")])
def test_ranks_that_run_something_else_are_refused(other, line):
    info = {"framework": "X", "version": "1", "device_uuid": "GPU-1"}
    told = [life.Created(import_ns=1, info={**info, **more}, compiled_files=None) for more in ({}, other)]
    with pytest.raises(WorkerFailedError, match=line):
        together(told, ["a", "b"])


def test_no_rank_or_launcher_that_is_killed_leaves_anything_behind(arm, sessions, scratch, tmp_path, pytestconfig,
                                                                   monkeypatch):
    """At random moments, from before the ranks connect to the middle of steps; 20 with --kills 20."""
    monkeypatch.setenv("SCRIPTED_WAIT_S", "0.01")
    chance, named = random.Random(15), 0
    for number in range(pytestconfig.getoption("--kills")):
        done, victim, moment = threading.Event(), chance.choice(["rank", "launcher"]), chance.uniform(0.0, 2.5)

        def kill(victim=victim, moment=moment, done=done):
            done.wait(moment)
            found = sorted(janitor.marked(str(scratch.path)))
            launchers = [pid for pid in found if str(FAKE) in command_of(pid)]
            ranks = [pid for pid in found if "harness.worker" in command_of(pid) and pid not in launchers]
            chosen = launchers if victim == "launcher" else ranks
            if chosen:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(chosen), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with sessions.start("A", arm, tmp_path / f"log-{number}", by=TWO) as session:
                built(session)
                session.ask(timing.Stepwise(steps=500), 60)
        except WorkerFailedError as error:
            named += 1
            assert error.cause == "crash" and ("rank" in error.message or "mpirun" in error.message), error
        finally:
            done.set()
            killer.join()
        assert not janitor.marked(str(scratch.path))
    assert named


def command_of(pid):
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


RUNNER = """
import sys
from pathlib import Path
from harness.processes.ranks import Launch
from harness.processes.scratch import Scratch
from harness.processes.workers import LocalSessions
from impls.registry import parse_arm
scratch = Scratch()
session = LocalSessions(1, scratch).start("A", parse_arm("scripted"), Path(sys.argv[1]), by=Launch("mpirun", 2))
print(scratch.path, scratch._janitor.pid, session.handle.pid, *session.pids, flush=True)
sys.stdin.read()
"""


def test_ranks_and_their_launcher_end_with_a_runner_that_is_killed(env, tmp_path):
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path / "log")], cwd=ROOT, env=env, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    folder, *pids = runner.stdout.readline().split()
    processes = [psutil.Process(int(pid)) for pid in pids]
    runner.kill()
    runner.communicate()
    # The janitor first, which ends when it has removed the folder.
    assert len(processes) == 4 and not psutil.wait_procs(processes, timeout=NOTICE_S)[1]
    assert not Path(folder).exists()
