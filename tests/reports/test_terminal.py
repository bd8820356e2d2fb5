"""What a run says in lines: the page's numbers, arms told apart, nothing that steers a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
from test_report_partial import Sketches

from harness.record.events import Verdict
from harness.record.run import read_run
from harness.record.summary import Decided, read_summary
from reports import index, terminal
from reports.report import report_of
from reports.text import with_interval


def test_a_ratio_is_rounded_as_on_the_page(tmp_path: Path) -> None:
    run = read_run(synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=3, pairs=3)))
    verdict = run.of(Verdict)[0]
    ratio = with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high)
    assert f"= {ratio}, 3 blocks" in terminal.lines(run)[0]
    tables = [block for one in report_of(run, Sketches()).sections for block in one.blocks if block.kind == "table"]
    assert any(ratio in value.text for table in tables for row in table.rows for value in row)


def test_hostile_names_steer_no_terminal(tmp_path: Path) -> None:
    names = ("\x1b[31mred\nnew line", "jittor")
    run = read_run(synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=2, pairs=2, arms=names)))
    told = terminal.lines(run)
    assert told and all(line.isprintable() for line in told)
    assert "red new line" in told[0]


@pytest.mark.parametrize(("word", "said"), [
    ("B-faster", "x (B) is 1.50 times as fast as x (A){}"), ("not-comparable", "x (A) and x (B) cannot be compared{}"),
    ("equivalent", "x (A) and x (B) take the same time{}, within the declared margin"),
    ("inconclusive", "x (A) and x (B), the same arm twice, cannot be told apart{}")])
def test_the_index_tells_an_arm_from_itself(word: str, said: str) -> None:
    one = Decided(metric="step time", arm_a="x", arm_b="x", ratio=1.5, ci_low=1.4, ci_high=1.6, blocks=1, word=word)
    assert index.verdict_lines([one]) == (
        f"{said.format(' in step time')} [{word}]: time x (A) / time x (B) = 1.50 [1.40, 1.60], 1 block",)
    cell = one.model_copy(update={"cell": "ddim-10"})
    assert index.verdict_lines([cell]) == (
        f"step time by cell, time x (A) / time x (B): ddim-10: {said.format('')} [{word}], 1.500",)


def test_terminal_index_and_card_say_the_same_sentence(tmp_path: Path) -> None:
    run = read_run(synthetic.write_run(tmp_path / "run", synthetic.Scenario(blocks=3, pairs=3)))
    (line,) = index.verdict_lines(read_summary(run.path).verdicts)
    card, _, _ = report_of(run, Sketches()).verdicts[0].sentence.partition(" per training step")
    assert "times as fast as" in card and line.startswith(f"{card} in step time [A-faster]: time ")
    assert terminal.lines(run)[0].startswith(line)


def test_a_forged_verdict_is_shown_as_far_as_it_is_one() -> None:
    assert index.verdict_lines([Decided()]) == ("n/a (A) against n/a (B) in n/a: n/a, no ratio recorded [n/a]",)
