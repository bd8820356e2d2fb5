"""What a resumed run does again is neither counted nor shown twice, however often and wherever it was interrupted."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter

import pytest

from harness.cli import main
from harness.judge.verdicts import Question, block_ratios
from harness.options import BenchConfig
from harness.plan import Comparison
from harness.record import run as reader
from harness.record import writer as writing
from harness.record.events import (
    BlockState,
    Case,
    Finding,
    Losses,
    ParityResult,
    Peak,
    Resumed,
    SampleAgreement,
    SamplesDrawn,
    SyncProof,
    Trap,
    Verdict,
    Window,
)
from harness.record.lines import decode, encode
from harness.record.run import read_run, report_due
from harness.record.writer import RunWriter
from harness.run import execute as local
from harness.run.runner import Runner

TRAINING = {"arms": "scripted,scripted", "blocks": 6, "pairs": 2, "epochs": None}
SAMPLING = {"suite": "sample-speed", "arms": "scripted,scripted:slow", "blocks": 6, "pairs": 2, "steps": "2,4"}


def interrupted(lab, kind, nth, options=TRAINING):
    """A run that Ctrl-C ends as the nth line of a kind has been written."""
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **options}))
    append, seen = bench.writer.append, Counter()

    def stop(event):
        append(event)
        seen[type(event)] += 1
        if seen[kind] == nth and isinstance(event, kind):
            raise KeyboardInterrupt

    bench.writer.append = stop
    runner = Runner(bench, opening)
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    bench.writer.append = append
    bench.writer.finish(runner.end("interrupted", 130))
    bench.writer.close()
    return bench.writer.path, opening


def resumed(lab, path, opening):
    writer = RunWriter(path, lab.clock)
    bench, _ = lab.bench(opening.job.options, writer)
    writer.finish(Runner(bench, lab.going_on(opening, read_run(path))).run())
    writer.close()
    run = read_run(path)
    assert writer.run == run
    return run


def whole_run_lines(run):
    """How often each measurement that belongs to no block, or to all of them, is told."""
    kinds = (ParityResult, SamplesDrawn, SampleAgreement, SyncProof, Peak, Trap, Verdict)
    return Counter((type(event).__name__, getattr(event, "arm", None), getattr(event, "arm_a", None),
                    getattr(event, "metric", None), getattr(event, "cell", None))
                   for event in run.events if isinstance(event, kinds))


@pytest.mark.parametrize(("options", "kind", "nth"), [
    (TRAINING, ParityResult, 1), (TRAINING, Losses, 1), (TRAINING, Window, 3), (TRAINING, Peak, 1),
    (TRAINING, Peak, 2), (TRAINING, BlockState, 2), (TRAINING, Verdict, 1),
    (SAMPLING, SamplesDrawn, 1), (SAMPLING, SamplesDrawn, 2), (SAMPLING, Peak, 1), (SAMPLING, Trap, 1),
    (SAMPLING, BlockState, 1), (SAMPLING, Verdict, 2)])
def test_a_resumed_run_tells_everything_once_as_an_uninterrupted_one(lab, monkeypatch, options, kind, nth):
    monkeypatch.setattr("harness.suites.sampling.part.SWEEP", {"cpu": (1,), "cuda": (1,)})
    monkeypatch.setattr("harness.suites.sampling.batches.CELL_S", {"cpu": 0.1})
    path, opening = interrupted(lab, kind, nth, options)
    run, (_, plain) = resumed(lab, path, opening), lab.run(**options)
    assert run.damage == [] and run.status == "complete"
    assert whole_run_lines(run) == whole_run_lines(plain)
    for one in (Window, Losses, Case, BlockState):
        assert len(run.of(one)) == len(plain.of(one))
    assert Counter(finding.code for finding in run.of(Finding)) == Counter(f.code for f in plain.of(Finding))
    assert {v.metric: v.blocks for v in run.of(Verdict)} == {v.metric: v.blocks for v in plain.of(Verdict)}


@pytest.mark.parametrize("blocks", [6, 12])
def test_the_journal_is_read_at_most_twice_in_a_run_however_many_blocks(lab, monkeypatch, blocks):
    reads = []
    for module in (reader, writing):
        monkeypatch.setattr(module, "decode", lambda raw, path: reads.append(len(raw)) or decode(raw, path))
    path, opening = interrupted(lab, BlockState, blocks - 2, {**TRAINING, "blocks": blocks})
    assert reads == [0], "a new run looks whether its journal is empty"
    reads.clear()
    before = read_run(path)
    writer = local._continued(before)
    bench, _ = lab.bench(opening.job.options, writer)
    writer.finish(Runner(bench, lab.going_on(opening, before)).run())
    writer.close()
    assert len(reads) == 2 and len(writer.run.of(BlockState)) == blocks


def test_a_run_resumed_twice_still_tells_everything_once(lab):
    path, opening = interrupted(lab, Losses, 1)
    for kind in (ParityResult, Window):
        writer = RunWriter(path, lab.clock)
        bench, _ = lab.bench(opening.job.options, writer)
        append = writer.append

        def stop(event, append=append, kind=kind):
            append(event)
            if isinstance(event, kind):
                raise KeyboardInterrupt

        writer.append = stop
        runner = Runner(bench, lab.going_on(opening, read_run(path)))
        with pytest.raises(KeyboardInterrupt):
            runner.run()
        writer.close()
    run, (_, plain) = resumed(lab, path, opening), lab.run(**TRAINING)
    assert len(run.of(Resumed)) == 3 and run.damage == []
    assert whole_run_lines(run) == whole_run_lines(plain)
    assert len(run.of(Window)) == len(plain.of(Window)) and len(run.of(Case)) == len(plain.of(Case))


def test_a_block_is_not_counted_twice_although_the_line_of_the_resume_is_lost(lab):
    path, opening = interrupted(lab, BlockState, 2)
    journal = path / "journal.jsonl"
    again = encode(read_run(path).of(BlockState)[0].model_copy(update={"t_ns": 1}), 10_000)
    journal.write_bytes(journal.read_bytes() + again)
    run = read_run(path)
    ratios = block_ratios(run, Question(Comparison("A", "B"), "step time", "stepwise"))
    assert sorted(ratios.blocks) == [0, 1] and "are lost" in run.damage[0]


def test_a_case_prepared_anew_forgets_its_earlier_failure(tmp_path):
    writer = RunWriter.create(tmp_path, "parity")
    writer.append(Case(case_id="prewarm-jittor", arm="A", block=None, status="failed", reason="no compiler"))
    writer.append(Finding(severity="info", code="tails", message="of two blocks"))
    writer.append(Finding(severity="info", code="cpu-load", message="of the machine"))
    writer.append(Resumed(resumed_utc="later", discarded_blocks=[]))
    writer.close()
    run = read_run(writer.path)
    assert run.of(Case) == [] and [finding.code for finding in run.of(Finding)] == ["cpu-load"]


@pytest.mark.parametrize("lost", ["report.html", "index.html", "run.json"])
def test_a_complete_run_whose_report_was_not_built_gets_it(lab, capsys, lost):
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **TRAINING, "epochs": 0}))
    bench.writer.finish(Runner(bench, opening).run())
    bench.writer.close()
    path = bench.writer.path
    command = ["--resume", str(path), "--quiet"]
    journal = (path / "journal.jsonl").read_bytes()
    assert report_due(path) and main(command) == 0 and not report_due(path)
    assert main(command) == 2 and "nothing is left to do" in capsys.readouterr().err
    if lost == "run.json":
        # Killed before the summary, and so before the report as well.
        (path / "report.html").unlink()
    for folder in (path, path.parent):
        (folder / lost).unlink(missing_ok=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    (path / f".report.md.{gone.pid}.partial").write_text("half, by a builder that was killed")
    assert main([*command, "--dry-run"]) == 0 and report_due(path)
    assert main(command) == 0
    assert not list(path.rglob(".*"))
    assert json.loads((path / "run.json").read_text())["status"] == "complete"
    assert (path / "report.html").is_file() and path.name in (path.parent / "index.html").read_text()
    assert (path / "journal.jsonl").read_bytes() == journal and not report_due(path)


def test_a_report_from_before_the_run_went_on_is_not_its_report(tmp_path):
    files = [tmp_path / "run" / "journal.jsonl", tmp_path / "run" / "report.html", tmp_path / "index.html"]
    files[0].parent.mkdir()
    for second, file in enumerate(files):
        file.touch()
        os.utime(file, (second, second))
    assert not report_due(files[0].parent)
    for stale in (1, 2):
        os.utime(files[stale], (-1, -1))
        assert report_due(files[0].parent)
        os.utime(files[stale], (stale, stale))
    assert not report_due(files[0].parent)


def test_a_run_whose_report_is_being_built_is_left_alone(lab, capsys):
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **TRAINING, "epochs": 0}))
    bench.writer.finish(Runner(bench, opening).run())
    assert main(["--resume", str(bench.writer.path), "--quiet"]) == 2
    assert "still going on" in capsys.readouterr().err
    bench.writer.close()
