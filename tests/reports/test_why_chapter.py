"""The chapter on causes, from recorded shares: its sentence, its card, its picture, its table, and what is missing."""

from pathlib import Path

import pytest
from test_report_partial import Sketches

from harness.record.events import ArmEntry, Kernels, Profiled, RunStarted, Share, Verdict
from harness.record.run import RecordedRun
from reports import terminal
from reports.page.blocks import Picture, Prose, Table
from reports.page.plotting import style_context
from reports.suites.registry import chapters_of, whole
from reports.suites.why import causes
from reports.suites.why.dots import dots

MS = 1e6
PHASES = {"data": (0.0, 0.0, 0.001, "does-not-explain"), "forward": (0.2, 0.15, 0.25, "explains"),
          "backward": (0.9, 0.85, 0.95, "explains"), "optimizer": (-0.1, -0.12, -0.08, "works-against")}


def share(cause, found, word, times=(200 * MS, 100 * MS), reason=None, turned=False):
    value, low, high = found or (None, None, None)
    a_ns, b_ns = reversed(times) if turned else times
    return Share(part="why", arm_a="A", arm_b="B", method="cuts", cause=cause, a_ns=a_ns, b_ns=b_ns, share=value,
                 ci_low=low, ci_high=high, blocks=6, word=word, reason=reason, next_action="wait" if reason else None)


def recorded(*events, word="B-faster"):
    start = RunStarted(run_id="r", suite="why", started_utc="2026-01-01T00:00:00+00:00", command=[], bench={},
                       arms=[ArmEntry(slot="A", name="slow"), ArmEntry(slot="B", name="fast")], experiment={},
                       config_sha256="", declared={"parts": ["why"]})
    verdict = Verdict(metric="step time", arm_a="A", arm_b="B", ratio=2.0, ci_low=1.9, ci_high=2.1, blocks=6, word=word,
                      kind="stepwise")
    return RecordedRun(Path("r"), (start, verdict, *events))


def told(run):
    ((chapter, seen),) = chapters_of(whole(run))
    section = next(one for one in chapter.sections(seen, Sketches()) if one and one.anchor == "causes")
    return section.blocks, list(chapter.cards(seen))[-1]


def full(turned=False):
    lines = [share(cause, found[:3], found[3], (100 * MS * max(found[0], 0) + 9 * MS, 9 * MS), turned=turned)
             for cause, found in PHASES.items()]
    return [*lines, share("all", (1.0, 0.99, 1.01), "adds-up", turned=turned)]


@pytest.mark.parametrize("turned", [False, True])
def test_the_largest_cause_comes_first_whichever_arm_is_slow(turned):
    (said, picture, dots, table), card = told(recorded(*full(turned)))
    slow, fast = ("fast", "slow") if turned else ("slow", "fast")
    assert isinstance(said, Prose) and said.text == (
        f"A step of {slow} takes 100 ms longer than one of {fast}. Of that: backward pass 90 % [85, 95], forward pass "
        "20 % [15, 25]; against it works optimiser (clipping, Adam, averaged weights) −10 % [−12, −8]. All phases "
        "together hold 100 % of the gap.")
    assert card.figure == "90 %" and card.tone == "decided" and card.word == "explains"
    assert card.sentence == f"Backward pass: 90 % [85, 95] of what {slow} takes longer than {fast}"
    assert card.facts == ("Then forward pass 20 % [15, 25].",)
    assert isinstance(picture, Picture) and "backward pass 90 %" in picture.alt
    assert isinstance(dots, Picture) and "backward pass 90 % cut out of the step; forward pass 20 % cut" in dots.alt
    assert isinstance(table, Table)
    assert [[cell.text for cell in row][-2:] for row in table.rows] == [
        ["0 % [0, 0.1]", "does not explain"], ["20 % [15, 25]", "explains"], ["90 % [85, 95]", "explains"],
        ["−10 % [−12, −8]", "works against"], ["100 % [99, 101]", "adds up"]]
    assert [row[1].text for row in table.rows][-1] == "200 ms"


def test_an_open_verdict_leaves_the_causes_a_description():
    _, card = told(recorded(*full(), word="inconclusive"))
    assert card.tone == "open" and card.facts[-1].startswith("The verdict on the gap itself is open")


@pytest.mark.parametrize(("word", "figure", "start"), [
    ("no-gap", "=", "There is no clear gap to explain between slow and fast"),
    ("inconclusive", "?", "Not known well enough to say why: the gap between slow and fast"),
    ("not-measured", "?", "The gap was not cut between slow and fast")])
def test_without_shares_the_reason_is_told(word, figure, start):
    line = share("all", None, word, reason="too little of it")
    blocks, card = told(recorded(line))
    assert (card.figure, card.sentence, card.facts) == (figure, start, ("too little of it.",))
    assert [block.text for block in blocks] == [f"slow and fast: {word.replace('-', ' ')}, too little of it."]
    assert terminal.lines(recorded(line))[1] == f"why: all phases of slow and fast: {word}: too little of it"


