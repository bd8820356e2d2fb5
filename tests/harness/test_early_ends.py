"""Planned looks in whole runs: a sure verdict ends the blocks, another goes on, and every reader sees at which look."""

from __future__ import annotations

import pytest
from test_dirty_blocks import heat
from test_recovery import resume
from test_resumed_journal import interrupted
from test_time_limit import over_when, windows_of

from harness.options import BenchConfig
from harness.record.events import BlockState, Verdict
from harness.record.summary import summary
from reports import index, terminal
from reports.export.rows import tables
from reports.suites.registry import chapters_of, whole

MS = 1e6
RUN = {"arms": "scripted,scripted:slow", "pairs": 4, "epochs": 0}


def blocks(run):
    return [state.block for state in run.of(BlockState)]


def test_a_clear_gap_ends_the_blocks_at_the_first_look(lab):
    lab.script(lambda options, process, step: (200 if "slow" in options else 100) * (1 + process % 3 / 500) * MS)
    end, run = lab.run(**RUN)
    assert end.status == "complete" and blocks(run) == [0, 1, 2]
    assert run.started.declared["looks"] == [3, 5, 8, 12]
    verdict = run.of(Verdict)[0]
    assert (verdict.word, verdict.look, verdict.looks, verdict.alpha) == ("A-faster", 1, 4, pytest.approx(0.0015))
    assert "3 blocks (99.85 % interval (look 1 of 4))" in terminal.lines(run)[0]
    ((chapter, seen),) = chapters_of(whole(run))
    assert "99.85 % interval (look 1 of 4) over 3 blocks" in repr(chapter.cards(seen)[0])
    said = lab.stream.getvalue()
    assert "look 1 of 4, after 3 blocks: every comparison is decided" in said and "the 3 blocks that are needed" in said


def test_a_run_that_time_ends_between_two_looks_says_so_wherever_its_level_stands(lab):
    lab.script(lab.uneven(1.02))
    fifth_block = windows_of(lab, process=2 + 5 * 2)
    over_when(lab, lambda command: fifth_block(command) == 1)
    end, run = lab.run(**RUN, time_limit=100.0)
    verdict = run.of(Verdict)[0]
    assert end.status == "interrupted" and blocks(run) == [0, 1, 2, 3]
    assert (verdict.look, verdict.looks, verdict.look_reached) == (2, 4, False)
    # What the first look has spent is gone.
    assert verdict.alpha == pytest.approx(0.05 - 0.0015)
    for line in (terminal.lines(run)[0], index.verdict_lines(summary(run).verdicts)[0]):
        assert "95.15 % interval (ended before look 2 of 4)" in line
    row = tables(run)["verdicts"][0]
    assert (row.alpha, row.look, row.looks, row.look_alpha, row.look_reached) == (
        verdict.alpha, 2, 4, verdict.look_alpha, False)


def test_an_unsure_one_goes_on_to_the_last_look_and_has_spent_what_it_says(lab):
    lab.script(lab.uneven(1.02))
    _, run = lab.run(**RUN)
    verdict = run.of(Verdict)[0]
    assert blocks(run) == list(range(12))
    assert (verdict.look, verdict.alpha) == (4, pytest.approx(0.045))
    assert "look 3 of 4, after 8 blocks: not yet sure; the next one is after 12" in lab.stream.getvalue()


def test_a_sure_look_repeats_no_disturbed_block_and_the_user_s_number_of_blocks_is_kept(lab):
    lab.script(lambda options, process, step: (200 if "slow" in options else 100) * MS)
    heat(lab, 1)
    _, run = lab.run(**RUN)
    assert blocks(run) == [0, 1, 2] and [state.dirty for state in run.of(BlockState)] == [False, True, False]
    _, run = lab.run(**{**RUN, "blocks": 7})
    verdict = run.of(Verdict)[0]
    assert blocks(run) == list(range(7)) and run.started.declared["looks"] == 1
    assert (verdict.look, verdict.alpha) == (None, 0.05)


def test_of_three_arms_every_comparison_must_be_decided(lab):
    """The second against the first is clear, the third as the first but for its noise."""
    lab.script(lab.uneven(3.0))
    _, run = lab.run(**{**RUN, "arms": "scripted,scripted:slow,scripted"})
    clear, unsure = run.of(Verdict)[:2]
    assert len(blocks(run)) > 3 and clear.word == "A-faster" and clear.look == unsure.look == 4
    ((chapter, seen),) = chapters_of(whole(run))
    assert "97.75 % interval (Holm, several comparisons; look 4 of 4)" in repr(chapter.cards(seen)[0])
    assert clear.alpha == pytest.approx(0.0225) and unsure.look_alpha == pytest.approx(0.045)


def test_an_arm_that_fails_for_good_holds_up_nobody(lab):
    lab.script(lambda options, process, step: (200 if "slow" in options else 100) * (1 + process % 3 / 500) * MS)
    _, run = lab.run(**{**RUN, "arms": "scripted,scripted:slow,scripted:raise"})
    assert blocks(run) == [0, 1, 2]
    decided, failed = run.of(Verdict)[:2]
    # At the level that the look spends, of which the other comparison has kept its share.
    assert (decided.word, decided.look, decided.look_alpha) == ("A-faster", 1, pytest.approx(0.0015))
    assert decided.alpha == pytest.approx(0.00075) and failed.word == "inconclusive"


def test_where_no_comparison_is_left_the_first_look_ends_the_run_and_decides_nothing(lab):
    _, run = lab.run(**{**RUN, "arms": "scripted,scripted:raise"})
    assert blocks(run) == [0, 1, 2] and run.of(Verdict)[0].word == "inconclusive"
    said = lab.stream.getvalue()
    assert "look 1 of 4, after 3 blocks: of every comparison an arm has failed for good" in said
    assert "is decided" not in said


@pytest.mark.parametrize(("ratio", "had", "measured"), [(3.0, 2, 3), (3.0, 3, 3), (1.02, 4, 12)])
def test_a_run_that_goes_on_looks_when_the_whole_run_would(lab, ratio, had, measured):
    lab.script(lab.uneven(ratio))
    path, _ = interrupted(lab, BlockState, had, RUN)
    end, before, after = resume(lab, BenchConfig(**{"device": "cpu", "preset": "tiny", **RUN}), path)
    assert end.status == "complete" and len(blocks(before)) == had and len(blocks(after)) == measured
