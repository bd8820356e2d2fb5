"""From a journal to verdicts: pairing, Holm, refusals, and sentences."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from harness.judge.verdicts import Question, block_ratios, holm, judge_run, refusal
from harness.plan import Comparison
from harness.record.events import (
    ArmEntry,
    BlockState,
    Case,
    Finding,
    ParityResult,
    RunStarted,
    SampleAgreement,
    Verdict,
    Window,
    WorkerStarted,
)
from harness.record.run import RecordedRun
from harness.suites.sampling.cells import Cell
from harness.suites.sampling.part import Sampling
from harness.suites.training import Training
from reports.terminal import sentence

INFO = {"framework": "Scripted", "version": "1", "device": "cpu", "device_name": "x", "device_uuid": None,
        "dtype": "float32", "tf32": False, "threads": 2, "operators": {}, "flags": {}}
AB = Comparison("A", "B")


def asked(comparison=AB, kind="stepwise"):
    return Question(comparison, "step time", kind)



def recorded(times, pairs=10, info=None, parity=True, count=100, dirty=()):
    """A run whose arm `slot` takes times[slot][block] milliseconds a step."""
    slots = list(times)
    arms = [ArmEntry(slot=slot, name=f"arm{slot}") for slot in slots]
    events = [RunStarted(run_id="r", suite="train-speed", started_utc="", command=[], bench={}, experiment={},
                         arms=arms, config_sha256="", declared={})]
    for slot in slots[1:]:
        events.append(ParityResult(
            arm_a=slots[0], arm_b=slot, preset="tiny", batch_size=4, parameters_equal=True, forward_max_abs=0,
            gradient_worst_rel=0, gradient_worst_name="w", adam_max_abs=0, loss_rel_diff=[], control_rel_diff=[],
            tolerances={}, passed=parity, reason=None if parity else "loss differs"))
    for slot in slots:
        events.append(WorkerStarted(arm=slot, block=0, pid=1, spawn_ns=1, import_ns=1, build_ns=1, first_step_ns=1,
                                    first_stamp_ns=1, parameter_count=count if slot == "A" else 100,
                                    info={**INFO, **((info or {}).get(slot, {}))}))
    for block in range(len(times[slots[0]])):
        for slot in slots:
            step = round(times[slot][block] * 1e6)
            for pair in range(pairs):
                for kind, steps in (("stepwise", 2), ("free", 20)):
                    events.append(Window(kind=kind, arm=slot, block=block, pair=pair, position=0, start_ns=0,
                                         end_ns=steps * step, steps=steps, step_ns=[step] * 2 * (kind == "stepwise")))
            events.append(Case(case_id=f"block-{block}-{slot}", arm=slot, block=block, status="measured"))
        events.append(BlockState(block=block, order_seed=0, dirty=block in dirty))
    return RecordedRun(Path("results/r"), tuple(events))


def around(ratio, spread, seed=0, blocks=8):
    return list(100 * ratio * np.exp(spread * np.random.default_rng(seed).standard_normal(blocks)))


def test_the_block_ratio_is_of_time_per_step():
    run = recorded({"A": [200.0] * 6, "B": [100.0] * 6})
    for kind in ("stepwise", "free"):
        ratios = block_ratios(run, asked(kind=kind))
        assert ratios.blocks == (0, 1, 2, 3, 4, 5)
        assert [math.exp(value) for value in ratios.medians] == pytest.approx([2.0] * 6)


def test_only_blocks_that_both_arms_finished_count():
    run = recorded({"A": [200.0] * 6, "B": [100.0] * 6})
    events = tuple(e for e in run.events if not (isinstance(e, Case) and e.case_id == "block-3-B"))
    assert block_ratios(RecordedRun(run.path, events), asked()).blocks == (0, 1, 2, 4, 5)


def test_pairs_that_lack_a_side_are_left_out():
    run = recorded({"A": [200.0] * 6, "B": [100.0] * 6})
    events = tuple(e for e in run.events if not (isinstance(e, Window) and e.arm == "A" and e.pair > 3))
    assert block_ratios(RecordedRun(run.path, events), asked()).ratios[0].pairs == 4


@pytest.mark.parametrize(("change", "word"), [
    ({"info": {"B": {"dtype": "bfloat16"}}}, "dtype"),
    ({"info": {"B": {"threads": 1}}}, "threads"),
    ({"info": {"B": {"device": "cuda"}}}, "device"),
    ({"info": {"A": {"device": "cuda"}, "B": {"device": "cuda", "tf32": True}}}, "tf32"),
    ({"count": 99}, "parameter"),
    ({"parity": False}, "parity: loss differs"),
])
def test_unfair_comparisons_are_refused_with_the_field_named(change, word):
    run = recorded({"A": [200.0] * 6, "B": [100.0] * 6}, **change)
    for verdict in (event for event in judge_run(run, [AB], Training()) if isinstance(event, Verdict)):
        assert verdict.word == "not-comparable" and word in verdict.reason.lower()
        assert verdict.ratio == pytest.approx(2.0)
        assert "not-comparable" in sentence(verdict, run.arms)


def test_no_parity_result_is_no_permission():
    run = recorded({"A": [200.0] * 6, "B": [100.0] * 6})
    events = tuple(e for e in run.events if not isinstance(e, ParityResult))
    without = RecordedRun(run.path, events)
    assert "parity" in refusal(without, AB, Training())
    assert refusal(without, Comparison("A", "B", selfcheck=True), Training()) is None


def test_holm_is_harder_on_several_comparisons_and_relaxes_after_each_success():
    run = recorded({"A": [100.0] * 8, "B": around(1.5, 0.01, 1), "C": around(1.025, 0.011, 2)})
    comparisons = [AB, Comparison("A", "C")]
    family = [asked(c) for c in comparisons]
    alphas = holm(family, {q: block_ratios(run, q) for q in family})
    assert alphas == {family[0]: pytest.approx(0.025), family[1]: pytest.approx(0.05)}
    verdicts = [e for e in judge_run(run, comparisons, Training()) if isinstance(e, Verdict)]
    assert [(v.metric, v.arm_b, v.alpha) for v in verdicts] == [
        ("step time", "B", 0.025), ("step time", "C", 0.05),
        ("free-running step time", "B", 0.05), ("free-running step time", "C", 0.05)]


def test_an_undecided_comparison_does_not_relax_the_next():
    run = recorded({"A": [100.0] * 8, "B": around(1.02, 0.03, 1), "C": around(1.0, 0.05, 2)})
    family = [asked(), asked(Comparison("A", "C"))]
    alphas = holm(family, {q: block_ratios(run, q) for q in family})
    assert set(alphas.values()) == {0.025}


def test_a_verdict_that_hangs_on_disturbed_blocks_is_withdrawn():
    run = recorded({"A": [100.0] * 6 + [150.0] * 6, "B": [100.0] * 12}, dirty=range(6, 12))
    verdict = next(e for e in judge_run(run, [AB], Training()) if isinstance(e, Verdict))
    assert (verdict.word, verdict.reason, verdict.blocks) == ("inconclusive", "machine", 12)


def test_no_common_block_is_said():
    run = recorded({"A": [100.0] * 6, "B": [100.0] * 6})
    events = tuple(e for e in run.events if not (isinstance(e, Case) and e.arm == "B"))
    verdict = next(e for e in judge_run(RecordedRun(run.path, events), [AB], Training()) if isinstance(e, Verdict))
    assert verdict.ratio is None and verdict.word == "inconclusive" and "no block" in verdict.reason
    assert "no block" in sentence(verdict, run.arms)


def test_selfchecks_give_a_noise_floor_and_their_own_metric():
    run = recorded({"A": around(1, 0.003, 3), "B": around(1, 0.003, 4)})
    events = judge_run(run, [Comparison("A", "B", selfcheck=True)], Training())
    assert {e.metric for e in events if isinstance(e, Verdict)} == {
        "step time (self-check)", "free-running step time (self-check)"}
    assert [e.code for e in events if isinstance(e, Finding)].count("noise-floor") == 2


def test_sentences_name_arms_ratio_and_interval():
    run = recorded({"A": around(2, 0.003, 3), "B": around(1, 0.003, 4)})
    verdict = next(e for e in judge_run(run, [AB], Training()) if isinstance(e, Verdict))
    text = sentence(verdict, run.arms)
    assert re.match(r"armB is 2\.0+ times as fast as armA in step time \[B-faster\]: time armA / time armB = 1", text)
    assert text.endswith("8 blocks")
    same = sentence(verdict, {"A": "x", "B": "x"})
    assert "x (A)" in same and "x (B)" in same


CELLS = ["ddim-10", "ddim-50"]
SAMPLING = Sampling((Cell("ddim", 10), Cell("ddim", 50)), ())
SAMPLING_TIME, SAMPLING_MEAN, CALL_TIME = (
    metric.name for metric in (Sampling.metrics.main, *Sampling.metrics.further))


def sampled(ratios, agree=True, pairs=3):
    """A sampling run: arm A takes ratios[cell][block] times the 100 ms of arm B for each network call."""
    arms = [ArmEntry(slot=slot, name=f"arm{slot}") for slot in "AB"]
    events = [RunStarted(run_id="r", suite="sample-speed", started_utc="", command=[], bench={}, experiment={},
                         arms=arms, config_sha256="", declared={"cells": CELLS})]
    events += [WorkerStarted(arm=slot, block=0, pid=1, spawn_ns=1, import_ns=1, build_ns=1, first_step_ns=1,
                             first_stamp_ns=1, parameter_count=100, info=INFO) for slot in "AB"]
    if agree is not None:
        events.append(SampleAgreement(arm_a="A", arm_b="B", cell="ddim-10", images=4, within_one=1.0, largest=1,
                                      tolerance=0.999, passed=agree, reason=None if agree else "other pictures"))
    for block in range(len(ratios[CELLS[0]])):
        for slot in "AB":
            for cell in CELLS:
                steps = int(cell.split("-")[1])
                ns = round(100e6 * steps * (ratios[cell][block] if slot == "A" else 1))
                events += [Window(kind="sample", arm=slot, block=block, pair=pair, position=0, start_ns=0, end_ns=ns,
                                  steps=steps, step_ns=[], cell=cell, images=4) for pair in range(pairs)]
            events.append(Window(kind="sweep", arm=slot, block=block, pair=0, position=0, start_ns=0, end_ns=1,
                                 steps=10, step_ns=[], cell="ddim-10", images=8))
            events.append(Window(kind="stepwise", arm=slot, block=block, pair=0, position=0, start_ns=0,
                                 end_ns=100_000_000, steps=1, step_ns=[100_000_000]))
            events.append(Case(case_id=f"block-{block}-{slot}", arm=slot, block=block, status="measured"))
        events.append(BlockState(block=block, order_seed=0, dirty=False))
    return RecordedRun(Path("results/r"), tuple(events))


def test_sampling_is_judged_per_cell_under_holm_and_by_the_geometric_mean():
    run = sampled({"ddim-10": [r / 50 for r in around(1, 0.004, 1)], "ddim-50": [r / 25 for r in around(1, 0.004, 2)]})
    verdicts = [e for e in judge_run(run, [AB], SAMPLING) if isinstance(e, Verdict)]
    found = {(v.metric, v.cell): v for v in verdicts}
    assert list(found) == [(SAMPLING_MEAN, None), (SAMPLING_TIME, "ddim-10"), (SAMPLING_TIME, "ddim-50"),
                           (CALL_TIME, None)]
    ten, fifty, mean = (found[key] for key in list(found)[1:3] + list(found)[:1])
    assert mean.ratio == pytest.approx(math.sqrt(ten.ratio * fifty.ratio))
    assert mean.word == "B-faster" and mean.blocks == 8
    assert sorted([ten.alpha, fifty.alpha]) == [0.025, 0.05]
    assert found[(CALL_TIME, None)].ratio == pytest.approx(1)
    assert "sampling time, ddim-50" in sentence(fifty, run.arms)


@pytest.mark.parametrize(("agree", "word"), [(False, "images: other pictures"), (None, "not compared")])
def test_arms_that_draw_other_images_are_not_compared(agree, word):
    run = sampled({cell: [2.0] * 6 for cell in CELLS}, agree=agree)
    for verdict in (e for e in judge_run(run, [AB], SAMPLING) if isinstance(e, Verdict)):
        assert verdict.word == "not-comparable" and word in verdict.reason