def test_the_terminal_has_a_line_for_each_phase():
    lines = terminal.lines(recorded(*full()))
    assert lines[3] == "why: backward: 90% [85%, 95%] of the gap between slow and fast [explains]"
    assert [line.partition(":")[0] for line in lines[6:]] == ["slow", "fast", "findings"]


def swap(cause, to, found, word, saves=50 * MS, reason=None):
    value, low, high = found or (None, None, None)
    return Share(part="why", arm_a="A", arm_b="B", method="swapped", cause=cause, swap=to, share=value, ci_low=low,
                 a_ns=saves if found else None, b_ns=None, ci_high=high, blocks=6, word=word, reason=reason)


def test_what_to_switch_is_told_the_largest_first():
    lines = [swap("optimizer", "slow:optimiser=own", (0.1, 0.08, 0.12), "contested", 10 * MS, "other methods find 30%"),
             swap("attention", "slow:attention=own", (0.5, 0.45, 0.55), "explains"),
             swap("norm", "slow:norm=own", (-0.1, -0.2, -0.05), "works-against", -10 * MS),
             swap("conv", "slow:conv=own", None, "not-measured", reason="no compiler"),
             swap("all", "slow:attention=own+norm=own", (0.4, 0.3, 0.5), "adds-up")]
    ((chapter, seen),) = chapters_of(whole(recorded(*full(), *lines)))
    found = {one.anchor: one for one in chapter.sections(seen, Sketches()) if one}
    assert [block.text for block in found["advice"].blocks if isinstance(block, Prose)][1:] == [
        "Switching slow to slow:attention=own closes 50 % [45, 55] of the gap to fast.",
        "Switching slow to slow:optimiser=own closes 10 % [8, 12] of the gap to fast."]
    (table,) = found["swaps"].blocks
    assert [[row[0].note, *(cell.text for cell in row)] for row in table.rows] == [
        ["slow:optimiser=own", "optimiser (clipping, Adam, averaged weights)", "10.0 ms", "10 % [8, 12]", "contested"],
        ["slow:attention=own", "attention", "50.0 ms", "50 % [45, 55]", "explains"],
        ["slow:norm=own", "norm", "−10.0 ms", "−10 % [−20, −5]", "works against"],
        ["slow:conv=own", "conv", "n/a", "n/a", "not measured"],
        ["slow:attention=own+norm=own", "all at once", "50.0 ms", "40 % [30, 50]", "adds up"]]
    assert table.rows[3][2].note == "no compiler" and any("A swap replaces" in text for text in chapter.method(seen))


def first_to_mend(*lines):
    ((chapter, seen),) = chapters_of(whole(recorded(*lines)))
    section = next(one for one in chapter.sections(seen, Sketches()) if one and one.anchor == "advice")
    return section.blocks[0].text


def alone(cause, value, word="explains", own_word=None):
    line = share(cause, (value, value - 0.02, value + 0.02), word)
    return line.model_copy(update={"method": "isolated", "own_word": own_word})


def phases(optimizer):
    return [share("backward", (0.6, 0.55, 0.65), "explains"),
            share("optimizer", (optimizer, optimizer - 0.02, optimizer + 0.02), "explains"),
            share("all", (1.0, 0.99, 1.01), "adds-up")]


def test_a_contested_cause_is_still_the_first_to_mend_and_says_so():
    lines = [alone("attention", 0.6, "contested", "explains"), alone("norm", 0.1), alone("all", 1.2, "does-not-add-up")]
    assert first_to_mend(*phases(0.3), *lines) == (
        "Fix first in slow: attention, 60 % [58, 62] of the gap to fast (operators; contested; rough, since all "
        "together do not add up).")
    cuts = [line if line.cause != "backward" else line.model_copy(update={"word": "contested", "own_word": "explains"})
            for line in phases(0.3)]
    (said, *_), card = told(recorded(*cuts))
    assert "Of that: backward pass 60 % [55, 65] (contested), optimiser" in said.text and card.figure == "60 %"


def test_an_optimiser_that_holds_more_than_any_operator_is_mended_first():
    assert first_to_mend(*phases(0.4), alone("attention", 0.3)).startswith("Fix first in slow: optimiser (clipping")
    assert first_to_mend(*phases(0.2), alone("attention", 0.3)).startswith("Fix first in slow: attention, 30 %")
    assert first_to_mend(*phases(0.2)).startswith("Fix first in slow: backward pass, 60 %")


