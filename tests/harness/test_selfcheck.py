"""An arm against itself: what the machine can resolve, what measuring costs, whether the clock stops after the work."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import scripted_backend
from scipy import stats

from harness.judge.selfcheck import blocks_needed, cost, selfcheck
from harness.judge.synchronisation import fault, figures, unsynchronised
from harness.record.events import Case, Finding, Overhead, SyncProof, Verdict
from harness.record.findings import SELF_CHECK_CODES
from harness.record.run import RecordedRun
from harness.suites.training import Training
from reports import terminal
from reports.chapters.evidence import findings as notes
from reports.suites.registry import whole

MS = 1_000_000
SHORT = {"arms": "scripted,scripted", "blocks": 6, "pairs": 4, "epochs": 0}
PROOF = SyncProof(arm="A", part="training", pending_before=19000, pending_after=3, pending_base=3, steps_short=1,
                  steps_long=4, short_ns=100 * MS, long_ns=400 * MS, residue_ns=MS)


def found(run, code):
    return [finding for finding in run.of(Finding) if finding.code == code]


# What is computed

@pytest.mark.parametrize("spread", [0.0005, 0.003, 0.0101, 0.02, 0.05])
def test_the_blocks_needed_are_the_least_that_make_the_interval_narrow_enough(spread):
    values = spread * np.array([1, -1, 1, -1, 1, -1]) / math.sqrt(6 / 5)
    assert np.std(values, ddof=1) == pytest.approx(spread)

    def half(n):
        return stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    needed = blocks_needed(list(values))
    assert half(needed) <= math.log(1.01) and (needed == 2 or half(needed - 1) > math.log(1.01))


def test_blocks_without_a_spread_or_with_too_much():
    assert blocks_needed([0.1, 0.1, 0.1]) == 2
    assert blocks_needed([5.0, -5.0]) is None
    with pytest.raises(ValueError, match="at least two"):
        blocks_needed([0.1])


def overhead(ratios, what="harness"):
    return Overhead(arm="A", part="training", what=what, bare_ns=[1000 * MS] * len(ratios),
                    harness_ns=[round(1e9 * r) for r in ratios])


def test_the_interval_for_the_median_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(7)
    for count in (6, 9, 40):
        hits = [(c := cost([overhead(np.exp(rng.standard_normal(count)))])).low <= 1 <= c.high for _ in range(1000)]
        assert 0.94 <= np.mean(hits) <= 1


def test_few_pairs_have_a_range_and_other_overheads_do_not_count():
    few = cost([overhead([1.03, 1.01, 1.02]), overhead([5.0], "monitors")])
    assert (few.median, few.low, few.high, few.pairs, few.exact) == (1.02, 1.01, 1.03, 3, False)
    assert cost([overhead([1.0] * 6)]).exact
    assert cost([overhead([5.0], "monitors")]) is None and cost([]) is None


@pytest.mark.parametrize(("change", "word"), [
    ({}, None),
    ({"pending_before": None, "pending_after": None, "pending_base": None, "residue_ns": None}, None),
    ({"pending_after": 900}, "897 operations more than at rest"),
    ({"residue_ns": 380 * MS}, "reading the losses took 380 ms after the synchronisation of 4 steps"),
    ({"long_ns": 170 * MS}, "4 times the steps took 1.7 times as long"),
    ({"long_ns": 180 * MS}, None),
    ({"long_ns": 900 * MS}, None),
    ({"short_ns": 0, "long_ns": 0, "residue_ns": 0}, "4 times the steps took 0 times as long"),
    ({"short_ns": 0, "long_ns": 0, "residue_ns": 400 * MS}, "reading the losses took 400 ms"),
])
def test_what_a_proof_needs(change, word):
    said = fault(PROOF.model_copy(update=change))
    assert (said is None) if word is None else word in said


def test_one_proof_that_holds_is_enough():
    bad = PROOF.model_copy(update={"pending_after": 9})
    assert unsynchronised([bad, PROOF]) is None and unsynchronised([]) is None
    assert "6 operations" in unsynchronised([bad, bad])
    assert figures(PROOF) == ("pending operations 19,000 before, 3 after, 3 at rest; 4 times the steps took 4 times as "
                              "long; reading the losses afterwards 0.25% of that")


# Whole runs

def by_process(spread):
    """Every process has a speed of its own."""
    rng, speeds = np.random.default_rng(4), {}

    def step_ns(options, process, step):
        return 100e6 * speeds.setdefault(process, 1 + spread * rng.standard_normal())

    return step_ns


def test_a_quiet_machine_resolves_one_per_cent(lab):
    lab.script(by_process(0.001))
    end, run = lab.run(**{**SHORT, "selfcheck": True})
    assert end.exit_code == 0
    (verdict,) = [v for v in run.of(Verdict) if v.metric == "step time (self-check)" and v.arm_a == "A"]
    for arm in "AB":
        (resolution,) = [f for f in found(run, "resolution") if f.arm == arm]
        assert "yes, with 6 blocks" in resolution.message and resolution.severity == "info"
        (spent,) = [f for f in found(run, "harness-overhead") if f.arm == arm]
        assert "take 1.0000 times as long as a bare loop (95% interval 1.0000 to 1.0000" in spent.message
        (sync,) = [f for f in found(run, "synchronised") if f.arm == arm]
        assert re.search(r"([456]) times the steps took \1 times as long", sync.message)
        assert "0 at rest" in sync.message
    floor = next(f for f in found(run, "noise-floor") if f.arm == "A" and f.message.startswith("step time"))
    assert f"{math.log(verdict.ci_high / verdict.ci_low) / 2:.2%}" in floor.message
    assert not found(run, "unsynchronised") and not found(run, "selfcheck-incomplete")
    shown = {note.message for note in notes.notes(whole(run))}
    assert {f.message for f in run.of(Finding) if f.code in SELF_CHECK_CODES} <= shown

    printed = [line for line in terminal.lines(run) if line.startswith("self-check: ")]
    assert len(printed) == 2 * 5 and "against itself" in printed[0] and "yes, with 6 blocks" in printed[2]


def test_a_noisy_machine_says_how_many_blocks_it_needs(lab):
    lab.script(by_process(0.015))
    _, run = lab.run(**{**SHORT, "arms": "scripted", "selfcheck": True})
    (verdict,) = [v for v in run.of(Verdict) if v.metric == "step time (self-check)"]
    (resolution,) = found(run, "resolution")
    needed = blocks_needed(verdict.block_log_ratios)
    assert needed > 6
    assert f"no: about {needed} blocks needed, this run had 6" in resolution.message
    assert resolution.advice == f"give --blocks {needed}"
    assert "ratios of 6 blocks spread" in resolution.message
    assert len(found(run, "harness-overhead")) == 1, "one arm alone can be checked"


def test_disturbed_blocks_are_counted_in_what_the_machine_can_resolve(lab):
    lab.telemetry.reasons = [[], ["heat"], ["heat"]]
    _, run = lab.run(**{**SHORT, "arms": "scripted", "selfcheck": True})
    assert "ratios of 7 blocks, 2 of them disturbed, spread" in found(run, "resolution")[0].message


def test_a_sampler_is_checked_over_its_cells(lab, monkeypatch):
    monkeypatch.setattr("harness.suites.sampling.batches.CELL_S", {"cpu": 2.0})
    monkeypatch.setattr("harness.suites.sampling.part.SWEEP", {"cpu": (1, 4), "cuda": (1, 128)})
    _, run = lab.run(suite="sample-speed", arms="scripted", blocks=6, pairs=2, steps="5,10", selfcheck=True)
    (resolution,) = found(run, "resolution")
    assert "yes, with 6 blocks" in resolution.message
    (sync,) = found(run, "synchronised")
    assert "losses" not in sync.message


def test_without_a_selfcheck_nothing_is_added(lab):
    _, run = lab.run(**SHORT)
    assert selfcheck(run, run.events, Training()) == []
    assert not [f for f in run.of(Finding) if f.code in SELF_CHECK_CODES]
    assert not any("self-check" in line for line in terminal.lines(run))


def test_what_is_missing_is_said(lab):
    _, run = lab.run(**{**SHORT, "arms": "scripted", "selfcheck": True})
    without = RecordedRun(run.path, tuple(e for e in run.events if not isinstance(e, Overhead | SyncProof)))
    missing = [f.message for f in selfcheck(without, without.events, Training()) if f.code == "selfcheck-incomplete"]
    assert len(missing) == 2 and "cost of the harness" in missing[0] and "not checked" in missing[1]
    one = [v.model_copy(update={"block_log_ratios": [0.1]}) if isinstance(v, Verdict) else v for v in run.events]
    assert "fewer than two blocks" in selfcheck(run, one, Training())[0].message


def test_an_arm_that_differs_from_itself_is_a_warning(lab):
    started, start = [], lab.sessions.start
    lab.sessions.start = lambda slot, *rest: (started.append(slot), start(slot, *rest))[1]
    lab.script(lambda options, process, step: 100e6 * (1.2 if started[process] == "B" else 1))
    _, run = lab.run(**{**SHORT, "arms": "scripted", "selfcheck": True})
    (warning,) = found(run, "selfcheck-difference")
    assert warning.severity == "warning" and "one such result in twenty" in warning.advice


# Without synchronisation

@pytest.mark.parametrize(("option", "word"), [("eager", "reading the losses took"), ("leaky", "more than at rest")])
def test_a_backend_that_does_not_wait_is_caught(lab, monkeypatch, option, word):
    monkeypatch.setattr(scripted_backend, "enqueue", lambda options, process, step: lab.clock.sleep(0.005))
    end, run = lab.run(**{**SHORT, "arms": f"scripted,scripted:{option}"})
    (error,) = found(run, "unsynchronised")
    assert (error.severity, error.arm) == ("error", "B") and word in error.message and error.advice
    for verdict in run.of(Verdict):
        assert verdict.word == "not-comparable" and verdict.reason.startswith("synchronisation of scripted:")
    assert (end.status, end.exit_code) == ("failed", 1)
    (case,) = [case for case in run.of(Case) if case.status == "failed"]
    assert case.case_id == "synchronisation-B" and word in case.reason
    assert [proof.arm for proof in run.of(SyncProof)].count("B") == 5, "the machine may have spoilt one"
    assert [proof.arm for proof in run.of(SyncProof)].count("A") == 1


def test_a_sampler_that_does_not_wait_is_caught_by_its_whole_batches(lab, monkeypatch):
    monkeypatch.setattr("harness.suites.sampling.batches.CELL_S", {"cpu": 2.0})
    monkeypatch.setattr("harness.suites.sampling.part.SWEEP", {"cpu": (1, 4), "cuda": (1, 128)})
    monkeypatch.setattr(scripted_backend, "enqueue", lambda options, process, step: lab.clock.sleep(0.005))
    end, run = lab.run(suite="sample-speed", arms="scripted,scripted:eager", blocks=6, pairs=2, steps="5,10")
    (error,) = found(run, "unsynchronised")
    assert (error.severity, error.arm) == ("error", "B")
    assert "the chain of ddim-5 took 25 ms with its synchronisation, a whole batch 500 ms" in error.message
    assert {v.word for v in run.of(Verdict)} == {"not-comparable"} and end.exit_code == 1
    (case,) = [case for case in run.of(Case) if case.status == "failed"]
    assert case.case_id == "synchronisation-B" and error.message == case.reason


def test_a_selfcheck_of_an_unsynchronised_backend_does_not_call_it_synchronised(lab, monkeypatch):
    monkeypatch.setattr(scripted_backend, "enqueue", lambda options, process, step: lab.clock.sleep(0.005))
    _, run = lab.run(**{**SHORT, "arms": "scripted:eager", "selfcheck": True})
    assert found(run, "unsynchronised") and not found(run, "synchronised") and not found(run, "resolution")
    assert "times cannot be compared: synchronisation" in found(run, "selfcheck-incomplete")[0].message
    assert {v.word for v in run.of(Verdict)} == {"not-comparable"}


def test_a_proof_spoilt_by_the_machine_is_tried_again(lab):
    """The short run of each arm's first proof is hit by something else."""
    spoilt, answer = [], lab.sessions.start

    def start(*given):
        slot, session = given[0], answer(*given)
        ask = session.ask

        def asked(command, limit_s):
            reply = ask(command, limit_s)
            if getattr(command, "op", "") == "prove-sync" and slot not in spoilt:
                spoilt.append(slot)
                return reply.model_copy(update={"short_ns": 5 * reply.short_ns})
            return reply

        session.ask = asked
        return session

    lab.sessions.start = start
    end, run = lab.run(**SHORT)
    assert sorted(spoilt) == ["A", "B"] and len(run.of(SyncProof)) == 4
    assert end.exit_code == 0 and not found(run, "unsynchronised")
    assert {v.word for v in run.of(Verdict)} == {"equivalent"}
