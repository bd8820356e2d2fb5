"""What suite `why` measures apart: planted costs are found where they are, guesses get their verdicts, windows none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import scripted_backend

from harness.plan import Comparison
from harness.protocol import life, sampling, training
from harness.record.events import Apart, Case, Guess, Phases, RunStarted, Share, StartUp, Window
from harness.record.run import RecordedRun
from harness.suites.why import apart
from harness.suites.why.guesses import guesses
from reports import terminal
from reports.page.blocks import Table
from reports.suites.registry import chapters_of, whole

ARMS = {"arms": "scripted:slow,scripted", "blocks": 6, "pairs": 4, "steps": "3"}


@pytest.fixture
def why(lab, monkeypatch):
    """A run in which arm "slow" takes 150 ms a step and the other 100, and more where a test plants it."""

    def run(batch_ns=0, wait_ns=0, update_ns=0, **options):
        def spend(of, process, step, slow, fast):
            lab.clock.sleep((slow if "slow" in of else fast) / 1e9)

        lab.script(lambda of, process, step: 150e6 if "slow" in of else 100e6)
        monkeypatch.setattr(scripted_backend, "spend_batch", lambda *at: spend(*at, batch_ns, 0))
        monkeypatch.setattr(scripted_backend, "spend_wait", lambda *at: spend(*at, wait_ns, 0))
        parts = {**dict.fromkeys(scripted_backend.PHASES_NS, 1 / 4), "network": 0.9, "update": 0.1}
        monkeypatch.setattr(scripted_backend, "spend_phase", lambda *at: spend(
            *at[:3], 150e6 * parts[at[3]] + update_ns * (at[3] == "update"), 100e6 * parts[at[3]]))
        return lab.run(suite="why", **{**ARMS, **options})

    return run


def by_cause(run):
    return {share.cause: share for share in run.of(Share) if share.method == "apart"}


def by_guess(run):
    return {guess.guess: guess for guess in run.of(Guess)}


@pytest.mark.parametrize(("planted", "cause", "share"), [
    ({"batch_ns": 20e6}, "loader", 20 / 50), ({"wait_ns": 10e6}, "waiting", 10 / 60), ({}, None, 0)])
def test_a_planted_cost_is_found_and_nothing_else(why, planted, cause, share):
    end, run = why(**planted)
    assert (end.status, end.exit_code) == ("complete", 0)
    found = by_cause(run)
    assert found.keys() == {"loader", "waiting", "threads"}
    for name in ("loader", "waiting"):
        expected = share if name == cause else 0
        # A free-running window waits once, too.
        assert found[name].share == pytest.approx(expected, abs=0.05), name
        assert found[name].word == ("explains" if name == cause else "does-not-explain"), name
    assert (found["threads"].word, found["threads"].share) == ("not-measured", None)
    assert found["threads"].reason and found["threads"].next_action
    assert by_guess(run)["loader"].word == ("holds" if cause == "loader" else "does-not-hold")


def test_a_share_is_of_the_blocks_gap(why):
    """A machine that slows down while one arm is measured apart changes what a step takes there, not a share."""
    _, run = why(batch_ns=20e6)
    slower = [one.model_copy(update={"plain_ns": one.plain_ns * 2, "other_ns": one.other_ns + one.plain_ns})
              if isinstance(one, Apart) and one.arm == "A" else one for one in run.events]
    before, after = (apart.shares(replace(run, events=tuple(events)), Comparison("A", "B"), "why")
                     for events in (run.events, slower))
    assert before == after and before[0].share == pytest.approx(20 / 50, abs=0.01)
    assert before[0].blocks == apart.ROUNDS["loader"]


def test_each_guess_has_a_verdict_with_its_figure(why):
    _, run = why()
    found = by_guess(run)
    assert list(found) == ["loader", "compilation", "attention", "sampling"]
    assert {guess.slow for guess in run.of(Guess)} == {"A"}
    assert {name: guess.word for name, guess in found.items()} == {
        "loader": "does-not-hold", "compilation": "does-not-hold", "attention": "not-measured",
        "sampling": "does-not-hold"}
    assert found["loader"].reason.startswith("the native loader would add 0% [0%, 0%] of the gap to it")
    assert "waited for, a batch takes 1.5 [1.5, 1.5] times as long as in scripted" in found["sampling"].reason
    (start,) = run.of(StartUp)
    # 5 ms to launch, one step, nothing else: the starts differ by as much as two measured steps do.
    assert (start.a_ns, start.b_ns, start.steps, start.cold) == (155e6, 105e6, 1, False)
    assert "once, and the difference is 1 step of the gap" in found["compilation"].reason
    assert any(line.startswith("guess about scripted:slow beside scripted: sampling: does-not-hold: ")
               for line in terminal.lines(run))


def operator_share(method, value, word="explains"):
    return Share(part="why", arm_a="A", arm_b="B", method=method, cause="attention", a_ns=30e6, b_ns=5e6, share=value,
                 ci_low=value - 0.02, ci_high=value + 0.02, blocks=6, word=word,
                 own_word="explains" if word == "contested" else None)


@pytest.mark.parametrize(("known", "word", "said"), [
    ([("isolated", 0.47, "explains"), ("swapped", 0.46, "explains")], "holds",
     "it holds 47% [45%, 49%] of the gap; another implementation of it in the same framework closes 46% [44%, 48%]"),
    ([("isolated", 0.60, "contested"), ("swapped", 0.46, "contested")], "holds", "it holds 60% [58%, 62%] of the gap"),
    ([("swapped", 0.30, "explains"), ("swapped", -0.10, "works-against")], "holds", "closes 30% [28%, 32%]"),
    ([("isolated", 0.47, "explains")], "holds", "what another implementation closes was not measured"),
    ([("swapped", 0.01, "does-not-explain")], "does-not-hold", "closes 1% [-1%, 3%] of the gap"),
    ([("isolated", 0.62, "contested"), ("swapped", 0.46, "contested")], "holds", "it holds 62% [60%, 64%] of the gap"),
    ([("swapped", 0.46, "explains"), ("swapped", -0.3, "works-against")], "holds", "closes 46% [44%, 48%] of the gap"),
    ([("isolated", 0.47, "explains"), ("swapped", 0.01, "does-not-explain")], "inconclusive", "closes 1%")])
def test_attention_is_judged_by_what_operators_hold_and_swaps_close(known, word, said):
    start = RunStarted(run_id="r", suite="why", started_utc="2026-01-01T00:00:00+00:00", command=[], bench={},
                       arms=[], experiment={}, config_sha256="", declared={"parts": ["why"]})
    windows = [Window(kind="stepwise", arm=arm, block=0, pair=0, position=0, start_ns=0, end_ns=ns, steps=1,
                      step_ns=[ns]) for arm, ns in (("A", 150), ("B", 100))]
    shares = [operator_share(*one) for one in known]
    found = {one.guess: one for one in guesses(RecordedRun(Path("r"), (start, *windows)), Comparison("A", "B"), "why",
                                               shares)}
    assert found["attention"].word == word and said in found["attention"].reason
    assert {found[name].word for name in ("loader", "compilation", "sampling")} == {"not-measured"}


def test_the_page_says_what_to_mend_and_what_to_switch(why):
    _, run = why()
    swap = operator_share("swapped", 0.46).model_copy(update={"swap": "scripted:attention=own"})
    more = [operator_share("isolated", 0.47), swap]
    ((chapter, seen),) = chapters_of(whole(replace(run, events=(*run.events, *more))))
    texts = [block.text for block in next(iter(chapter.sections(seen, Sketch()))).blocks[:2]]
    assert texts == ["Fix first in scripted:slow: attention, 47 % [45, 49] of the gap to scripted (operators).",
                     "Switching scripted:slow to scripted:attention=own closes 46 % [44, 48] of the gap to scripted."]


def test_a_clock_that_does_not_wait_is_told(why, monkeypatch):
    """The slow arm samples lazily: asking takes nothing, and the work is done when somebody waits."""
    monkeypatch.setattr(scripted_backend.ScriptedSampler, "enqueue", lambda self, n, seed, steps: None)
    _, run = why()
    assert "a clock that does not wait shows 0.00% of its time" in by_guess(run)["sampling"].reason


def test_a_network_call_is_cut_as_a_step_is(why):
    _, run = why()
    found = {share.cause: share for share in run.of(Share) if share.of == "network call"}
    assert {cause: (share.word, round(share.share, 3)) for cause, share in found.items()} == {
        "network": ("explains", 0.9), "update": ("explains", 0.1), "all": ("adds-up", 1.0)}
    assert found["all"].a_ns == 150e6 and {share.blocks for share in found.values()} == {apart.CUT_ROUNDS}
    _, run = why(update_ns=10e6)
    found = {share.cause: share for share in run.of(Share) if share.of == "network call"}
    assert (found["update"].share, found["all"].word) == (pytest.approx(15 / 50), "does-not-add-up")
    assert [share.cause for share in run.of(Share) if (share.method, share.of) == ("cuts", "step")] == [
        "data", "forward", "backward", "optimizer", "all"]


def test_nothing_apart_happens_between_measured_windows(lab):
    said, seen = [], set()
    lab.sessions.spy = said.append
    _, run = lab.run(suite="why", **ARMS)
    assert {type(one) for one in said} >= {life.BuildSampler, sampling.SpringTrap, training.Epochs}
    for line in run.events:
        if isinstance(line, Apart):
            seen.add(line.block)
        if isinstance(line, Window) or (isinstance(line, Phases) and line.of == "step"):
            assert line.block not in seen, "a window after what is measured apart, in the same block"
    assert seen == {0}
    assert {(one.what, one.arm): one.round for one in run.of(Apart)} == {
        (what, arm): count - 1 for what, count in apart.ROUNDS.items() for arm in "AB"}


def test_an_arm_that_cannot_sample_loses_that_guess_alone(why, monkeypatch):
    def broken(self, *args, **more):
        raise RuntimeError("no images today")

    monkeypatch.setattr(scripted_backend.ScriptedSampler, "sample", broken)
    end, run = why()
    assert {case.case_id for case in run.of(Case) if case.status == "failed"} == {"sampling-A", "sampling-B"}
    assert by_guess(run)["sampling"].word == "not-measured" and by_guess(run)["loader"].word == "does-not-hold"
    assert by_cause(run)["loader"].word == by_cause(run)["waiting"].word == "does-not-explain"


def test_an_arm_without_a_sampler_or_phases_is_explained_without(why, monkeypatch):
    monkeypatch.delattr(scripted_backend.ScriptedBackend, "sampler")
    end, run = why(batch_ns=20e6, arms="scripted:slow+uncut,scripted:uncut")
    assert (end.status, end.exit_code) == ("complete", 0)
    assert {name: guess.word for name, guess in by_guess(run).items()} == {
        "loader": "holds", "compilation": "does-not-hold", "attention": "not-measured", "sampling": "not-measured"}
    assert by_cause(run)["waiting"].word == "does-not-explain"
    assert all(guess.reason for guess in run.of(Guess))


def test_equal_arms_have_no_guesses(lab):
    _, run = lab.run(suite="why", **{**ARMS, "arms": "scripted,scripted"})
    assert not run.of(Guess)
    assert {share.word for share in run.of(Share)} == {"no-gap", "not-measured"}


def test_a_gap_too_uneven_to_divide_up_still_has_guesses(lab, monkeypatch):
    # 150, 240, 130, ... ms a step against 100: slower in every block, by very different amounts.
    slow_ns = (150e6, 240e6, 130e6, 220e6, 140e6, 250e6)
    lab.script(lambda of, process, step: slow_ns[process // 2 % 6] if "slow" in of else 100e6)
    _, run = lab.run(suite="why", **ARMS)
    assert by_guess(run)["compilation"].word == "does-not-hold"
    assert {share.word for share in run.of(Share) if share.method == "cuts" and share.of == "step"} == {
        "inconclusive"}


def test_the_page_tells_the_guesses_first(why):
    _, run = why(batch_ns=20e6)
    ((chapter, seen),) = chapters_of(whole(run))
    found = {section.anchor: section for section in chapter.sections(seen, Sketch()) if section}
    assert list(found)[:5] == ["advice", "causes", "operators", "swaps", "apart"]
    first, table = found["advice"].blocks
    assert re.match(r"Fix first in scripted:slow: .+, 2[45] % \[.+\] of the gap to scripted \(phase\)\.", first.text)
    assert [row[1].text for row in table.rows] == ["holds", "does not hold", "not measured", "does not hold"]
    assert table.rows[0][0].text == "scripted:slow is slower because of its data loader"
    tables = [block for block in found["apart"].blocks if isinstance(block, Table)]
    assert [row[-2].text for row in tables[0].rows] == ["40 % [40, 40]", "0 % [0, 0]", "n/a"]
    assert [cell.text for cell in tables[1].rows[0][1:3]] == ["1.00", "1.13"]
    assert [row[0].text for row in tables[2].rows] == [
        "network call", "DDIM's update", "whole network call; the sum of the phases"]
    assert "A network call of scripted:slow takes 50.0 ms longer" in found["apart"].blocks[2].text


class Sketch:
    """Draws nothing."""

    def make(self, name, draw):
        from reports.page.blocks import Prose

        return Prose(name)