def test_every_method_has_its_dot_in_the_row_of_a_class():
    lines = [alone("attention", 0.6, "contested", "explains"),
             swap("attention", "slow:a=x", (0.5, 0.4, 3.0), "explains"),
             swap("attention", "slow:a=y", (-0.2, -0.3, -0.1), "works-against"), alone("all", 1.2),
             swap("all", "slow:a=x+b=x", (0.7, 0.6, 0.8), "adds-up")]
    (_, _, dots, _), _ = told(recorded(*phases(0.3), *lines))
    assert dots.alt == ("Shares of the gap between slow and fast, by class and method: attention 60 % operators alone, "
                        "50 % closed by a swap; optimiser 30 % cut out of the step.")
    assert "Intervals go on beyond" in dots.caption


@pytest.mark.parametrize(("found", "end"), [
    ((1.36, 1.1, 1.5), "closes 136 % [110, 150] of the gap to fast: more than all of it, fast is then the slower one."),
    ((1.36, 0.9, 1.5), "closes 136 % [90, 150] of the gap to fast: about all of it, or more."),
    ((0.9, 0.8, 1.2), "closes 90 % [80, 120] of the gap to fast.")])
def test_more_than_the_whole_gap_is_explained(found, end):
    ((chapter, seen),) = chapters_of(whole(recorded(*full(), swap("norm", "slow:norm=own", found, "explains"))))
    section = next(one for one in chapter.sections(seen, Sketches()) if one and one.anchor == "advice")
    assert section.blocks[-1].text.endswith(end)


def test_a_share_beyond_the_picture_keeps_its_dot():
    seen = whole(recorded(*full(), swap("norm", "slow:norm=own", (2.6, 2.2, 3.0), "explains")))
    with style_context():
        drawn = dots(seen, causes.told(seen)[0], narrow=False)
    low, high = drawn.figure.axes[0].get_xlim()
    assert -30 < low < -12 and 260 < high < 280
    assert drawn.caption.endswith("Intervals go on beyond 260 %.")


def profiled(arm, **told):
    return Profiled(**{"part": "why", "arm": arm, "block": 0, "tool": "p", "steps": 3, "longest": [],
                       "phase_ns": {"data": 1 * MS, "forward": 100 * MS}, "by_class": [kernels("forward", 30 * MS)],
                       **told})


def kernels(phase, ns, count=6):
    return Kernels(name="", phase=phase, operator_class=None, count=count, ns=ns)


@pytest.mark.parametrize(("told", "shown", "why"), [
    ({}, ["10.0 ms", "91.0 ms", "2", "45.5 ms"], None),
    ({"phase_ns": {"forward": 5 * MS}}, ["10.0 ms", "0", "2", "n/a"], "nothing is left to the host"),
    ({"phase_ns": {"data": 0.0, "forward": 100 * MS}}, ["10.0 ms", "90.0 ms", "2", "45.0 ms"], None),
    ({"phase_ns": {"data": 0.0}, "by_class": [kernels("data", 30 * MS)]}, ["10.0 ms", "0", "2", "n/a"],
     "nothing is left to the host"),
    ({"by_class": [], "longest": [kernels("data", 0.0)]}, ["0 ns", "101 ms", "0", "n/a"], "no kernel was seen"),
    ({"steps": 0, "longest": [kernels("data", 1.0)]}, ["n/a"] * 4, "its steps are not cut into phases")])
def test_kernels_and_host_of_any_profile_are_told(told, shown, why):
    ((chapter, seen),) = chapters_of(whole(recorded(*full(), profiled("A", **told), profiled("B"))))
    section = next(one for one in chapter.sections(seen, Sketches()) if one and one.anchor == "kernels")
    arms = section.blocks[0]
    assert [cell.text for cell in arms.rows[0][1:5]] == shown and arms.rows[0][4].note == why


def test_the_waterfall_splits_a_bar_where_both_profilers_tell_of_the_phase():
    fast = profiled("B", phase_ns={"data": 2 * MS, "forward": 60 * MS}, by_class=[kernels("forward", 15 * MS)])
    (_, picture, *_), _ = told(recorded(*full(), profiled("A"), fast))
    # Of 40 ms that the forward pass takes longer there, kernels take 10 - 5.
    assert "forward pass 20 % (kernels 12 % of it); backward pass 90 %;" in picture.alt
    assert "Hatched: the part of that which was the host's" in picture.caption
    (_, plain, *_), _ = told(recorded(*full(), profiled("A")))
    assert "of it)" not in plain.alt and "Hatched" not in plain.caption


def test_what_of_no_gap_is_kernels_is_not_said():
    line = share("all", None, "not-measured", reason="fewer than two blocks", times=(1 * MS, 1 * MS))
    ((chapter, seen),) = chapters_of(whole(recorded(line, profiled("A"), profiled("B"))))
    section = next(one for one in chapter.sections(seen, Sketches()) if one and one.anchor == "kernels")
    assert not [block for block in section.blocks if isinstance(block, Prose)]
