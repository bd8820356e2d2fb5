"""Temporary folders and processes end with their run, however it ends; what is not a run's stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from harness.processes import janitor
from harness.processes.scratch import Neighbour, Scratch, sweep
from harness.record.writer import RunWriter
from impls.errors import UsageError
from impls.store.files import replacement

ROOT = Path(__file__).resolve().parents[2]
NOTICE_S = 5
# A run with two children and a grandchild, in three sessions, that waits to be killed.
RUN = """
import signal, subprocess, sys, time
from pathlib import Path
from harness.processes.scratch import Scratch
scratch = Scratch()
scratch.writes(Path(sys.argv[1]))
scratch.fills(Path(sys.argv[1]).with_name("cache"))
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
shell = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; exec setsid sleep 1000"], stdout=subprocess.PIPE,
                         text=True)
scratch.has_process(child.pid)
# Where tests run in the background of a shell, Ctrl-C is ignored and children inherit that; it may come
# as soon as the line below is read.
signal.signal(signal.SIGINT, signal.default_int_handler)
print(scratch.path, scratch._janitor.pid, child.pid, shell.pid, shell.stdout.readline().strip(), flush=True)
# A signal that comes just before it waits is heard after a second at most.
while True:
    time.sleep(1)
"""


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """A system's temporary folder of the test's own, with a short path, as sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(temp, tmp_path):
    """A run in a process of its own: the process, its folder, its janitor, and the processes that it started."""
    results = tmp_path / "run"
    results.mkdir()
    process = subprocess.Popen([sys.executable, "-c", RUN, str(results)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "TMPDIR": str(temp)})
    folder, *pids = process.stdout.readline().split()
    keeper, *children = (psutil.Process(int(pid)) for pid in pids)
    yield process, Path(folder), keeper, children
    process.kill()
    process.wait()
    process.stdout.close()
    janitor.end_marked(folder)


def ended(processes):
    return not psutil.wait_procs(processes, timeout=NOTICE_S)[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_run(run, tmp_path, number):
    process, folder, keeper, children = run
    assert folder.is_dir() and len(children) == 3
    (tmp_path / "run" / f".run.json.{children[0].pid}.partial").write_text("{")
    (tmp_path / "run" / f".run.json.{os.getpid()}.partial").write_text("of a process that lives")
    beside = [tmp_path / f".{name}.{children[0].pid}.partial" for name in ("index.html", "feed.xml")]
    for path in beside:
        path.write_text("<")
    cache = tmp_path / "cache"
    (cache / f".cifar10.{children[0].pid}.partial").mkdir(parents=True)
    (cache / f".cifar10.{children[0].pid}.partial" / "archive").write_text("half")
    (cache / f".cifar10.{os.getpid()}.partial").mkdir()
    (cache / ".cifar10").mkdir()
    segment = janitor.SHARED_MEMORY / f"torch_{children[0].pid}_1_0"
    segment.write_bytes(b"0")
    process.send_signal(number)
    process.wait()
    assert ended([*children, keeper])
    assert not folder.exists() and not segment.exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [f".run.json.{os.getpid()}.partial"]
    assert {path.name for path in cache.iterdir()} == {".cifar10", f".cifar10.{os.getpid()}.partial"}
    assert not any(path.exists() for path in beside)


def test_signals_do_not_end_the_janitor_before_its_run(run):
    process, folder, keeper, children = run
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        keeper.send_signal(number)
    process.kill()
    process.wait()
    assert ended([*children, keeper]) and not folder.exists()


def test_the_next_run_cleans_up_where_the_janitor_was_killed_too(run, temp):
    process, folder, keeper, children = run
    sweep(temp)
    assert folder.is_dir() and all(child.is_running() for child in children), "its run is there"
    keeper.kill()
    ended([keeper])
    sweep(temp)
    assert folder.is_dir(), "its run is still there"
    process.kill()
    process.wait()
    assert folder.is_dir()
    Scratch().close()
    assert ended(children) and not folder.exists()


@pytest.mark.parametrize(("last", "left"), [("", False), ("done\n", True)])
def test_a_run_that_broke_off_counts_as_gone_before_the_kernel_says_so(tmp_path, last, left):
    """Its end of the line is closed on its way out; this process plays it and lives on."""
    half = tmp_path / "run" / f".run.json.{os.getpid()}.partial"
    half.parent.mkdir()
    half.write_text("{")
    done = subprocess.run([sys.executable, "-I", "-S", janitor.__file__, str(tmp_path)], check=True, text=True,
                          input=f'run "{half.parent}"\n{last}', stdout=subprocess.PIPE)
    assert not Path(done.stdout.strip()).exists() and half.exists() == left


def test_the_janitor_knows_what_is_half_written(tmp_path):
    with replacement(tmp_path / "run.json") as scratch:
        assert janitor.PARTIAL.fullmatch(scratch.name)[1] == str(os.getpid())
        scratch.touch()


def test_what_is_no_run_s_folder_stays(temp, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / janitor.OWNER).write_text("")
    (temp / "ddpm-bench-link").symlink_to(precious)
    (temp / "ddpm-bench-unclaimed").mkdir()
    (temp / "other").mkdir()
    (temp / "other" / janitor.OWNER).write_text("")
    sweep(temp)
    janitor.clean(temp / "ddpm-bench-link", ())
    janitor.clean(temp / "other", ())
    assert (precious / janitor.OWNER).exists()
    assert {path.name for path in temp.iterdir()} == {"ddpm-bench-link", "ddpm-bench-unclaimed", "other"}


def test_segments_of_other_processes_stay():
    living, dead = (janitor.SHARED_MEMORY / f"torch_{pid}_1_0" for pid in (os.getpid(), 2**22 + 1))
    for path in (living, dead):
        path.write_bytes(b"0")
    try:
        janitor.remove_segments({os.getpid()})
        assert living.exists() and dead.exists()
        janitor.remove_segments({os.getpid(), 2**22 + 1})
        assert living.exists() and not dead.exists()
    finally:
        living.unlink()
        dead.unlink(missing_ok=True)


def test_runs_know_each_other_while_they_measure(temp, tmp_path):
    with Scratch() as one, Scratch() as other:
        assert one.neighbours() == other.neighbours() == []
        one.writes(tmp_path)
        assert one.neighbours() == []
        assert other.neighbours() == [Neighbour(os.getpid(), str(tmp_path))]
    with Scratch() as other:
        assert other.neighbours() == []
    assert janitor.MARK not in os.environ


@pytest.mark.parametrize(("name", "message"), [("x" * 50, "at most 40 characters"), ("missing", "TMPDIR")])
def test_an_unusable_temporary_folder_is_one_line(temp, monkeypatch, capfd, name, message):
    if name != "missing":
        (temp / name).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temp / name))
        with pytest.raises(UsageError, match=message):
            Scratch()
    assert capfd.readouterr().err == "" and janitor.MARK not in os.environ


def test_a_run_folder_has_one_writer(tmp_path):
    writer = RunWriter.create(tmp_path, "train-speed")
    with pytest.raises(UsageError, match="still going on in another process"):
        RunWriter(writer.path)
    writer.close()
    RunWriter(writer.path).close()
