"""Operators alone on the page: the sentence, the rates against the machine's best, the roofline, what is missing."""

from __future__ import annotations

import pytest
from test_report_partial import Sketches
from test_why_chapter import MS, recorded

from harness.record.events import IsolatedOperator, Peak, Share
from reports.page.blocks import Picture, Prose, Table
from reports.suites.registry import chapters_of, whole
from reports.text import NA

FOUND = {"attention": (0.5, 0.45, 0.55, "explains", 60, 10),
         "convolution": (0.0, -0.02, 0.02, "does-not-explain", 40, 40),
         "norm": (-0.1, -0.12, -0.08, "works-against", 10, 20)}


def share(cause, found, word, times, reason=None):
    value, low, high = found or (None, None, None)
    return Share(part="why", arm_a="A", arm_b="B", method="isolated", cause=cause, a_ns=times[0] * MS,
                 b_ns=times[1] * MS, share=value, ci_low=low, ci_high=high, blocks=5, word=word, reason=reason)


def operator(arm, kind, ms, count=2, flop=10**9, size=10**8):
    return IsolatedOperator(part="why", arm=arm, operator=kind, operator_class=kind, kind=kind, inputs=[[1]],
                            output=[1], count=count, flop=flop, bytes=size, round_ns=[ms * MS / max(count, 1)] * 5)


def run():
    lines = [operator(arm, kind, FOUND[kind][4 + place], flop=10**8 if kind == "norm" else 10**9)
             for kind in FOUND for place, arm in enumerate("AB")]
    lines += [operator(arm, "copy", ms, count=0) for arm, ms in (("A", 10), ("B", 5))]
    peaks = [Peak(arm="B", matmul_n=1024, flops=100e9, part="why")]
    shares = [share(kind, found[:3], found[3], found[4:]) for kind, found in FOUND.items()]
    return recorded(*lines, *peaks, *shares, share("all", (0.4, 0.35, 0.45), "adds-up", (110, 70), "alone they do"))


def blocks(of):
    ((chapter, seen),) = chapters_of(whole(of))
    return next(one for one in chapter.sections(seen, Sketches()) if one and one.anchor == "operators").blocks


def test_a_class_has_its_share_and_its_rate_against_the_best_of_the_machine():
    said, table, picture = blocks(run())
    assert isinstance(said, Prose) and said.text == (
        "Of what a step of slow takes longer than one of fast, the network's operators hold 40 % [35, 45] when each "
        "runs alone: attention (products and softmax) 50 % [45, 55]; against it works GroupNorm and SiLU −10 % "
        "[−12, −8]. Adds up: alone they do.")
    assert isinstance(table, Table) and isinstance(picture, Picture)
    rows = {row[0].text: row for row in table.rows}
    attention = rows["attention (products and softmax)"]
    assert [cell.text for cell in attention[1:6]] == ["60.0 ms", "10.0 ms", "6.00", "55 %", "50 % [45, 55]"]
    assert attention[1].note == "33.3 GFLOP/s, 33 % of the best product"
    assert rows["GroupNorm and SiLU"][2].note == "10.0 GB/s, 50 % of the best sum of arrays"
    assert "attention 33.3" in picture.alt and "100 GFLOP/s" in picture.alt and "20.0 GB/s" in picture.alt


@pytest.mark.parametrize("word", ["not-measured", "no-gap"])
def test_without_shares_the_reason_is_told(word):
    line = Share(part="why", arm_a="A", arm_b="B", method="isolated", cause="all", a_ns=None, b_ns=None, share=None,
                 ci_low=None, ci_high=None, blocks=0, word=word, reason="fast cannot run an operator alone")
    (said,) = blocks(recorded(line))
    assert said.text == f"slow and fast: operators alone: {word.replace('-', ' ')}, fast cannot run an operator alone."


def test_without_a_gap_the_times_are_shown_all_the_same():
    line = Share(part="why", arm_a="A", arm_b="B", method="isolated", cause="all", a_ns=110 * MS, b_ns=105 * MS,
                 share=None, ci_low=None, ci_high=None, blocks=5, word="no-gap", reason="too small")
    timed = [one for one in run().of(IsolatedOperator) if (one.arm, one.operator_class) != ("A", "norm")]
    said, table, picture = blocks(recorded(*timed, *run().of(Peak), line))
    assert said.text == "slow and fast: operators alone: no gap, too small." and isinstance(picture, Picture)
    assert isinstance(table, Table) and [value.text for value in table.head] == ["class", "slow", "fast", "ratio"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["attention (products and softmax)"] == ["60.0 ms", "10.0 ms", "6.00"]
    assert rows["GroupNorm and SiLU"][0] == NA and rows["GroupNorm and SiLU"][1] == "20.0 ms"


def test_the_slower_arm_is_that_of_the_steps_also_where_its_operators_take_less():
    lines = [share("norm", (-0.2, -0.22, -0.18), "works-against", (10, 30)),
             share("all", (-0.2, -0.22, -0.18), "does-not-add-up", (10, 30), "alone they do not")]
    steps = share("all", (1.0, 0.99, 1.01), "adds-up", (200, 100)).model_copy(update={"method": "cuts"})
    said, table, _ = blocks(recorded(*lines, steps))
    assert said.text.startswith("Of what a step of slow takes longer than one of fast, ")
    assert "operators hold −20 % [−22, −18] when" in said.text
    assert table.rows[0][1].text == "10.0 ms"
