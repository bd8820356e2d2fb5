"""Whole runs in this process: the scripted backend decides how long a step takes, a fake clock lets it pass."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from harness.blocks.windows import HAND_OVER_S
from harness.options import BenchConfig
from harness.plan import turn_order
from harness.protocol import timing
from harness.record.events import (
    BlockState,
    Case,
    Epoch,
    Finding,
    Losses,
    Memory,
    Overhead,
    ParityResult,
    Peak,
    Resumed,
    RunEnded,
    RunStarted,
    StepCost,
    SyncProof,
    Verdict,
    WarmUp,
    Window,
    WorkerStarted,
)
from harness.record.run import finished_blocks, read_run, unfinished_blocks
from harness.record.writer import RunWriter
from harness.run.runner import Runner
from harness.suites import training

MS = 1_000_000
SHORT = {"arms": "scripted,scripted", "blocks": 6, "pairs": 4, "epochs": 0}


def verdict(run, metric="step time"):
    return next(v for v in run.of(Verdict) if v.metric == metric)


def noisy(seed):
    """Step times of one machine: each process has a speed of its own (1.5 %), each step its noise (5 %)."""
    rng = np.random.default_rng(seed)
    speeds: dict[int, float] = {}

    def step_ns(options, process, step):
        speed = speeds.setdefault(process, 1 + 0.002 * rng.standard_normal())
        return 100e6 * speed * (1 + 0.05 * rng.standard_normal()) * (1.1 if "slow" in options else 1)

    return step_ns


def test_a_tenth_more_time_is_found(lab):
    lab.script(noisy(1))
    end, run = lab.run(**{**SHORT, "arms": "scripted:slow,scripted", "pairs": 40})
    for metric in ("step time", "free-running step time"):
        assert verdict(run, metric).word == "B-faster"
        assert verdict(run, metric).ratio == pytest.approx(1.1, rel=0.02)
    assert verdict(run).blocks == 6
    assert end.exit_code == 0
    assert all(case.status == "measured" for case in run.of(Case))


def test_the_ratio_is_time_a_over_time_b(lab):
    _, run = lab.run(**{**SHORT, "arms": "scripted,scripted:slow"})
    assert verdict(run).word == "A-faster"
    assert verdict(run).ratio == pytest.approx(1 / 1.1)


@pytest.mark.parametrize("seed", range(3))
def test_an_arm_against_itself_is_no_difference(lab, seed):
    lab.script(noisy(seed))
    _, run = lab.run(**{**SHORT, "pairs": 40})
    assert verdict(run).word in ("equivalent", "inconclusive")


def test_every_kind_of_fact_is_recorded(lab):
    end, run = lab.run(**{**SHORT, "epochs": None})
    assert end.status == "complete"
    count = Counter(type(event) for event in run.events)
    for kind in (RunStarted, StepCost, ParityResult, WorkerStarted, WarmUp, Window, Losses, Memory, SyncProof, Overhead,
                 Peak, Epoch, BlockState, Case, Verdict, RunEnded):
        assert count[kind], f"no {kind.__name__} in the journal"
    assert count[Window] == 6 * 2 * (4 + training.FREE_PAIRS)
    assert count[Verdict] == 2
    assert {proof.arm for proof in run.of(SyncProof)} == {"A", "B"}
    assert all(proof.pending_after == proof.pending_base for proof in run.of(SyncProof))
    assert {(w.arm, w.block) for w in run.of(WorkerStarted) if w.role == "measure"} == {
        (arm, number) for arm in "AB" for number in range(6)}
    summary = json.loads((run.path / "run.json").read_text())
    assert summary["status"] == "complete" and len(summary["verdicts"]) == 2
    assert run.started.declared["margin"] == 0.01


def test_float16_is_compared_with_float16_and_its_scale_is_recorded(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted:scaled,scripted:scaled,scripted:half"})
    scaled, half = ([one for one in run.of(Losses) if one.arm in arms and one.randomness == "native"]
                    for arms in ("AB", "C"))
    assert {(one.loss_scale, one.skipped) for one in scaled} == {(16384.0, 2)}
    assert {(one.loss_scale, one.skipped) for one in half} == {(None, None)}
    verdicts = {verdict.arm_b: verdict for verdict in run.of(Verdict) if verdict.metric == "step time"}
    assert verdicts["B"].word == "equivalent" and verdicts["B"].precision == "float16"
    assert verdicts["C"].word == "not-comparable" and "dtype: float16 against bfloat16" in verdicts["C"].reason
    # A line of before, which knows of no scale.
    assert Losses.model_validate({name: value for name, value in half[0].model_dump().items()
                                  if name not in ("loss_scale", "skipped")}) == half[0]


def test_windows_alternate_and_never_overlap(lab):
    _, run = lab.run(**SHORT)
    windows = sorted(run.of(Window), key=lambda w: w.start_ns)
    for before, after in zip(windows, windows[1:], strict=False):
        if before.block == after.block:
            assert after.start_ns - before.end_ns >= HAND_OVER_S * 1e9
    for state in run.of(BlockState):
        stepwise = [w for w in windows if w.block == state.block and w.kind == "stepwise"]
        for pair in range(4):
            assert [w.arm for w in stepwise if w.pair == pair] == turn_order("AB", state.order_seed, pair)


@pytest.mark.parametrize(("step_ms", "steps"), [(400, 1), (100, 1), (99, 2), (30, 4), (1, 100)])
def test_a_window_is_one_step_or_what_fills_a_tenth_of_a_second(lab, step_ms, steps):
    lab.script(lambda options, process, step: step_ms * MS)
    _, run = lab.run(**SHORT)
    assert {w.steps for w in run.of(Window) if w.kind == "stepwise"} == {steps}
    assert all((w.end_ns - w.start_ns) >= 2e9 for w in run.of(Window) if w.kind == "free")


def test_the_warm_up_lasts_until_the_late_fall_is_over(lab):
    """A flat plateau for 20 steps before the real speed must not pass for a steady state."""
    lab.script(lambda options, process, step: (42 if step < 20 else 42 - (step - 20) if step < 35 else 20) * MS
               + (step * 7919 % 13) * MS / 20)
    _, run = lab.run(**SHORT)
    for warm_up in run.of(WarmUp):
        assert warm_up.classification == "warmup" and not warm_up.capped
        assert 30 <= warm_up.steady_from <= 40
        assert len(warm_up.step_ns) >= 2 * warm_up.steady_from
    assert verdict(run).word == "equivalent"


def test_a_late_fall_of_long_steps_makes_the_block_dirty_and_the_next_warm_up_long(lab):
    """Steps of half a second from step 35 on, in the second arm alone: 20 steps of warm-up cannot see it."""
    lab.script(lambda options, process, step: (800 if "slow" in options and step < 35 else 500) * MS)
    _, run = lab.run(**{**SHORT, "pairs": 40, "arms": "scripted,scripted:slow"})
    assert {one.block: len(one.step_ns) for one in run.of(WarmUp) if one.arm == "B"} == {
        block: 20 if block == 0 else 70 for block in range(7)}
    states = run.of(BlockState)
    assert [state.block for state in states if state.dirty] == [0] and states[-1].repeats == 0
    assert "the ratio of A to B settled only at pair 15 of 40" in states[0].reasons


def test_one_block_s_disturbance_makes_not_all_later_warm_ups_long(lab):
    lab.script(lambda options, process, step: (200 if process == 2 and step < 15 else 100) * MS)
    _, run = lab.run(**SHORT)
    steady, disturbed = sorted([len(one.step_ns) for one in run.of(WarmUp) if one.arm == arm] for arm in "AB")
    assert steady == [50, 20, 20, 20, 20, 20]
    assert disturbed == [80, 30, 20, 20, 20, 20]


@pytest.mark.parametrize(("step_ms", "steps"), [(100, 20), (900, 11), (5000, 6)])
def test_matched_steps_before_timed_ones_are_fewer_where_they_are_long(lab, step_ms, steps):
    lab.script(lambda options, process, step: (2 if "slow" in options else 1) * step_ms * MS)
    _, run = lab.run(**{**SHORT, "blocks": 6, "arms": "scripted,scripted:slow"})
    assert len(run.of(ParityResult)[0].loss_rel_diff) == len(run.of(ParityResult)[0].control_rel_diff) == steps


def test_a_process_that_never_settles_is_capped_and_said(lab):
    lab.script(lambda options, process, step: (100 + 30 * ((step + 8) // 12 % 2)) * MS)
    _, run = lab.run(**{**SHORT, "arms": "scripted"})
    assert all(warm_up.capped and warm_up.classification == "no-steady-state" for warm_up in run.of(WarmUp))
    assert any(finding.code == "no-steady-state" for finding in run.of(Finding))


def test_compile_time_is_the_first_step_less_a_typical_one(lab):
    lab.script(lambda options, process, step: 5000 * MS if step == 0 else 100 * MS)
    _, run = lab.run(**SHORT)
    for worker in run.of(WorkerStarted):
        if worker.role == "measure":
            assert worker.first_step_ns == 5000 * MS and worker.compile_ns == 4900 * MS


def test_different_results_forbid_a_verdict(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted,scripted:wrong+slow"})
    (result,) = run.of(ParityResult)
    assert not result.passed and "forward" in result.reason
    assert verdict(run).word == "not-comparable" and "parity" in verdict(run).reason
    assert verdict(run).ratio == pytest.approx(1 / 1.1), "the ratio stays as a description"
    assert end.exit_code == 1


def test_different_number_formats_forbid_a_verdict_but_are_no_failure(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted,scripted:half"})
    assert verdict(run).word == "not-comparable" and "dtype" in verdict(run).reason
    (result,) = run.of(ParityResult)
    assert result.passed and result.precision == "bfloat16" and result.tolerances["forward"] > 1e-3
    assert end.exit_code == 0


def test_a_waiting_arm_that_works_makes_its_block_dirty(lab):
    def spy(command):
        if isinstance(command, timing.Stepwise):
            for handle in lab.sessions.handles:
                lab.cpu[handle.pid] = lab.cpu.get(handle.pid, 0) + 5 * MS

    lab.sessions.spy = spy
    _, run = lab.run(**SHORT)
    states = run.of(BlockState)
    assert all(state.dirty and "should have waited" in state.reasons[0] for state in states)
    assert sum(state.repeats is not None for state in states) == 1, "a quarter of six, rounded down"


def test_a_dirty_block_is_kept_flagged_and_repeated_at_the_end(lab):
    lab.telemetry.reasons = [[], ["gpu:0 lowered its clocks"], [], [], [], [], []]
    _, run = lab.run(**SHORT)
    assert [(s.block, s.dirty, s.repeats) for s in run.of(BlockState)] == [
        (0, False, None), (1, True, None), (2, False, None), (3, False, None), (4, False, None), (5, False, None),
        (6, False, 1)]
    assert verdict(run).blocks == 7


def test_the_time_limit_stops_new_blocks_and_says_so(lab):
    _, run = lab.run(**{**SHORT, "blocks": 20, "time_limit": 3.0})
    done = len(run.of(BlockState))
    assert 1 <= done < 20
    (finding,) = [f for f in run.of(Finding) if f.code == "time-limit"]
    assert str(done) in finding.message
    assert run.last(RunEnded).wall_s < 3.0 * 60


def test_without_a_limit_blocks_beyond_six_must_fit_the_time(lab):
    """Of arms on which no early look is sure."""
    lab.script(lab.uneven(1.02))
    _, run = lab.run(arms="scripted,scripted:slow", pairs=40, epochs=0)
    assert 8 <= len(run.of(BlockState)) <= 12
    lab.script(lab.uneven(1.02, 600))
    _, run = lab.run(arms="scripted,scripted:slow", pairs=40, epochs=0)
    assert len(run.of(BlockState)) == 6 and verdict(run).alpha == pytest.approx(0.047)


def test_sequential_measures_one_after_another_in_changing_order(lab):
    _, run = lab.run(**{**SHORT, "schedule": "sequential", "seed": 3})
    assert verdict(run).word == "equivalent"
    firsts = set()
    for state in run.of(BlockState):
        arms = [w.arm for w in sorted(run.of(Window), key=lambda w: w.start_ns) if w.block == state.block]
        assert sum(one != other for one, other in zip(arms, arms[1:], strict=False)) == 1
        firsts.add(arms[0])
    assert firsts == {"A", "B"}
    assert max(len(watched) for watched in lab.telemetry.watched) == 1


def test_selfcheck_gives_the_noise_floor(lab):
    _, run = lab.run(**{**SHORT, "arms": "scripted:slow,scripted", "selfcheck": True})
    words = {(v.arm_a, v.arm_b): v.word for v in run.of(Verdict) if v.metric.startswith("step time")}
    assert words == {("A", "B"): "B-faster", ("A", "C"): "equivalent", ("B", "D"): "equivalent"}
    assert sum(f.code == "noise-floor" for f in run.of(Finding)) == 4


def test_three_arms_are_each_compared_with_the_first(lab):
    _, run = lab.run(**{**SHORT, "arms": "scripted,scripted:slow,scripted"})
    words = {(v.arm_a, v.arm_b): v.word for v in run.of(Verdict) if v.metric == "step time"}
    assert words == {("A", "B"): "A-faster", ("A", "C"): "equivalent"}


def test_one_arm_is_measured_without_a_verdict(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted"})
    assert end.exit_code == 0 and not run.of(Verdict) and len(run.of(Window)) == 6 * (4 + training.FREE_PAIRS)


def test_epochs_have_gaps_and_stay_short_unless_asked(lab):
    _, run = lab.run(**{**SHORT, "epochs": None, "batch_size": 8})
    epochs = run.of(Epoch)
    assert sorted((e.arm, e.epoch) for e in epochs) == [("A", 0), ("A", 1), ("B", 0), ("B", 1)]
    assert [(e.epoch, e.gap_ns) for e in epochs] == [(0, None), (1, 1000)] * 2, "the wait for a batch"
    assert all(e.images == 64 and len(e.step_start_ns) == 8 and e.loader == "native" for e in epochs)
    _, run = lab.run(**{**SHORT, "epochs": 3})
    assert len(run.of(Epoch)) == 6


def test_parity_alone_measures_no_speed(lab):
    end, run = lab.run(suite="parity", arms="scripted,scripted", steps=5)
    (result,) = run.of(ParityResult)
    assert result.passed and result.loss_rel_diff == [0.0] * 5 and result.forward_max_abs == 0.0
    assert len(result.control_rel_diff) == 5 and max(result.control_rel_diff) < 1e-5
    assert {event.randomness for event in run.of(Losses)} == {"matched", "control"}
    assert end.exit_code == 0 and not run.of(Window)


def test_cold_start_moves_every_cache(lab):
    _, run = lab.run(**{**SHORT, "cold_start": True})
    assert sum(w.role == "cold-start" for w in run.of(WorkerStarted)) == 1, "once for each different arm"
    (env,) = [env for env in lab.sessions.env if env]
    assert len(set(env.values())) == 1 and "HOME" in env


def test_an_interrupted_run_goes_on_where_it_stopped(lab):
    bench, opening = lab.bench(BenchConfig(**{**SHORT, "device": "cpu", "preset": "tiny"}))
    seen = Counter()

    def interrupt(command):
        seen[type(command)] += 1
        if isinstance(command, timing.Free) and seen[timing.Free] == 3 * 2 * training.FREE_PAIRS + 8:
            raise KeyboardInterrupt

    lab.sessions.spy = interrupt
    lab.cut_off(bench, opening)
    assert all(handle.killed for handle in lab.sessions.handles)
    cut = read_run(bench.writer.path)
    assert cut.status == "interrupted"
    done = sorted(finished_blocks(cut))
    assert done == list(range(len(done))) and unfinished_blocks(cut) == [len(done)]

    lab.sessions.spy = lambda command: None
    again, _ = lab.bench(opening.job.options, RunWriter(cut.path))
    resumed = lab.going_on(opening, cut)
    again.writer.finish(Runner(again, resumed).run())
    run = read_run(cut.path)
    assert run.last(Resumed).discarded_blocks == [len(done)]
    assert sorted(s.block for s in run.of(BlockState)) == list(range(6))
    assert Counter((w.block, w.arm) for w in run.of(Window) if w.kind == "stepwise") == {
        (number, arm): 4 for number in range(6) for arm in "AB"}
    assert len(run.of(ParityResult)) == 1 and run.status == "complete"
    assert verdict(run).word == "equivalent" and verdict(run).blocks == 6


def test_the_peak_of_memory_begins_after_the_warm_up(lab):
    asked = []
    lab.sessions.spy = lambda command: asked.append(command.op)
    lab.run(arms="scripted", blocks=6, pairs=4, epochs=0)
    readings = [at for at, op in enumerate(asked) if op == "memory"]
    # Two in a block: the first, whose answer counts for nothing, ends the warm-up, the second what was measured.
    assert len(readings) == 2 * 6
    for begin, end in zip(readings[::2], readings[1::2], strict=True):
        assert asked[begin - 1] == "cache" and asked[begin + 1 : end].count("stepwise") == 4
