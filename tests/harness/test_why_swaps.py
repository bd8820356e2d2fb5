"""What suite `why` says of swaps: what each saves of a planted gap, whether they add up, and where methods disagree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import scripted_backend

from harness.protocol import timing, training
from harness.record.events import Apart, Case, Share, Swapped
from harness.suites.why import swaps
from harness.suites.why.part import Why
from harness.suites.why.shares import ALL
from harness.suites.why.swaps import contested
from impls import registry
from reports import terminal

CHOICES = {name: {"own": "saves what a test says"} for name in ("norm", "optimiser")}
PHASES_NS = scripted_backend.PHASES_NS
ATTENTION, OPTIMISER, BOTH = (f"scripted:{options}" for options in (
    "norm=own+slow", "optimiser=own+slow", "norm=own+optimiser=own+slow"))


@pytest.fixture
def why(lab, monkeypatch):
    """A run in which arm "slow" takes 60 ms more, 20 of them in the optimiser, and a swap saves what a test says."""

    def run(attention=30e6, optimiser=20e6, together=0.0, **options):
        mine = scripted_backend.SPEC
        offered = (replace(spec, choices=CHOICES) if spec is mine else spec for spec in registry.BUILT_IN)
        monkeypatch.setattr(registry, "BUILT_IN", tuple(offered))

        def saved(of):
            both = together * {"norm=own", "optimiser=own"}.issubset(of)
            return attention * ("norm=own" in of) + optimiser * ("optimiser=own" in of) + both

        def phase_ns(of, phase):
            extra = {"backward": 40e6, "optimizer": 20e6}.get(phase, 0) if "slow" in of else 0
            return PHASES_NS.get(phase, 1e6) + extra

        monkeypatch.setattr(scripted_backend, "spend_phase",
                            lambda of, process, step, phase: lab.clock.sleep(phase_ns(of, phase) / 1e9))
        lab.script(lambda of, process, step: sum(phase_ns(of, phase) for phase in PHASES_NS) - saved(of))
        return lab.run(suite="why", **{"arms": "scripted,scripted:slow", "blocks": 3, "pairs": 2, "steps": "1",
                                       **options})

    return run


def by_swap(run):
    return {share.swap: share for share in run.of(Share) if share.method == "swapped"}


def test_each_swap_closes_what_it_saves_and_together_they_add_up(why, lab, monkeypatch):
    asked = []
    monkeypatch.setattr(lab.sessions, "spy", asked.append)
    end, run = why()
    assert (end.status, end.exit_code) == ("complete", 0)
    found = by_swap(run)
    assert {name: (share.cause, share.word) for name, share in found.items()} == {
        ATTENTION: ("norm", "explains"), OPTIMISER: ("optimizer", "explains"), BOTH: (ALL, "adds-up")}
    for name, share in ((ATTENTION, 0.5), (OPTIMISER, 1 / 3), (BOTH, 5 / 6)):
        assert found[name].share == pytest.approx(share, abs=0.01)
    assert (found[ATTENTION].a_ns, found[ATTENTION].b_ns) == (None, pytest.approx(30e6))
    # The slow arm alone, in every block, and never within its windows.
    swapped, windows, reads = ([number for number, command in enumerate(asked) if isinstance(command, kind)]
                             for kind in (training.Swap, timing.Phased, training.ReadLosses))
    assert len(swapped) == 9
    for first, last in ((swapped[number], swapped[number + 2]) for number in (0, 3, 6)):
        assert all(max(number for number in those if number < last) < first for those in (windows, reads))
    assert {(line.arm, line.block, line.swap) for line in run.of(Swapped)} == {
        ("B", block, name) for block in range(3) for name in found}
    assert any(line.startswith(f"why: switching to {ATTENTION}, swapped: 50% [50%, 50%] of the gap between")
               for line in terminal.lines(run))


def test_equal_arms_pay_for_no_swaps(why, lab, monkeypatch):
    asked = []
    monkeypatch.setattr(lab.sessions, "spy", asked.append)
    _, run = why(arms="scripted,scripted", attention=0, optimiser=0)
    assert not [command for command in asked if isinstance(command, training.Swap)]
    assert {share.word for share in by_swap(run).values()} == {"no-gap"}


def test_what_a_block_takes_counts_the_swaps(why, monkeypatch):
    told = []
    monkeypatch.setattr(Why, "after_s", lambda self, block: told.append(swaps.seconds(block)) or 0.0)
    why()
    # Three swaps, each a trainer, 4 steps of 160 ms to warm up, and 3 rounds of both.
    assert told == [pytest.approx(3 * (swaps.BUILD_S + 10 * 0.16), rel=0.01)]


def test_a_swap_that_costs_works_against_and_an_optimiser_that_differs_is_contested(why):
    _, run = why(attention=-20e6, optimiser=2e6, together=30e6)
    found = by_swap(run)
    assert (found[ATTENTION].word, found[OPTIMISER].word) == ("works-against", "contested")
    assert found[OPTIMISER].reason == "other methods find 33% (cuts)"
    assert found[OPTIMISER].own_word == "does-not-explain"
    (cut,) = (share for share in run.of(Share) if share.method == "cuts" and share.cause == "optimizer")
    assert (cut.word, cut.own_word, cut.reason) == ("contested", "explains", f"other methods find 3% ({OPTIMISER})")
    assert found[BOTH].word == "does-not-add-up" and "add up to -30% of the gap" in found[BOTH].reason


@pytest.mark.parametrize(("arms", "word", "reason"), [
    ("scripted,scripted", "no-gap", "the interval of the gap"),
    ("scripted,scripted:slow+norm=own+optimiser=own", "not-measured", "has no operators to swap"),
    ("scripted,scripted:slow+wrong", "not-measured", "parity: ")])
def test_without_swaps_the_reason_is_told(why, arms, word, reason):
    _, run = why(attention=0, optimiser=0, arms=arms)
    (share,) = by_swap(run).values()
    assert (share.cause, share.word, share.share) == (ALL, word, None) and reason in share.reason and share.next_action


def test_a_swap_that_cannot_be_made_is_skipped(why, monkeypatch):
    make = scripted_backend.create

    def create(options, device, threads):
        if "norm=own" in options:
            raise RuntimeError("no such operator here")
        return make(options, device, threads)

    monkeypatch.setattr(scripted_backend, "create", create)
    end, run = why()
    words = {name: share.word for name, share in by_swap(run).items()}
    assert words == {ATTENTION: "not-measured", OPTIMISER: "explains", BOTH: "not-measured"}
    assert by_swap(run)[ATTENTION].reason == "RuntimeError: no such operator here"
    skipped = {case.case_id for case in run.of(Case) if case.status == "skipped"}
    assert (end.status, end.exit_code) == ("complete", 0) and f"swap-0-B-{ATTENTION}" in skipped
    assert {case.status for case in run.of(Case) if case.block is not None} == {"measured"}


def test_a_swap_that_ends_the_process_does_so_once_and_takes_nothing_else_with_it(why, monkeypatch):
    make = scripted_backend.create

    def create(options, device, threads):
        if "norm=own" in options:
            scripted_backend.crash()
        return make(options, device, threads)

    monkeypatch.setattr(scripted_backend, "create", create)
    end, run = why(blocks=4)
    failed = {case.case_id for case in run.of(Case) if case.status == "failed"}
    assert end.exit_code == 1 and failed == {f"swap-0-B-{ATTENTION}", f"swap-1-B-{BOTH}"}
    assert by_swap(run)[OPTIMISER].word == "explains" and by_swap(run)[ATTENTION].word == "not-measured"
    assert {(one.what, one.arm) for one in run.of(Apart)} >= {("waiting", "A"), ("waiting", "B")}


def share(method, cause, value, word="explains", swap=None):
    return Share(part="why", arm_a="A", arm_b="B", method=method, cause=cause, a_ns=None, b_ns=None, share=value,
                 ci_low=value, ci_high=value, blocks=6, word=word, swap=swap)


def test_of_two_swaps_of_a_class_the_poorer_contests_nothing():
    lines = [share("isolated", "attention", 0.4), share("swapped", "attention", -0.3, "works-against", "x:attention=y"),
             share("swapped", "attention", 0.38, swap="x:attention=z")]
    assert contested(lines) == lines


def test_shares_within_ten_points_are_not_contested():
    lines = [share("cuts", "optimizer", 0.30), share("swapped", "optimizer", 0.21), share("isolated", "norm", 0.4),
             share("swapped", "norm", 0.1, "inconclusive"), share("cuts", ALL, 1), share("swapped", ALL, 0.5)]
    assert contested(lines) == lines
    assert [one.word for one in contested([*lines, share("isolated", "optimizer", 0.32)])] == [
        "explains", "contested", "explains", "inconclusive", "explains", "explains", "contested"]
