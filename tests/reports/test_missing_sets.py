"""A set of images without figures says why by its own failure, not by another one's."""

from pathlib import Path

from harness.record.events import ArmEntry, Case, ImagesSampled, RunStarted
from harness.record.run import RecordedRun
from reports.suites.quality.facts import image_sets
from reports.view.run import view


def drawn(arm, cell, steps):
    return ImagesSampled(arm=arm, cell=cell, nfe=5, eta=0, spacing="uniform", seed=0, images=4, batch_size=2,
                         train_steps=steps, npz="x", grid="x", weights="raw", weights_kind="raw", weights_sha256="0")


def failed(case_id, arm):
    return Case(case_id=case_id, arm=arm, block=None, status="failed", reason=f"{case_id} went wrong")


def test_the_reason_is_the_set_s_own():
    arms = [ArmEntry(slot="A", name="pytorch"), ArmEntry(slot="B", name="jittor")]
    run = RecordedRun(Path("r"), (
        RunStarted(run_id="r", suite="quality", started_utc="", command=[], arms=arms, bench={}, experiment={},
                   config_sha256="", declared={}),
        drawn("B", "ddim-10", 2), failed("images-A-ddim-10-2", "A"), drawn("A", "ddim-50", 4), drawn("B", "ddim-50", 4),
        failed("quality-ddim-50-4", "A"), failed("train-B-9", "B")))
    reasons = {(one.arm.slot, one.cell, one.train_steps): one.reason for one in image_sets(view(run), "FD x")}
    assert reasons[("A", "ddim-10", 2)] == "images-A-ddim-10-2 went wrong"
    assert reasons[("B", "ddim-10", 2)] == "the images were drawn but not evaluated"
    assert {reasons[(arm, "ddim-50", 4)] for arm in "AB"} == {"quality-ddim-50-4 went wrong"}
