"""The quality part: what is started with which options, what is recorded, and what a fault costs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tools import ARMS, FakeTools, cases

from harness.options import BenchConfig
from harness.part import Asked
from harness.plan import make_plans
from harness.record.events import (
    BlockState,
    Case,
    Finding,
    ImagesSampled,
    NearestImages,
    Overhead,
    ParityResult,
    Quality,
    QualityDifference,
    ReferenceFeatures,
    Share,
    Trained,
    Verdict,
    Window,
    WorkerStarted,
)
from harness.record.summary import summary
from harness.suites.quality.part import Quality as QualityPart
from harness.suites.quality.part import check_weights_fit
from harness.suites.quality.stages import nearest_cell
from harness.suites.sampling.cells import Cell
from harness.suites.sampling.part import Sampling
from harness.suites.training import Training
from harness.suites.why.part import Why
from impls.backend import TrainerState
from impls.errors import UsageError
from impls.recipe.config import preset
from impls.store.checkpoint import save_state
from reports.report import build


def test_every_arm_trains_draws_and_is_judged(quality, lab):
    end, run = quality()
    assert end.status == "complete"
    assert [(event.arm, event.steps) for event in run.of(Trained)] == [("A", 2), ("B", 2), ("A", 4), ("B", 4)]
    drawn = [(event.arm, event.cell, event.train_steps) for event in run.of(ImagesSampled)]
    # Before the last milestone only one cell is looked at.
    assert drawn == [(arm, cell, steps) for cell, steps in (("ddim-10", 2), ("ddim-10", 4), ("ddim-50", 4))
                     for arm in "AB"]
    assert len(run.of(Quality)) == 6 and len(run.of(ReferenceFeatures)) == 1
    assert [event.arm for event in run.of(NearestImages)] == ["A", "B"]
    assert set(cases(run).values()) == {"measured"} and not run.of(Verdict)
    for event in [*run.of(ImagesSampled), *run.of(NearestImages)]:
        name = event.npz if isinstance(event, ImagesSampled) else event.picture
        assert (run.path / name).is_file()
    left = {path.name for path in run.path.rglob(".*")}
    assert not left
    assert summary(run).quality[0]["label"] == "FD efficientnet-lite0"


def test_the_tools_get_what_was_asked_for(quality, lab):
    quality(steps="10,ddpm", reference_images=1500, eta=0.5)
    tools = [tool for tool, _ in lab.tools.calls]
    assert tools[:3] == ["evaluate", "train", "train"]
    first = lab.tools.calls[0][1]
    assert "images" not in first and first["reference"] == ["digits"] and first["reference_images"] == ["1500"]
    start, later = (options for tool, options in lab.tools.calls if tool == "train" and
                    options["backend"] == ["scripted:slow"])
    assert start["max_steps"] == ["2"] and "model_path" not in start and start["sample_every"] == ["0"]
    assert later["max_steps"] == ["4"] and later["model_path"][0].endswith("training-1")
    ddim = [options for tool, options in lab.tools.calls if tool == "sample" and "steps" in options]
    assert {options["eta"][0] for options in ddim} == {"0.5"}
    ddpm = next(options for tool, options in lab.tools.calls if tool == "sample" and "steps" not in options)
    assert "eta" not in ddpm and "spacing" not in ddpm and ddpm["num_images"] == ["6"]
    recipe = json.loads(Path(start["config"][0]).read_text())["experiment"]
    assert recipe["train"]["randomness"] == "matched" and recipe["train"]["batch_size"] == 16


def test_seconds_are_those_of_the_typical_batch(quality):
    _, run = quality()
    # 0.6 s an image in the typical batch; the first one compiled.
    assert [event.seconds for event in run.of(ImagesSampled)] == pytest.approx([3.6] * 6)
    assert {event.loss for event in run.of(Trained) if event.steps == 4} == {0.25}


def test_equal_weights_are_told_from_different_ones(quality, lab, tmp_path):
    save_state(tmp_path / "one.safetensors", TrainerState(1, {}, None, {}, {}), preset("tiny"))
    _, run = quality(train_steps=None, model_path=(str(tmp_path / "one.safetensors"),))
    assert not run.of(Trained)
    assert {event.matched_weights for event in run.of(QualityDifference)} == {True}
    _, run = quality()
    assert {event.matched_weights for event in run.of(QualityDifference)} == {False}


def test_a_failed_training_costs_its_arm_alone(quality, lab):
    lab.tools.faults = {"train-B-2": "crash"}
    end, run = quality()
    assert end.exit_code == 1
    assert cases(run)["train-B-2"] == "failed" and cases(run)["quality-B"] == "skipped"
    assert {event.arm for event in run.of(Quality)} == {"A"}
    tail = next(case.log_tail for case in run.of(Case) if case.case_id == "train-B-2")
    assert tail == ["the tool says hello"]


def test_a_failed_set_and_a_failed_judgement_cost_no_more_than_that(quality, lab):
    lab.tools.faults = {"images-A-ddim-10-4": "hang", "quality-ddim-10-2": "memory"}
    end, run = quality()
    assert end.exit_code == 1
    assert [(event.arm, event.cell, event.train_steps) for event in run.of(Quality)] == [
        ("B", "ddim-10", 4), ("A", "ddim-50", 4), ("B", "ddim-50", 4)]


def test_a_bad_feature_network_is_refused_before_anything_is_trained(quality, lab):
    lab.tools.faults = {"quality-reference": "usage"}
    with pytest.raises(UsageError, match="quality-reference went wrong"):
        quality()
    assert [tool for tool, _ in lab.tools.calls] == ["evaluate"]


def test_no_two_networks_judge_one_run(lab):
    class Drifting(FakeTools):
        def evaluate(self, options):
            super().evaluate(options)
            if "images" in options:
                path = Path(options["json"][0])
                path.write_text(path.read_text().replace("FD efficientnet-lite0", "FID"))

    lab.tools = Drifting()
    end, run = lab.run(suite="quality", arms=ARMS, num_images=6, steps="10,50", train_steps="2,4")
    assert end.exit_code == 1 and not run.of(Quality)
    assert {options["features"][0] for tool, options in lab.tools.calls if tool == "evaluate"} == {
        "auto", "efficientnet-lite0"}
    assert "label was FD efficientnet-lite0 and is FID now" in str([case.reason for case in run.of(Case)])


def test_a_late_fault_keeps_what_the_parts_before_have_measured(lab):
    lab.tools = FakeTools(faults={"train-A-2": "usage"})
    end, run = lab.run(suite="all", arms=ARMS, blocks=6, pairs=4, epochs=0, num_images=6, steps="2,3", train_steps="2")
    assert end.exit_code == 1 and cases(run)["train-A-2"] == "failed" and len(run.of(Verdict)) == 6


def test_a_self_check_of_all_parts_judges_each_by_itself(lab):
    lab.tools = FakeTools()
    lab.telemetry.reasons = [["heat"]]
    _, run = lab.run(suite="all", arms="scripted", blocks=6, pairs=4, epochs=0, num_images=6, steps="2,3",
                     train_steps="2", selfcheck=True)
    told = {code: [f.message for f in run.of(Finding) if f.code == code]
            for code in ("resolution", "harness-overhead", "synchronised")}
    for messages in told.values():
        assert len(messages) == 2, messages
        training, sampling = messages
        assert "when sampling" in sampling and "when sampling" not in training
    assert "ratios of 7 blocks, 1 of them disturbed" in told["resolution"][0]
    assert "disturbed" not in told["resolution"][1]
    assert "losses" in told["synchronised"][0] and "losses" not in told["synchronised"][1]
    counts = [sum(len(o.bare_ns) for o in run.of(Overhead) if o.what == "harness" and o.part == part)
              for part in ("training", "sampling")]
    assert all(f"{n} pairs" in message for n, message in zip(counts, told["harness-overhead"], strict=True))
    # Where one arm is alone nothing is explained, nor said to lack blocks.
    assert not run.of(Share)


STEP_TIME, SAMPLING_TIME = Training.metrics.main.name, Sampling.metrics.main.name


def test_all_runs_every_part_into_one_journal(lab):
    lab.tools = FakeTools()
    end, run = lab.run(suite="all", arms=ARMS, blocks=6, pairs=4, epochs=0, num_images=6, steps="2,3", train_steps="2")
    assert end.status == "complete"
    metrics = {verdict.metric for verdict in run.of(Verdict)}
    assert STEP_TIME in metrics and len(metrics) == 5
    assert all(verdict.word == "A-faster" for verdict in run.of(Verdict) if verdict.metric == STEP_TIME)
    assert run.started.declared["parts"] == ["training", "why", "sampling", "quality"]
    assert run.started.declared["cells"] == ["ddim-2", "ddim-3"]
    by_part = run.started.declared["by_part"]
    assert (by_part["training"]["metric"], by_part["sampling"]["metric"]) == (STEP_TIME, SAMPLING_TIME)
    page = build(run.path).read_text(encoding="utf-8")
    for words in ("Training: ", "Sampling: ", "FD efficientnet-lite0", "Why: where the gap comes from"):
        assert words in page
    assert "Why: parity" not in page
    assert len(run.of(Quality)) == 4
    assert {verdict.blocks for verdict in run.of(Verdict)} == {6}
    assert Counter(case.part for case in run.of(Case)) == {
        "training": 15, "why": 2 * 6 + 2 * len(("extras", *Why.beside)), "sampling": 19, "quality": 9}
    # Without its first line a run still knows what belongs to which part.
    headless = replace(run, events=run.events[1:])
    assert headless.parts == run.parts
    for part in run.parts:
        assert headless.part(part).events == run.part(part).events[1:]
    parts = [run.part(name) for name in run.parts]
    assert [len(one.of(BlockState)) for one in parts] == [6, 6, 6, 0]
    assert [len({one.kind for one in each.of(Window)}) for each in parts] == [2, 1, 3, 0]
    # The training has judged the step time, and its gate is that of the causes, too.
    assert [len(one.of(Verdict)) for one in parts] == [2, 0, 4, 0]
    assert [bool(one.of(Share)) for one in parts] == [False, True, False, False]
    assert len(run.of(ParityResult)) == 1 and [one.role for one in run.of(WorkerStarted)].count("parity") == 2


def test_parts_never_share_a_block_number():
    plans = make_plans(Asked(BenchConfig(suite="all", arms="pytorch,jittor"), "cpu"))
    numbers = [number for plan in plans if plan.timed for number in plan.block_numbers]
    assert len(numbers) == len(set(numbers)) == 2 * (12 + 3 + 1) + (6 + 1 + 1)
    assert plans[0].part.parity.steps == 50 and not any(getattr(plan.part, "parity", None) for plan in plans[1:])


def test_many_warnings_are_one_finding(quality):
    _, run = quality()
    assert len([f for f in run.of(Finding) if f.code == "few-images"]) == 1


def test_weights_that_draw_other_images_are_refused(tmp_path):
    save_state(tmp_path / "w.safetensors", TrainerState(1, {}, None, {}, {}), preset("tiny"))
    plan = QualityPart((Cell("ddim", 5),), (), 6, None, "auto", {"pytorch": tmp_path / "w.safetensors"})
    check_weights_fit(plan.weights, (32, 32, 3))
    with pytest.raises(UsageError, match="32x32x3, the data set has 28x28x1"):
        check_weights_fit(plan.weights, (28, 28, 1))


def test_the_time_limit_ends_the_run_with_a_finding(lab):
    class Slow(FakeTools):
        def run(self, *words, **options):
            lab.clock.sleep(40)
            return super().run(*words, **options)

    lab.tools = Slow()
    end, run = lab.run(suite="quality", arms=ARMS, num_images=6, steps="10,50", train_steps="2,4", time_limit=2.0)
    assert (end.status, end.exit_code) == ("interrupted", 1)
    assert [finding.code for finding in run.of(Finding)].count("time-limit") == 1
    assert len(lab.tools.calls) == 4 and len(run.of(Trained)) == 2


def test_the_cell_with_most_calls_is_searched_for_copies():
    assert nearest_cell([Cell("ddim", 10), Cell("ddpm", 1000), Cell("ddim", 50)]) == Cell("ddpm", 1000)


def test_a_missing_distance_is_said_with_its_reason():
    result = Quality(arm="A", cell="ddim-5", train_steps=3, extractor="x", label="FD x", images=4, ladder=[],
                     figures=[{"metric": "fd", "value": None, "reason": "singular"}], interval="")
    assert result.sentence("pytorch") == "FD x of pytorch, ddim-5 after 3 training steps, 4 images: n/a (singular)"
