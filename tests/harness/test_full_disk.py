"""A disk that fills up ends a run in one line, leaves whole lines behind, and lets the run be resumed."""

from __future__ import annotations

import errno
import os

import pytest

from harness import cli
from harness.options import BenchConfig
from harness.record import writer as written
from harness.record.events import BlockState, EnvironmentRecorded, Finding, ParityResult, RunEnded, Window
from harness.record.lines import encode
from harness.record.run import read_run
from harness.record.writer import RunWriter
from harness.run import execute as local
from harness.run.runner import Runner
from impls.errors import StorageError, UsageError

TRAINING = {"arms": "scripted,scripted", "blocks": 6, "pairs": 2, "epochs": None}


class Disk:
    """Takes `room` more bytes, the last of them as a short write, then is full."""

    def __init__(self, monkeypatch, room):
        self.room, self.write = room, os.write
        monkeypatch.setattr(written.os, "write", self.take)

    def take(self, file, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.write(file, data[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk_leaves_whole_lines_and_the_journal_goes_on_once_there_is_room(tmp_path, monkeypatch):
    event = Finding(severity="info", code="c", message="m", t_ns=1)
    size = len(encode(event, 0))
    for room in range(0, 3 * size + 1, 7):
        writer = RunWriter.create(tmp_path, "parity")
        with monkeypatch.context() as patched:
            disk = Disk(patched, room)
            with pytest.raises(StorageError, match="No space left.*--resume") as fault:
                for _ in range(4):
                    writer.append(event)
            assert "\n" not in str(fault.value)
            disk.room = 10**6
            with pytest.raises(StorageError, match="No space left"):
                writer.append(event)
        run = read_run(writer.path)
        assert len(run.events) == room // size and run.damage == []
        assert (writer.path / "journal.jsonl").stat().st_size == room // size * size
        writer.close()
        again = RunWriter(writer.path)
        again.append(event.model_copy(update={"code": "later"}))
        again.close()
        run = read_run(writer.path)
        assert run.damage == [] and [e.code for e in run.of(Finding)] == ["c"] * (room // size) + ["later"]


def test_short_writes_alone_are_no_fault(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(written.os, "write", lambda file, data: write(file, data[:5]))
    writer = RunWriter.create(tmp_path, "parity")
    for number in range(3):
        writer.append(Finding(severity="info", code=str(number), message="long enough"))
    writer.close()
    run = read_run(writer.path)
    assert [event.code for event in run.of(Finding)] == ["0", "1", "2"] and run.damage == []


class Quiet:
    """Telemetry that a whole run starts and stops."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def start(self): ...

    def stop(self): ...


def test_a_run_that_fills_the_disk_keeps_what_it_measured_and_can_be_resumed(lab, monkeypatch):
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **TRAINING}))
    with monkeypatch.context() as patched:
        Disk(patched, 30_000)
        with pytest.raises(StorageError, match="No space left on device: what was measured is safe"):
            local._run(Runner(bench, opening), bench, Quiet(lab.telemetry), None)
    assert all(handle.killed for handle in lab.sessions.handles)
    bench.writer.close()
    cut = read_run(bench.writer.path)
    assert cut.damage == [] and cut.status == "unfinished" and cut.of(BlockState)
    writer = RunWriter(cut.path, lab.clock)
    again, _ = lab.bench(opening.job.options, writer)
    writer.finish(Runner(again, lab.going_on(opening, cut)).run())
    writer.close()
    run = read_run(cut.path)
    assert run.damage == [] and run.status == "complete"
    assert len(run.of(Window)) == len(lab.run(**TRAINING)[1].of(Window))


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(lab, monkeypatch):
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **TRAINING}))
    Disk(monkeypatch, 100)
    with pytest.raises(UsageError, match="--out .*No space left.*more room"):
        local._run(Runner(bench, opening), bench, Quiet(lab.telemetry), None)
    assert not bench.writer.path.exists()


def test_a_fault_of_the_user_s_after_the_first_measurement_deletes_nothing(lab, monkeypatch):
    """A full disk for temporary files, say, which comes up as bad input."""
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **TRAINING}))
    runner = Runner(bench, opening)

    def no_room(*_):
        raise UsageError("/tmp/x: cannot be written: No space left on device")

    monkeypatch.setattr("harness.part.Timed.measure", no_room)
    with pytest.raises(UsageError, match="No space left"):
        local._run(runner, bench, Quiet(lab.telemetry), None)
    bench.writer.close()
    assert read_run(bench.writer.path).status == "interrupted" and read_run(bench.writer.path).of(ParityResult)


def test_a_summary_without_room_leaves_the_old_one_whole_and_no_half_of_a_new(tmp_path, monkeypatch):
    writer = RunWriter.create(tmp_path, "parity")
    writer.append(EnvironmentRecorded(facts={}))
    writer.summarise()
    before = (writer.path / "run.json").read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("impls.store.files.os.fsync",
                        lambda file: None if file == writer._file else full(file))
        with pytest.raises(StorageError, match=r"run.json: cannot write: No space left.*--resume"):
            writer.summarise()
        with pytest.raises(StorageError, match=r"run.json: .*python -m reports build"):
            writer.finish(RunEnded(status="complete", exit_code=0, wall_s=1))
    assert (writer.path / "run.json").read_bytes() == before
    assert not list(writer.path.glob(".*")) and read_run(writer.path).status == "complete"
    writer.close()


@pytest.mark.parametrize(("fault", "words"), [
    (StorageError("results/r/journal.jsonl: cannot write: full: make room", "full"), ["journal.jsonl", "make room"]),
    (OSError(errno.ENOSPC, "No space left on device", "results/r/logs/A.log"), ["logs/A.log", "No space left"])])
def test_a_full_disk_is_one_line_and_exit_code_one(monkeypatch, capsys, fault, words):
    def execute(*args):
        raise fault

    monkeypatch.setattr(local, "execute", execute)
    assert cli.main(["--device", "cpu", "--arms", "pytorch"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("run_bench.py: error: ") and all(word in last for word in words)


def test_a_run_that_goes_on_elsewhere_is_not_resumed(tmp_path):
    writer = RunWriter.create(tmp_path, "parity")
    with pytest.raises(UsageError, match="still going on"):
        RunWriter(writer.path)
    writer.close()
    RunWriter(writer.path).close()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everything")
def test_a_run_folder_that_cannot_be_written_is_one_line(tmp_path):
    writer = RunWriter.create(tmp_path, "parity")
    writer.close()
    (writer.path / "journal.jsonl").chmod(0o400)
    with pytest.raises(UsageError, match=r"cannot write journal.jsonl"):
        RunWriter(writer.path)
