"""Suite `why` with a scripted backend: planted causes are found, equal arms have no gap, what is missing is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scripted_backend

from harness.record.events import BlockState, Phases, Share, StartUp, Window
from harness.suites.why import shares
from harness.suites.why.shares import ALL

PHASES_NS = scripted_backend.PHASES_NS


@pytest.fixture
def why(lab, monkeypatch):
    """A run in which arm "slow" takes longer in some phases, with 2 % noise on phases and 0.2 % on processes."""

    def run(planted, seed=0, cut_costs=0.0, **options):
        rng = np.random.default_rng(seed)
        level = {}

        def phase_ns(of, process, step, phase):
            level.setdefault(process, rng.normal(0, 0.002))
            extra = planted.get(phase, 0) if "slow" in of else 0
            own = (PHASES_NS | scripted_backend.CALL_NS)[phase] + extra
            return own * np.exp(level[process] + rng.normal(0, 0.02))

        def spend_phase(of, process, step, phase):
            lab.clock.sleep((phase_ns(of, process, step, phase) + cut_costs * ("slow" in of)) / 1e9)

        monkeypatch.setattr(scripted_backend, "spend_phase", spend_phase)
        lab.script(lambda of, process, step: sum(phase_ns(of, process, step, phase) for phase in PHASES_NS))
        asked = {"arms": "scripted:slow,scripted", "blocks": 6, "pairs": 4, "steps": "3", **options}
        return lab.run(suite="why", **asked)

    return run


def by_cause(run):
    return {share.cause: share for share in cut(run)}


def cut(run):
    return [share for share in run.of(Share) if (share.method, share.of) == ("cuts", "step")]


CASES = [({phase: ms * 1e6}, seed) for seed, (phase, ms) in enumerate(
    (phase, ms) for phase in PHASES_NS for ms in (15, 25, 40, 60, 120))]


@pytest.mark.parametrize(("planted", "seed"), CASES)
def test_a_planted_cause_is_found_and_nothing_else(why, planted, seed):
    end, run = why(planted, seed)
    assert end.exit_code == 0
    found, (cause,) = by_cause(run), planted
    assert found.keys() == {*PHASES_NS, ALL}
    assert found[cause].word == "explains" and found[cause].share == pytest.approx(1, abs=0.05)
    assert not [share for name, share in found.items() if name not in (cause, ALL) and share.word == "explains"]
    assert all(abs(share.share) <= 0.05 for name, share in found.items() if name not in (cause, ALL))
    assert found[ALL].word in ("adds-up", "inconclusive") and found[ALL].share == pytest.approx(1, abs=0.05)


def test_two_causes_share_the_gap_and_one_works_against_it(why):
    _, run = why({"forward": 30e6, "backward": 40e6, "optimizer": -10e6})
    found = by_cause(run)
    for cause, share in (("forward", 0.5), ("backward", 40 / 60), ("optimizer", -10 / 60), ("data", 0), (ALL, 1)):
        assert found[cause].share == pytest.approx(share, abs=0.05), cause
    assert [found[cause].word for cause in PHASES_NS] == [
        "does-not-explain", "explains", "explains", "works-against"]


@pytest.mark.parametrize(("steady", "blocks"), [(True, 4), (False, 6)])
def test_a_look_also_asks_whether_the_gap_can_be_divided_up(why, monkeypatch, steady, blocks):
    """Verdicts are sure after four blocks; a gap that is not known well enough gets the other two."""
    if not steady:
        of = shares.whole_steps

        def uneven(run, pair):
            steps = of(run, pair)
            return steps._replace(a_ns=[ns * (1 + 0.3 * (-1) ** block) for block, ns in enumerate(steps.a_ns)])

        monkeypatch.setattr(shares, "whole_steps", uneven)
    _, run = why({"backward": 100e6}, blocks=None)
    assert len(run.of(BlockState)) == blocks


@pytest.mark.parametrize("seed", range(20))
def test_equal_arms_have_no_gap_to_explain(why, seed):
    end, run = why({}, seed)
    (share,) = cut(run)
    assert end.exit_code == 0 and (share.cause, share.word) == (ALL, "no-gap")
    assert share.share is None and share.reason and share.next_action
    # A start may cost more; no number of steps makes up for it.
    assert [one.steps for one in run.of(StartUp)] == [None]


def test_whole_steps_of_the_measured_windows_count_too(why):
    """A block in which steps beside the cut ones were slow by chance has others to be held against."""
    _, run = why({"backward": 60e6})
    few = replace(run, events=tuple(line for line in run.events if not isinstance(line, Window)))
    slow = replace(run, events=tuple(line.model_copy(update={"step_ns": [2 * ns for ns in line.step_ns]})
                                     if isinstance(line, Window) and line.kind == "stepwise" else line
                                     for line in run.events))
    (usual, own, more) = (shares.cuts(one, "A")[0].whole_ns for one in (run, few, slow))
    assert own == pytest.approx(usual, rel=0.02) and more > 1.1 * usual


def test_a_cut_that_changes_the_step_is_told(why):
    """Waiting for every phase costs the slow arm 5 ms each: its phases hold 20 ms more than the gap of 60 ms."""
    _, run = why({"backward": 60e6}, cut_costs=5e6)
    whole = by_cause(run)[ALL]
    assert whole.word == "does-not-add-up" and whole.share == pytest.approx(80 / 60, abs=0.05)
    assert "the phases hold 13" in whole.reason and "+12." in whole.reason


def test_an_arm_that_cannot_be_cut_is_compared_all_the_same(why):
    end, run = why({"forward": 60e6}, arms="scripted:slow,scripted:uncut")
    (share,) = cut(run)
    assert end.exit_code == 0 and share.word == "not-measured"
    assert share.reason == "scripted:uncut cannot be cut" and share.a_ns == pytest.approx(160e6, rel=0.05)
    assert {line.arm: bool(line.phase_ns) for line in run.of(Phases) if line.of == "step"} == {"A": True, "B": False}


def test_arms_that_compute_something_else_are_not_explained(why):
    end, run = why({"forward": 60e6}, arms="scripted:slow,scripted:wrong")
    (share,) = cut(run)
    assert end.exit_code == 1 and share.word == "not-measured" and share.reason.startswith("parity: ")



def test_a_self_check_has_no_gap_beside_one_that_is_explained(why):
    end, run = why({"forward": 60e6}, selfcheck=True)
    words = {(share.arm_a, share.arm_b, share.cause): share.word for share in cut(run)}
    assert end.exit_code == 0 and words["A", "B", "forward"] == "explains"
    assert {word for (a, b, _), word in words.items() if (a, b) != ("A", "B")} == {"no-gap"}
