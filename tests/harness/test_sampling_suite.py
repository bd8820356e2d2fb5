"""Whole sampling runs in this process: the scripted backend decides how long a network call takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from harness.options import BenchConfig, parse
from harness.part import Asked
from harness.plan import describe, make_plans, turn_order
from harness.record.events import (
    BlockState,
    Case,
    Epoch,
    Losses,
    Overhead,
    Peak,
    Resumed,
    SampleAgreement,
    SamplesDrawn,
    StepCost,
    SyncProof,
    Trap,
    Verdict,
    Window,
    WorkerStarted,
)
from harness.record.run import finished_blocks, read_run
from harness.record.writer import RunWriter
from harness.run.runner import Runner
from harness.suites.sampling import batches
from harness.suites.sampling.cells import Cell, cells, cheapest, shown
from harness.suites.sampling.part import Sampling
from harness.suites.weights import origin
from impls.errors import UsageError
from impls.recipe.config import preset

SAMPLING_TIME, SAMPLING_MEAN, CALL_TIME = (
    metric.name for metric in (Sampling.metrics.main, *Sampling.metrics.further))
SHORT = {"suite": "sample-speed", "arms": "scripted,scripted:slow", "blocks": 6, "pairs": 4, "steps": "5,10"}


@pytest.fixture(autouse=True)
def few_batches(monkeypatch):
    monkeypatch.setattr(batches, "CELL_S", {"cpu": 4.0})
    monkeypatch.setattr("harness.suites.sampling.part.SWEEP", {"cpu": (1, 4), "cuda": (1, 128)})


def test_every_kind_of_fact_is_recorded(lab):
    end, run = lab.run(**SHORT)
    assert (end.status, end.exit_code) == ("complete", 0)
    count = Counter(type(event) for event in run.events)
    for kind in (StepCost, SamplesDrawn, SampleAgreement, Trap, SyncProof, Overhead, Peak, BlockState, Verdict):
        assert count[kind], f"no {kind.__name__} in the journal"
    assert not count[Epoch] and not count[Losses]
    assert {(trap.arm, trap.cell) for trap in run.of(Trap)} == {("A", "ddim-5"), ("B", "ddim-5")}
    assert run.started.declared["cells"] == ["ddim-5", "ddim-10"]
    assert run.started.declared["sweep"] == {"cell": "ddim-5", "batch_sizes": [1, 4]}
    assert all(case.status == "measured" for case in run.of(Case))


def test_a_slower_sampler_is_found_in_every_cell_and_in_their_mean(lab):
    _, run = lab.run(**SHORT)
    found = {(v.metric, v.cell): v for v in run.of(Verdict)}
    assert list(found) == [(SAMPLING_MEAN, None), (SAMPLING_TIME, "ddim-5"), (SAMPLING_TIME, "ddim-10"),
                           (CALL_TIME, None)]
    for verdict in found.values():
        assert verdict.word == "A-faster" and verdict.ratio == pytest.approx(1 / 1.1)


def test_whole_batches_alternate_with_the_same_noise_for_both(lab):
    asked = []
    lab.sessions.spy = lambda command: asked.append(command) if getattr(command, "op", "") == "batch" else None
    _, run = lab.run(**SHORT)
    for state in run.of(BlockState):
        windows = [w for w in run.of(Window) if w.kind == "sample" and w.block == state.block]
        for cell in ("ddim-5", "ddim-10"):
            pairs = sorted({w.pair for w in windows if w.cell == cell})
            assert len(pairs) >= batches.LEAST_PAIRS
            for pair in pairs:
                turns = sorted((w for w in windows if w.cell == cell and w.pair == pair), key=lambda w: w.start_ns)
                assert [w.arm for w in turns] == turn_order("AB", state.order_seed, pair)
                assert all(w.end_ns - w.start_ns >= w.steps * 100e6 for w in turns)
    whole = [command for command in asked if command.calls is None]
    assert max(Counter(command.seed for command in whole).values()) >= 2
    assert {command.images for command in whole} == {4, 1}
    rehearsed = [command for command in asked if command.calls is not None]
    assert {command.calls for command in rehearsed} == {batches.REHEARSED_CALLS}


def test_the_sweep_is_measured_once_and_judged_never(lab):
    _, run = lab.run(**SHORT)
    sweep = [w for w in run.of(Window) if w.kind == "sweep"]
    assert {w.block for w in sweep} == {0}
    assert Counter((w.arm, w.images) for w in sweep) == {(arm, n): 2 for arm in "AB" for n in (1, 4)}


def test_the_pictures_are_files_of_the_run(lab):
    _, run = lab.run(**SHORT)
    for drawn in run.of(SamplesDrawn):
        with Image.open(run.path / drawn.grid) as grid, Image.open(run.path / drawn.gif) as gif:
            assert grid.format == "PNG" and gif.format == "GIF"
            assert grid.size == gif.size == (4 * 34 + 2, 4 * 34 + 2)
            assert drawn.weights == "random"


def test_arms_that_draw_other_images_get_no_verdict(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted,scripted:wrong"})
    (agreement,) = run.of(SampleAgreement)
    assert not agreement.passed and agreement.largest == 7 and agreement.within_one == 0
    assert {verdict.word for verdict in run.of(Verdict)} == {"not-comparable"}
    assert (end.status, end.exit_code) == ("failed", 1)
    (case,) = [case for case in run.of(Case) if case.status == "failed"]
    assert (case.case_id, case.arm) == ("images-B", "B") and case.reason == agreement.reason
    assert (run.path / case.log).exists()


@pytest.mark.parametrize("last", ["images-B", '"type":"sample-agreement"', '"type":"block"'])
def test_other_images_are_still_a_failure_after_an_interruption(lab, last):
    options = {**SHORT, "arms": "scripted,scripted:wrong"}
    _, whole = lab.run(**options)
    journal = (whole.path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(journal) if last.encode() in line)
    (whole.path / "journal.jsonl").write_bytes(b"".join(journal[: cut + 1]))
    writer = RunWriter(whole.path, lab.clock)
    bench, opening = lab.bench(BenchConfig(**{"device": "cpu", "preset": "tiny", **options}), writer)
    end = Runner(bench, lab.going_on(opening, read_run(whole.path))).run()
    assert (end.status, end.exit_code) == ("failed", 1)
    run = read_run(whole.path)
    assert len(run.of(SampleAgreement)) == 1
    assert {verdict.word for verdict in run.of(Verdict)} == {"not-comparable"}


def test_without_the_first_arms_images_the_comparison_is_skipped(lab, monkeypatch):
    monkeypatch.setattr("scripted_backend.CRASH_AT", 3)
    end, run = lab.run(**{**SHORT, "arms": "scripted:crash,scripted"})
    assert next(case for case in run.of(Case) if case.case_id == "images-B").status == "skipped"
    assert end.exit_code == 1


def test_an_arm_that_crashes_in_a_batch_is_a_failed_case(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted,scripted:crash"})
    failed = [case for case in run.of(Case) if case.status == "failed"]
    assert failed and all(case.arm == "B" for case in failed)
    assert end.exit_code == 1
    assert {w.arm for w in run.of(Window) if w.kind == "sample" and w.block == 5} == {"A"}


def test_an_interrupted_run_goes_on_with_the_same_weights(lab):
    end, whole = lab.run(**SHORT)
    config = BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT})
    journal = (whole.path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(journal) if b'"type":"block"' in line and b'"block":2,' in line)
    (whole.path / "journal.jsonl").write_bytes(b"".join(journal[:cut]) + journal[cut][:10])
    before = (lab.tmp_path / "weights.safetensors").read_bytes()
    (lab.tmp_path / "weights.safetensors").unlink()
    writer = RunWriter(whole.path, lab.clock)
    bench, opening = lab.bench(config, writer)
    resumed = lab.going_on(opening, read_run(whole.path))
    end = Runner(bench, resumed).run()
    writer.finish(end)
    run = read_run(whole.path)
    assert end.exit_code == 0 and run.of(Resumed)
    assert sorted(finished_blocks(run)) == [0, 1, 2, 3, 4, 5]
    assert len(run.of(SamplesDrawn)) == 2
    assert (lab.tmp_path / "weights.safetensors").read_bytes() == before


def test_a_run_interrupted_between_two_arms_drawing_compares_them_on_resume(lab):
    _, whole = lab.run(**SHORT)
    config = BenchConfig(**{"device": "cpu", "preset": "tiny", **SHORT})
    journal = (whole.path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(journal) if b'"type":"samples"' in line)
    (whole.path / "journal.jsonl").write_bytes(b"".join(journal[: first + 1]))
    writer = RunWriter(whole.path, lab.clock)
    bench, opening = lab.bench(config, writer)
    writer.finish(Runner(bench, lab.going_on(opening, read_run(whole.path))).run())
    run = read_run(whole.path)
    assert len(run.of(SampleAgreement)) == 1
    assert {verdict.word for verdict in run.of(Verdict)} == {"A-faster"}


def test_other_weights_are_refused_on_resume(lab):
    _, run = lab.run(**SHORT)
    for event in run.of(SamplesDrawn):
        object.__setattr__(event, "weights", origin(None))
    part = make_plans(Asked(BenchConfig(suite="sample-speed"), "cpu"))[0].part
    part.check(None, None, run)
    object.__setattr__(run.of(SamplesDrawn)[-1], "weights", "EMA weights of a.safetensors")
    with pytest.raises(UsageError, match="it sampled from EMA weights"):
        part.check(None, None, run)


def test_a_cold_start_is_one_of_a_sampler(lab):
    asked = []
    lab.sessions.spy = lambda command: asked.append(command.op)
    end, run = lab.run(**{**SHORT, "cold_start": True})
    cold = [worker.arm for worker in run.of(WorkerStarted) if worker.role == "cold-start"]
    assert end.exit_code == 0 and sorted(cold) == ["A", "B"]
    assert "build-sampler" in asked and "build" not in asked


def test_one_arm_alone_is_measured(lab):
    end, run = lab.run(**{**SHORT, "arms": "scripted"})
    assert end.exit_code == 0 and not run.of(Verdict) and len(run.of(SamplesDrawn)) == 1


def test_an_arm_against_itself(lab):
    _, run = lab.run(**{**SHORT, "arms": "scripted,scripted"})
    assert {verdict.word for verdict in run.of(Verdict)} == {"equivalent"}
    assert len(run.of(SamplesDrawn)) == 1 and run.of(SampleAgreement)[0].passed


def test_cells_of_a_command_line():
    assert cells("10, 50,ddpm", 1000) == (Cell("ddim", 10), Cell("ddim", 50), Cell("ddpm", 1000))
    chosen = cells("10,50,250,ddpm", 1000)
    assert cheapest(chosen).name == "ddim-10" and shown(chosen).name == "ddim-50"
    assert shown(cells("250,ddpm", 1000)).name == "ddim-250"


@pytest.mark.parametrize(("text", "word"), [
    ("", "empty"), ("0", "from 1 to 100"), ("101", "from 1 to 100"), ("-1", "from 1 to 100"), ("ten", "'ten'"),
    ("10,10", "twice"), ("10,,50", "missing"), ("10,", "missing"), (",", "empty"), ("1e9", "1e9")])
def test_bad_cells_are_one_line(text, word):
    with pytest.raises(UsageError, match=word) as fault:
        cells(text, 100)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(("argv", "word"), [
    (["--suite", "train-speed", "--steps", "10,50"], "takes one whole number"),
    (["--suite", "parity", "--steps", "0"], "at least 1"),
    (["--suite", "train-speed", "--model-path", "x"], "does not sample")])
def test_options_of_another_suite_are_refused(argv, word):
    with pytest.raises(UsageError, match=word):
        parse(argv)


def test_the_plan_names_cells_batch_and_sweep():
    config = BenchConfig(suite="sample-speed")
    plan = make_plans(Asked(config, "cuda"))[0]
    assert [cell.name for cell in plan.part.cells] == ["ddim-10", "ddim-50", "ddim-250", "ddim-1000", "ddpm-1000"]
    assert plan.pairs == 20
    assert "ddpm-1000" in describe(plan, preset("ddpm"))
    assert plan.part.declared(plan)["metric"] == SAMPLING_TIME


def test_what_the_default_cells_leave_out_is_said():
    for steps, device, said in ((None, "cpu", 1), (None, "cuda", 0), ("5,ddpm", "cpu", 0), ("5", "cpu", 0)):
        config = BenchConfig(suite="sample-speed", steps=steps)
        assert len(make_plans(Asked(config, device))[0].part.remarks(config)) == said
    assert not make_plans(Asked(BenchConfig(), "cpu"))[0].part.remarks(BenchConfig())


def test_noise_differs_between_pairs_and_blocks_but_not_between_arms():
    seeds = [batches.seed_of(3, block, pair) for block in range(20) for pair in range(40)]
    assert len(set(seeds)) == len(seeds)
    assert np.max(seeds) < 2**63
