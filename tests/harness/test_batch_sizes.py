"""Which batch size a run was measured with: each part says its own, and all that show one agree with what was run."""

from __future__ import annotations

import pytest
from fake_tools import ARMS, FakeTools

from harness.options import BenchConfig, experiment
from harness.part import Asked
from harness.plan import dry_run, make_plans
from harness.record.events import ImagesSampled, ParityResult, StepCost, Trained
from impls.recipe.config import preset
from reports.chapters.answer import verdicts
from reports.export.rows import tables
from reports.index import entry
from reports.suites.registry import whole

TINY = preset("tiny")
SHORT = {"arms": "scripted,scripted", "blocks": 6, "pairs": 2, "epochs": 0}


def shown(run):
    """What index, cards and export say."""
    (row,) = tables(run)["runs"]
    return entry(run.path).setting, verdicts.setting(whole(run)), row.train_batch_size, row.sample_batch_size


@pytest.mark.parametrize("given", [None, 5])
def test_a_quality_run_tells_the_batches_of_its_trainings_and_samplings(lab, given):
    lab.tools = FakeTools()
    _, run = lab.run(suite="quality", arms=ARMS, num_images=6, steps="10", train_steps="2", batch_size=given)
    (trained,) = {one.batch_size for one in run.of(Trained)}
    (sampled,) = {one.batch_size for one in run.of(ImagesSampled)}
    assert trained == 16 != TINY.train.batch_size and sampled == (given or TINY.sample.batch_size)
    asked = {options["batch_size"][0] for tool, options in lab.tools.calls if tool == "sample"}
    assert asked == {str(sampled)}
    words = "batch 16" if sampled == trained else f"batch {trained} to train, {sampled} to sample"
    index, card, train, sample = shown(run)
    assert index.endswith(words) and words in card and (train, sample) == (trained, sampled)


@pytest.mark.parametrize("given", [None, 3])
def test_a_parity_run_tells_its_few_images(lab, given):
    _, run = lab.run(suite="parity", arms="scripted,scripted", steps=5, batch_size=given)
    used = run.of(ParityResult)[0].batch_size
    assert used == (given or 4) != TINY.train.batch_size
    index, card, train, sample = shown(run)
    assert index.endswith(f"batch {used}") and f"batch {used}" in card and (train, sample) == (used, None)


@pytest.mark.parametrize("suite", ["train-speed", "sample-speed"])
def test_a_timed_run_tells_the_batch_of_its_steps(lab, suite):
    steps = {"steps": "2"} if suite == "sample-speed" else {}
    _, run = lab.run(**SHORT, suite=suite, batch_size=6, **steps)
    index, card, train, sample = shown(run)
    assert index.endswith("batch 6") and "batch 6" in card and {train, sample} == {6, None}
    assert run.last(StepCost).step_flop % 6 == 0


def test_a_run_that_was_recorded_before_parts_declared_theirs_is_told_by_its_recipe(lab):
    _, run = lab.run(**SHORT, batch_size=6)
    run.started.declared.pop("batch_sizes")
    assert whole(run).batch_size == 6 and tables(run)["runs"][0].train_batch_size == 6


def test_the_dry_run_prints_the_same():
    config = BenchConfig(suite="quality", device="cpu", preset="tiny", train_steps="2")
    recipe = experiment(config, {}, "cpu")
    text = dry_run(config, recipe, make_plans(Asked(config, "cpu", recipe.diffusion.T)), "as asked")
    assert f"batches of 16 to train and {TINY.sample.batch_size} to sample" in text
    assert '"batch_sizes"' in text
