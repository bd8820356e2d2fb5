"""Workers that fail in every way a process can, with real processes: a case of their own, and nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from harness import protocol
from harness.options import BenchConfig
from harness.processes import janitor
from harness.processes.scratch import Scratch
from harness.processes.session import Limits, Session, WorkerFailedError
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from harness.protocol import life
from harness.record.events import BlockState, Case
from harness.record.run import read_run
from harness.run.finish import report_command
from harness.run.runner import Runner
from impls.registry import parse_arm

# Long for a step that takes microseconds, even on a busy machine; a hung one costs so much.
SHORT_LIMITS = Limits(connect_s=60, stop_s=2, stall_s=2, answer_s=5)

FAULTS = {
    "scripted:segfault": (r"signal 11", "string_at"),
    "scripted:killed": (r"signal 9 \(often: out of memory\)", "about to killed"),
    "scripted:hang": (r"no answer to 'stepwise' within 5 s", "about to hang"),
    "scripted:babble": (r"ended by itself with status 5", "last words"),
    "scripted:garbage": (r"cannot be understood", "about to garbage"),
    "scripted:nonsense": (r"cannot be understood", "about to nonsense"),
    "scripted:stall": (r"stopped in the middle of an answer", "about to stall"),
    "scripted:orphan": (r"signal 9", "about to orphan"),
    "scripted:segment": (r"signal 9", "about to segment"),
    "exits": (r"ended by itself with status 4", "about to exit"),
    "unimportable": (r"ImportError: libnowhere", "scripted_unimportable.py"),
    "uncompiled": (r"RuntimeError: the compiler failed|ImportError", "expected a semicolon"),
}


def segments() -> set[Path]:
    return set(janitor.SHARED_MEMORY.glob("torch_*"))


def loaders(run: Path) -> set[int]:
    """What the scripted workers say that they started."""
    return {int(pid) for log in (run / "logs").iterdir()
            for pid in re.findall(r"^loader (\d+)$", log.read_text(errors="replace"), re.M)}


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def real_sessions(lab, real_env, monkeypatch):
    """The lab's runs with real workers; nothing of them is left afterwards."""
    for key, value in real_env.items():
        monkeypatch.setenv(key, value)
    before = segments()
    with Scratch() as scratch:
        lab.sessions = LocalSessions(1, scratch, limits=SHORT_LIMITS)
        yield lab.sessions
        lab.sessions.close()
        assert not janitor.marked(str(scratch.path)), "every worker and what it started is gone before the end"
    assert not scratch.path.exists()
    assert segments() <= before


@pytest.mark.slow
@pytest.mark.parametrize("faults", [list(FAULTS)[:6], list(FAULTS)[6:]], ids=["first half", "second half"])
def test_every_fault_is_a_failed_case_of_its_own_arm(lab, real_sessions, faults, monkeypatch):
    monkeypatch.setattr("harness.bench.MAX_FAILURES", 1)
    arms = ["scripted", *faults]
    bench, opening = lab.bench(BenchConfig(device="cpu", preset="tiny", arms=",".join(arms), blocks=6, pairs=4,
                                           epochs=0, steps=2))
    runner = Runner(bench, opening)
    end = runner.run()
    bench.writer.finish(end)
    bench.writer.close()
    run = read_run(bench.writer.path)
    assert (end.status, end.exit_code, run.damage) == ("failed", 1, [])
    assert len(run.of(BlockState)) >= 6
    healthy = {case.block for case in run.of(Case) if case.arm == "A" and case.status == "measured"}
    assert healthy >= set(range(6)), "the other arm is measured all the same"
    assert not [case for case in run.of(Case) if case.arm == "A" and case.status == "failed"]
    names = run.arms
    for arm in faults:
        reason, line = FAULTS[arm]
        failed = [case for case in run.of(Case) if names.get(case.arm) == arm and case.status == "failed"]
        assert failed, arm
        assert all(re.search(reason, case.reason) for case in failed), (arm, [case.reason for case in failed])
        assert any(line in tail for case in failed for tail in case.log_tail), (arm, failed[-1].log_tail)
        assert all((run.path / case.log).is_file() for case in failed)
    assert bool(loaders(run.path)) == ("scripted:orphan" in faults) and all(map(gone, loaders(run.path)))
    assert report_command("build", run.path)
    page = (run.path / "report.html").read_text()
    assert all(line in page for line in (FAULTS[arm][1] for arm in faults))


def session(channel, clock, limits=Limits(answer_s=5)):  # noqa: B008
    return Session("A", parse_arm("pytorch"), 1, 0, Path("log"), channel, Alive(), Progress(quiet=True), clock, limits)


class Alive:
    pid = 1

    def poll(self):
        return None

    def wait(self, timeout_s):
        return None


class Chatterbox:
    """A worker that says something for ever and never answers."""

    def __init__(self, clock):
        self.clock = clock

    def send_bytes(self, data):
        pass

    def poll(self, timeout):
        self.clock.ns += 10**9
        return True

    def recv_bytes(self, most):
        return protocol.encode(life.Note(text="compiling"))


def test_a_worker_that_only_talks_counts_as_hung(lab):
    with pytest.raises(WorkerFailedError, match="no answer to 'cache' within 5 s") as fault:
        session(Chatterbox(lab.clock), lab.clock.seconds).ask(life.ReadCache(), 600)
    assert fault.value.cause == "hang"


def test_a_stuck_handshake_holds_up_nobody_else(lab, real_sessions, tmp_path):
    from multiprocessing.connection import Client

    silent = Client(str(real_sessions._listener.address), family="AF_UNIX")
    with real_sessions.start("A", parse_arm("scripted"), tmp_path / "log") as live:
        assert live.ask(life.ReadCache(), 60).compiled_files is None
    silent.close()


def test_temporary_files_of_a_worker_go_with_the_run(lab, real_sessions, tmp_path):
    with real_sessions.start("A", parse_arm("scripted"), tmp_path / "log") as live:
        environment = psutil.Process(live.pid).environ()
    folder = Path(environment["TMPDIR"])
    assert folder.is_dir() and real_sessions._scratch.path in folder.parents
    assert not environment["TORCHINDUCTOR_CACHE_DIR"].startswith(str(folder)), "compiled code stays"
