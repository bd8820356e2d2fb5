"""`--time-limit` ends a run wherever it is: what is measured is kept, a report tells it, and `--resume` goes on."""

from __future__ import annotations

from collections import Counter

import pytest
from fake_tools import ARMS, FakeTools

from harness.options import BenchConfig
from harness.protocol import sampling, timing, training
from harness.record.events import BlockState, Epoch, Finding, ParityResult, Peak, Verdict, Window
from harness.record.run import finished_blocks, read_run, unfinished_blocks
from harness.record.writer import RunWriter
from harness.run.resume import resumption
from harness.run.runner import Runner
from harness.suites.sampling import batches
from reports.export.rows import tables
from reports.view.run import view

SHORT = {"arms": "scripted,scripted", "blocks": 6, "pairs": 4, "epochs": 0}
MS = 1_000_000


def limits(run):
    return [(finding.severity, finding.message) for finding in run.of(Finding) if finding.code == "time-limit"]


def over_when(lab, seen):
    """The limit is over as soon as `seen` says so of a command to a worker."""
    def spy(command):
        if seen(command):
            lab.late_s = 1e6

    lab.sessions.spy = spy


def windows_of(lab, process):
    """Counts the commands for one step that a process and later ones get: the first step, then windows."""
    count = iter(range(10**6))
    return lambda command: (len(lab.sessions.handles) >= process and isinstance(command, timing.Stepwise)
                            and command.steps == 1 and next(count))


def go_on(lab, path, **options):
    lab.sessions.spy, lab.late_s = lambda command: None, 0.0
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT, **options}), RunWriter(path))
    end = Runner(bench, lab.going_on(opening, read_run(path))).run()
    bench.writer.finish(end)
    bench.writer.close()
    return end, read_run(path)


def test_it_ends_a_block_between_two_pairs_and_the_run_goes_on(lab):
    """The windows of the unfinished block count for nothing, and are measured again."""
    third_block = windows_of(lab, process=2 + 3 * 2)
    over_when(lab, lambda command: third_block(command) == 3)
    end, run = lab.run(**SHORT, time_limit=100.0)
    assert (end.status, end.exit_code) == ("interrupted", 1)
    assert sorted(finished_blocks(run)) == [0, 1] and unfinished_blocks(run) == [2]
    cut = [(window.pair, window.position) for window in run.of(Window) if window.block == 2]
    assert cut == [(0, 0), (0, 1), (1, 0), (1, 1)], "the pair that was under way is whole"
    assert limits(run) == [("warning", "the time limit of 100 min ended the run in block 2")]
    assert all(handle.killed for handle in lab.sessions.handles)
    assert {verdict.blocks for verdict in run.of(Verdict)} == {2}

    end, run = go_on(lab, run.path, time_limit=50.0)
    assert (end.status, end.exit_code) == ("complete", 0)
    assert sorted(finished_blocks(run)) == list(range(6)) and not unfinished_blocks(run) and not limits(run)


def test_a_run_that_never_gets_through_a_pair_ends_in_its_first_block(lab):
    """Windows of minutes each, as on a machine at load 6: no second pair begins."""
    first_block = windows_of(lab, process=4)
    slow = []
    over_when(lab, lambda command: False)
    lab.sessions.spy = lambda command: first_block(command) == 2 and slow.append(1)
    lab.script(lambda options, process, step: 600e9 if slow else 100 * MS)
    end, run = lab.run(**SHORT, time_limit=5.0)
    assert {window.pair for window in run.of(Window)} == {0} and not run.of(BlockState)
    assert limits(run) == [("warning", "the time limit of 5 min ended the run in block 0")]
    assert end.status == "interrupted"
    (verdict, _) = run.of(Verdict)
    assert (verdict.word, verdict.reason) == ("inconclusive", "no block measured both arms")


def test_the_warm_up_and_the_parity_check_are_bounded(lab):
    lab.script(lambda options, process, step: 60e9)
    _, run = lab.run(**SHORT, time_limit=2.0)
    assert not run.of(ParityResult) and limits(run)[0][1].endswith("during the parity check")
    # The run before had one process; of this one's, the first two are the check's.
    lab.script(lambda options, process, step: 200e9 if process > 2 else 100 * MS)
    end, run = lab.run(**SHORT, time_limit=15.0)
    assert run.of(ParityResult) and not run.of(Window) and limits(run)[0][1].endswith("in the warm-up of block 0")
    assert end.status == "interrupted"


