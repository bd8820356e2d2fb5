"""The edge of a run on this machine: what is left when it is cut off before it began, and two that go on at once."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace

import pytest

from harness.cli import main
from harness.options import BenchConfig
from harness.record.events import BlockState
from harness.record.run import read_run
from harness.record.writer import RunWriter
from harness.run import execute as local
from harness.run.runner import Runner
from impls.errors import UsageError


def test_a_run_cut_off_before_its_first_line_leaves_nothing(tmp_path, capsys):
    writer = RunWriter.create(tmp_path / "results", "train-speed")
    bench = SimpleNamespace(writer=writer, anything_measured=False, sessions=SimpleNamespace(close=lambda: None))

    def run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local._run(SimpleNamespace(run=run), bench, SimpleNamespace(stop=lambda: None), None)
    assert not (tmp_path / "results").exists() and "--resume" not in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "TMPDIR"])
def test_a_folder_that_cannot_be_named_to_workers_is_one_line(tmp_path, monkeypatch, capsys, variable):
    odd = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    odd.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, str(odd))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = main(["--suite", "parity", "--dataset", "digits", "--preset", "tiny", "--device", "cpu", "--arms",
                 "pytorch,pytorch"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert said.endswith(f": holds bytes that are no UTF-8: set {variable} to another folder") and r"caf\xe9" in said
    assert not (tmp_path / "results").exists()


def test_a_pair_that_cannot_be_named_to_workers_is_one_line(tmp_path, monkeypatch, capsys):
    odd = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    odd.mkdir()
    (odd / "mine.py").write_text("")
    monkeypatch.chdir(odd)
    assert main(["--suite", "parity", "--pair", "mine.py", "--arms", "pytorch,pytorch", "--dry-run"]) == 2
    assert capsys.readouterr().err.endswith(r"caf\xe9/mine.py: holds bytes that are no UTF-8: rename the file or folder"
                                            "\n")


def test_the_first_line_says_what_was_asked_for(lab):
    first = []
    bench, opening = lab.bench(BenchConfig(device="cpu", preset="tiny", arms="scripted", blocks=6, pairs=2, epochs=0))
    lab.telemetry.start = lambda: first.extend(type(event).__name__ for event in read_run(bench.writer.path).events[:1])
    Runner(bench, opening).run()
    assert first == ["RunStarted"], "the monitors write lines too"


@pytest.fixture
def cut(lab):
    """A run that was cut off after two blocks, and how it was asked for."""
    bench, opening = lab.bench(BenchConfig(device="cpu", preset="tiny", arms="scripted", blocks=6, pairs=2, epochs=0))
    Runner(bench, opening).run()
    bench.writer.close()
    journal = bench.writer.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    after = next(i for i, line in enumerate(lines) if b'"type":"block"' in line and b'"block":1,' in line)
    journal.write_bytes(b"".join(lines[: after + 1]))
    return bench.writer.path, opening


def test_a_run_that_another_process_brought_to_its_end_meanwhile_is_left_alone(lab, cut):
    path, opening = cut
    read = read_run(path)
    bench, _ = lab.bench(opening.job.options, RunWriter(path, lab.clock))
    bench.writer.finish(Runner(bench, lab.going_on(opening, read)).run())
    bench.writer.close()
    whole = (path / "journal.jsonl").read_bytes()
    with pytest.raises(UsageError, match="another process went on with it meanwhile"):
        local._continued(read)
    assert (path / "journal.jsonl").read_bytes() == whole and len(read_run(path).of(BlockState)) == 6
    RunWriter(path).close()


def test_a_run_that_nobody_touched_goes_on(cut):
    writer = local._continued(read_run(cut[0]))
    writer.close()


@pytest.mark.parametrize("suite", ["parity", "quality"])
def test_a_self_check_belongs_to_a_suite_that_measures_times(suite, capsys):
    assert main(["--suite", suite, "--selfcheck", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--selfcheck" in line and "train-speed" in line
