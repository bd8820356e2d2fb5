"""A quality part that was cut off, or had faults, goes on without doing anything twice."""

from __future__ import annotations

import pytest
from fake_tools import ARMS, FakeTools, cases

from harness.options import BenchConfig
from harness.record.events import ImagesSampled, NearestImages, Quality, QualityDifference, ReferenceFeatures, Trained
from harness.record.run import read_run
from harness.record.writer import RunWriter
from harness.run.runner import Runner
from harness.suites.quality.part import Quality as QualityPart
from harness.suites.quality.part import check_weights_fit
from harness.suites.sampling.cells import Cell
from impls.backend import TrainerState
from impls.errors import UsageError
from impls.recipe.config import preset
from impls.store.checkpoint import save_state


@pytest.mark.parametrize("dies_at", ["quality-reference", "train-B-2", "images-B-ddim-10-2", "quality-ddim-10-2",
                                     "train-A-4", "images-A-ddim-10-4", "quality-ddim-50-4"])
def test_an_interrupted_run_goes_on_without_doing_anything_twice(lab, dies_at):
    lab.tools = FakeTools()
    config = BenchConfig(suite="quality", arms=ARMS, num_images=6, steps="10,50", train_steps="2,4", device="cpu",
                         preset="tiny")
    bench, opening = lab.bench(config)

    class Killed(FakeTools):
        def run(self, tool, words, log, *others):
            if log.stem == dies_at:
                raise KeyboardInterrupt
            return super().run(tool, words, log, *others)

    bench.tools = first = Killed()
    with pytest.raises(KeyboardInterrupt):
        Runner(bench, opening).run()
    bench.writer.close()
    bench, opening = lab.bench(config, RunWriter(bench.writer.path, lab.clock))
    end = Runner(bench, lab.going_on(opening, read_run(bench.writer.path))).run()
    run = read_run(bench.writer.path)
    assert end.status == "complete"
    assert len(run.of(Quality)) == 6 and len(run.of(ImagesSampled)) == 6 and len(run.of(Trained)) == 4
    assert len(run.of(ReferenceFeatures)) == 1 and len(run.of(NearestImages)) == 2
    # Whoever finished a case, nobody did it again.
    assert len(first.calls) + len(lab.tools.calls) == 1 + 4 + 6 + 3


def test_what_failed_is_judged_after_a_resume_together_with_what_was_there(lab):
    lab.tools = FakeTools(faults={"images-B-ddim-10-4": "crash"})
    config = BenchConfig(suite="quality", arms=ARMS, num_images=6, steps="10,50", train_steps="2,4", device="cpu",
                         preset="tiny")
    bench, opening = lab.bench(config)
    assert Runner(bench, opening).run().exit_code == 1
    bench.writer.close()
    lab.tools.faults = {}
    bench, opening = lab.bench(config, RunWriter(bench.writer.path, lab.clock))
    end = Runner(bench, lab.going_on(opening, read_run(bench.writer.path))).run()
    run = read_run(bench.writer.path)
    assert end.exit_code == 0 and len(run.of(Quality)) == 6 and len(run.of(QualityDifference)) == 3
    assert set(cases(run).values()) == {"measured"}


def test_an_arm_whose_training_failed_catches_up_after_a_resume(lab):
    lab.tools = FakeTools(faults={"train-B-2": "crash"})
    config = BenchConfig(suite="quality", arms=ARMS, num_images=6, steps="10,50", train_steps="2,4", device="cpu",
                         preset="tiny")
    bench, opening = lab.bench(config)
    Runner(bench, opening).run()
    bench.writer.close()
    lab.tools.faults = {}
    bench, opening = lab.bench(config, RunWriter(bench.writer.path, lab.clock))
    Runner(bench, lab.going_on(opening, read_run(bench.writer.path))).run()
    run = read_run(bench.writer.path)
    assert len(run.of(Quality)) == 6 and len(run.of(QualityDifference)) == 3
    assert set(cases(run).values()) == {"measured"}


@pytest.mark.parametrize("lines", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_a_run_killed_between_any_two_lines_loses_and_repeats_nothing(lab, quality, lines):
    _, whole = quality()
    journal = whole.path / "journal.jsonl"
    kept = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(kept[: int(lines * len(kept))]))
    config = BenchConfig(suite="quality", arms=ARMS, num_images=6, steps="10,50", train_steps="2,4", device="cpu",
                         preset="tiny")
    bench, opening = lab.bench(config, RunWriter(whole.path, lab.clock))
    Runner(bench, lab.going_on(opening, read_run(whole.path))).run()
    run = read_run(whole.path)
    for kind in (Trained, ImagesSampled, ReferenceFeatures, Quality, QualityDifference, NearestImages):
        assert len(run.of(kind)) == len(whole.of(kind))
    assert cases(run) == cases(whole)


def test_a_run_does_not_go_on_with_other_weights(quality, tmp_path):
    path = tmp_path / "w.safetensors"
    save_state(path, TrainerState(1, {}, None, {}, {}), preset("tiny"))
    _, run = quality(train_steps=None, model_path=(str(path),))
    plan = QualityPart((Cell("ddim", 5),), (), 6, None, "auto", {"scripted": path})
    # The scripted tool names the path where the real one names the hash.
    with pytest.raises(UsageError, match="other weights now"):
        check_weights_fit(plan.weights, (32, 32, 3), run)