@pytest.mark.parametrize("last", [timing.ProveSync, training.Epochs])
def test_a_block_is_measured_again_where_only_what_is_measured_once_is_missing(lab, last):
    """Whose epochs would differ in length, were those of one arm kept."""
    over_when(lab, lambda command: isinstance(command, last))
    end, run = lab.run(**{**SHORT, "epochs": None, "time_limit": 100.0})
    assert end.status == "interrupted" and not finished_blocks(run) and len(run.of(Peak)) == 1
    assert limits(run) == [("warning", "the time limit of 100 min ended the run beside the blocks")]
    lab.script(lambda options, process, step: 800 * MS)
    end, run = go_on(lab, run.path, epochs=None)
    assert end.status == "complete" and {peak.arm for peak in run.of(Peak)} == {"A", "B"}
    assert {state.block for state in run.of(BlockState)} == set(range(6))
    epochs = sorted((epoch.arm, epoch.epoch) for epoch in run.of(Epoch))
    assert epochs == [("A", 0), ("A", 1), ("B", 0), ("B", 1)] and len({epoch.images for epoch in run.of(Epoch)}) == 1


def test_a_sweep_that_was_cut_short_is_whole_after_resume(lab, monkeypatch):
    monkeypatch.setattr(batches, "CELL_S", {"cpu": 4.0})
    monkeypatch.setattr("harness.suites.sampling.part.SWEEP", {"cpu": (1, 2, 4), "cuda": (1, 128)})
    options = {**SHORT, "suite": "sample-speed", "steps": "5", "pairs": 2}
    over_when(lab, lambda command: isinstance(command, sampling.Batch) and command.images == 2)
    end, run = lab.run(**{**options, "time_limit": 100.0})
    assert end.status == "interrupted" and {w.images for w in run.of(Window) if w.kind == "sweep"} == {1}
    end, run = go_on(lab, run.path, **options)
    swept = Counter((window.images, window.arm) for window in run.of(Window) if window.kind == "sweep")
    assert end.status == "complete" and set(swept) == {(size, arm) for size in (1, 2, 4) for arm in "AB"}
    assert set(swept.values()) == {batches.SWEEP_PAIRS}


def test_with_as_many_blocks_as_a_verdict_needs_the_run_is_complete(lab):
    """The seventh block takes longer than any before it."""
    unsure = lab.uneven(1.02)
    lab.script(lambda options, process, step: unsure(options, process, step) if process < 2 + 6 * 2 + 1 else 1e9)
    end, run = lab.run(**{**SHORT, "arms": "scripted,scripted:slow", "blocks": None, "pairs": 40, "time_limit": 3.0})
    assert len(finished_blocks(run)) >= 6 and unfinished_blocks(run)
    assert [severity for severity, _ in limits(run)] == ["info"]
    assert (end.status, end.exit_code) == ("complete", 0)
    advice = {finding.advice for finding in run.of(Finding) if finding.code == "time-limit"}
    assert advice == {"for a narrower interval start a new run with a longer --time-limit"}
    assert {window.block for window in run.of(Window)} - set(finished_blocks(run)) == {6}
    seen = view(run).arms[0]
    assert {window.block for window in seen.stepwise} == set(finished_blocks(run))
    assert seen.step_ns.max() < 1e9, "the slow half block is left out"
    assert {row.dirty for row in tables(run)["steps"] if row.block == 6} == {None}


def test_of_several_parts_the_one_whose_blocks_it_ended_is_named(lab, monkeypatch):
    """The first part has as many blocks as it needs, the second has no time left."""
    monkeypatch.setattr(batches, "CELL_S", {"cpu": 4.0})
    lab.tools = FakeTools()
    lab.script(lab.uneven(1.02))
    end, run = lab.run(suite="all", arms=ARMS, pairs=4, epochs=0, steps="5", num_images=6, train_steps="2",
                       time_limit=1.5)
    assert end.status == "interrupted"
    assert limits(run) == [("info", "the time limit of 1.5 min ended part training after 6 blocks"),
                           ("warning", "the time limit of 1.5 min ended the run in the warm-up of block 16")]


def test_the_limit_may_be_given_anew_when_a_run_goes_on(lab):
    _, run = lab.run(**{**SHORT, "time_limit": 0.01})
    words = ["--resume", str(run.path)]
    assert resumption(words).options.time_limit == 0.01
    assert resumption([*words, "--time-limit", "9"]).options.time_limit == 9
