"""A machine that is too busy to measure on is noticed in the first pairs of a block, and said with what to expect."""

from __future__ import annotations

import pytest

from harness.options import BenchConfig
from harness.protocol import timing
from harness.record.events import BlockState, Case, Finding, Window
from harness.record.findings import BUSY_MACHINE

SHORT = {"arms": "scripted,scripted", "blocks": 6, "pairs": 10, "epochs": 0}
MS = 1_000_000


def busy(run):
    return [finding for finding in run.of(Finding) if finding.code == "busy-machine"]


@pytest.fixture
def slowed(lab, monkeypatch):
    """Single steps, which windows of 0.1 s are, take `factor(count)` times as long as those of a warm-up."""
    monkeypatch.setattr("harness.blocks.pace.usable_cpus", lambda: 2)
    monkeypatch.setattr("harness.machine.disturbance.usable_cpus", lambda: 2)

    def run(factor, **options):
        state = {"single": False, "count": -1}

        def spy(command):
            state["single"] = isinstance(command, timing.Stepwise) and command.steps == 1
            state["count"] += state["single"]

        lab.sessions.spy = spy
        lab.script(lambda _, process, step: 100 * MS * (factor(state["count"]) if state["single"] else 1))
        return lab.run(**{**SHORT, **options})[1]

    return run


@pytest.mark.parametrize(("factor", "found"), [(1.0, 0), (2.9, 0), (3.1, 1), (40.0, 1)])
def test_steps_over_three_times_as_long_as_alone_are_said_once(slowed, lab, factor, found):
    run = slowed(lambda count: factor)
    assert len(busy(run)) == found
    said = [line for line in lab.stream.getvalue().splitlines() if "too busy to measure on" in line]
    assert len(said) == found
    if found:
        (finding,) = busy(run)
        assert f"a step of scripted takes {factor:.3g} times as long" in finding.message
        assert "alone (0.1 s)" in finding.message
        assert said == [f"warning: {finding.message}"]
        assert "what helps: end other programs, or wait until they end; --schedule" in lab.stream.getvalue()


def test_it_is_said_after_three_pairs_with_what_a_block_takes(slowed):
    run = slowed(lambda count: 10.0)
    (finding,) = busy(run)
    done = [event for event in run.of(Window) if event.t_ns <= finding.t_ns]
    assert finding.block == 0 and {window.pair for window in done} == {0, 1, 2}
    # Windows of 1 s and the hand-over before each, in 10 pairs of 2; before them the warm-ups, after them 2 s of
    # free-running steps of each arm, ten times as long.
    state = run.of(BlockState)[0]
    before_s = min(window.start_ns for window in done) / 1e9 - 0.02 - began_s(run)
    block_s = before_s + 10 * 2 * 1.02 + 2 * 2 * 10
    assert finding.message.endswith(f"a block takes about {block_s / 60:.1f} min, the 6 that are needed about "
                                    f"{6 * block_s / 60:.0f} min")
    assert state.t_ns > finding.t_ns


def began_s(run):
    """When block 0 began: as the workers of the check before it had ended, since nothing else takes time here."""
    return max(case.t_ns for case in run.of(Case) if case.case_id.startswith("parity")) / 1e9


def test_one_pair_is_enough_where_it_takes_long(slowed):
    """Minutes a pair must not be waited for three times."""
    run = slowed(lambda count: 60 / 0.1 if count > 4 else 1.0)
    (finding,) = busy(run)
    assert {window.pair for window in run.of(Window) if window.t_ns <= finding.t_ns} == {0}


def test_one_window_of_noise_is_no_busy_machine(slowed):
    assert not busy(slowed(lambda count: 30.0 if count % 5 == 0 else 1.0))


@pytest.mark.parametrize(("load", "others", "found"), [
    (None, None, 0), (2.9, None, 0), (3.1, None, 1), (3.1, 0.6, 1), (3.1, 0.4, 0), (2.0, 0.9, 0)])
def test_a_load_above_the_processors_is_said_though_the_warm_up_was_as_slow(slowed, lab, load, others, found):
    """Of which one is the run's own thread, and which counts only where others use these processors."""
    lab.load = load
    if others is not None:
        lab.busy_ns = lambda: round(2 * others * lab.clock.ns)
    run = slowed(lambda count: 1.0)
    assert len(busy(run)) == found
    if found:
        (finding,) = busy(run)
        assert "the load average is 3.1 on 2 processors" in finding.message and finding.block == 0
        assert "more processes want a processor than there are" in finding.message
        assert ("other programs use 60% of them" in finding.message) == (others is not None)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_advised_where_there_are_more(slowed, lab, threads):
    lab.threads = threads
    (finding,) = busy(slowed(lambda count: 10.0))
    assert ("--threads 1" in finding.advice) == (threads > 1)


def test_what_was_said_before_an_interruption_is_said_again(lab, slowed):
    run = slowed(lambda count: 5.0)
    bench, _ = lab.bench(BenchConfig.model_validate(run.started.bench))
    bench.ledger.goes_on(run)
    assert busy(run) and not bench.ledger.known(BUSY_MACHINE)
