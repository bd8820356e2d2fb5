"""Operators alone with a scripted backend: a planted class is found, the sum is held against the step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scripted_backend

from harness.plan import Comparison
from harness.record.events import Case, IsolatedOperator, Phases, Share
from harness.suites.why import operators
from harness.suites.why.isolated import CLASSES, shares
from harness.suites.why.operators import MOST_ROUNDS, ROUNDS
from harness.suites.why.shares import ALL
from impls.recipe.config import preset
from impls.recipe.isolated import COPY, isolated

PHASES_NS = scripted_backend.PHASES_NS
COUNTS = {kind: sum(len(one.names) for one in isolated(preset("tiny").model) if one.spec.operator_class == kind)
          for kind in CLASSES}
NETWORK_NS = PHASES_NS["forward"] + PHASES_NS["backward"]


@pytest.fixture
def why(lab, monkeypatch):
    """A run whose operators take together what forward and backward pass take, and more of one class in arm "slow"."""

    def run(planted, seed=0, hidden_ns=0.0, arms="scripted:slow,scripted"):
        rng = np.random.default_rng(seed)

        def extra(of, phase):
            return (sum(planted.values()) + hidden_ns) if "slow" in of and phase == "backward" else 0

        def phase_ns(of, process, step, phase):
            return ((PHASES_NS | scripted_backend.CALL_NS)[phase] + extra(of, phase)) * np.exp(rng.normal(0, 0.01))

        def operator_ns(of, spec):
            kind = spec.operator_class
            own = NETWORK_NS / len(CLASSES) + (planted.get(kind, 0) if "slow" in of else 0)
            return own / COUNTS[kind] * np.exp(rng.normal(0, 0.02))

        monkeypatch.setattr(scripted_backend, "run_operator", lambda of, process, spec, times: lab.clock.sleep(
            times * operator_ns(of, spec) / 1e9))
        monkeypatch.setattr(scripted_backend, "spend_phase", lambda of, process, step, phase: lab.clock.sleep(
            phase_ns(of, process, step, phase) / 1e9))
        lab.script(lambda of, process, step: sum(phase_ns(of, process, step, phase) for phase in PHASES_NS))
        return lab.run(suite="why", arms=arms, blocks=3, pairs=2, steps="3")

    return run


def alone(run):
    return {share.cause: share for share in run.of(Share) if share.method == "isolated"}


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for seed, kind in enumerate(CLASSES)])
def test_a_planted_class_is_found_and_nothing_else(why, kind, seed):
    end, run = why({kind: 60e6}, seed)
    found = alone(run)
    assert end.exit_code == 0 and found.keys() == {*CLASSES, ALL}
    assert found[kind].word == "explains" and found[kind].share == pytest.approx(1, abs=0.05)
    assert [cause for cause, share in found.items() if share.word == "explains"] == [kind]
    assert all(abs(share.share) <= 0.05 for cause, share in found.items() if cause not in (kind, ALL))
    assert found[ALL].word == "adds-up" and found[ALL].share == pytest.approx(1, abs=0.07)
    assert found[kind].a_ns - found[kind].b_ns == pytest.approx(60e6, rel=0.05)


def test_what_the_operators_do_not_hold_is_told(why):
    """Of a gap of 80 ms the operators hold 40: the rest is between them."""
    _, run = why({"attention": 40e6}, hidden_ns=40e6)
    found = alone(run)
    assert found["attention"].share == pytest.approx(0.5, abs=0.05)
    assert found[ALL].word == "does-not-add-up" and "of forward and backward pass of scripted:slow" in found[ALL].reason
    assert found[ALL].reason.startswith("alone, the operators take 7") and "least sure is " in found[ALL].reason


def test_operators_that_an_arm_has_not_are_told(why, monkeypatch):
    monkeypatch.setattr(scripted_backend, "LACKING", {"pad"})
    monkeypatch.setattr(scripted_backend, "FAILING", {"upsample"})
    end, run = why({"norm": 60e6})
    lines = {(line.arm, line.kind): line for line in run.of(IsolatedOperator)}
    assert end.exit_code == 0 and not lines["A", "pad"].round_ns and not lines["A", "upsample"].round_ns
    assert lines["A", "upsample"].reason == "RuntimeError: no kernel for upsample"
    found = alone(run)
    assert "scripted:slow without pad: it has no such operator of its own" in found["other"].reason
    # What fails is no time of 0.
    assert (found["other"].word, found["other"].share, found["other"].a_ns) == ("not-measured", None, None)
    assert found[ALL].word == "not-measured" and "no kernel for upsample" in found[ALL].reason
    assert found["norm"].word == "explains"
    assert ROUNDS <= len(lines["B", "pad"].round_ns) <= MOST_ROUNDS
    assert sum(line.operator_class == COPY for line in run.of(IsolatedOperator)) == 2


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, ROUNDS), (1e9, MOST_ROUNDS)])
def test_rounds_fill_their_time(why, monkeypatch, seconds, rounds):
    monkeypatch.setattr(operators, "ROUNDS_S", seconds)
    _, run = why({"norm": 60e6})
    assert {len(line.round_ns) for line in run.of(IsolatedOperator)} == {rounds}


def test_the_gap_is_that_of_blocks_which_both_arms_finished(why):
    _, run = why({"norm": 60e6})

    def changed(line):
        if isinstance(line, Case) and (line.block, line.arm) == (0, "A"):
            return line.model_copy(update={"status": "failed"})
        if isinstance(line, Phases) and (line.block, line.arm, line.of) == (0, "B", "step"):
            return line.model_copy(update={"whole_ns": [ns * 3 for ns in line.whole_ns]})
        return line

    lost = replace(run, events=tuple(map(changed, run.events)))
    found = {share.cause: share for share in shares(lost, Comparison("A", "B"), "why")}
    assert found["norm"].share == pytest.approx(1, abs=0.05)


def test_a_backend_without_operators_is_compared_all_the_same(why):
    end, run = why({"norm": 60e6}, arms="scripted:slow,scripted:uncut")
    (share,) = alone(run).values()
    assert end.exit_code == 0 and share.word == "not-measured" and share.next_action
    assert share.reason == "scripted:uncut cannot run an operator alone"
    assert {line.arm for line in run.of(IsolatedOperator)} == {"A"}


def test_operators_are_timed_behind_all_windows_of_their_block(why):
    _, run = why({})
    kinds = [type(line) for line in run.events if isinstance(line, (Phases, IsolatedOperator, Case))]
    first = kinds.index(IsolatedOperator)
    assert Phases in kinds[:first] and [kind for kind in kinds[first:first + 5]] == [IsolatedOperator] * 5
    assert next(iter(alone(run).values())).word == "no-gap"
