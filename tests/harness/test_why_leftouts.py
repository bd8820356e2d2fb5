"""`--suite why --thorough`: what steps without something take off a planted gap, and that nobody else pays for it."""

from __future__ import annotations

import pytest
import scripted_backend

from harness.options import BenchConfig, checked
from harness.protocol import training
from harness.record.events import Case, LeftOut, Share
from harness.suites.why import leftouts, swaps
from harness.suites.why.leftouts import recipes
from harness.suites.why.part import Why
from impls.errors import UsageError
from impls.recipe.config import merged, preset

PHASES_NS = scripted_backend.PHASES_NS
FAILING = set()


@pytest.fixture
def why(lab, monkeypatch):
    """A run in which the slow arm's step takes 60 ms more, 30 of them for attention and 6 for clipping."""
    costs = {"attention": 30e6, "clipping": 6e6, "averages": 0.0}

    def made(self, config, images):
        without = {"attention": not config.model.middle_attention, "clipping": config.train.grad_clip is None,
                   "averages": config.train.ema_decay is None}
        if any(without[name] for name in FAILING):
            raise RuntimeError("not without it")
        options = self.options | {f"no {name}" for name, gone in without.items() if gone}
        return scripted_backend.ScriptedTrainer(config, images, options, self.process, self.info)

    monkeypatch.setattr(scripted_backend.ScriptedBackend, "trainer", made)

    def phase_ns(of, phase):
        return PHASES_NS.get(phase, 1e6) + (60e6 if "slow" in of and phase == "backward" else 0)

    def step_ns(of, process, step):
        # Both arms have 10 ms of attention that nobody is slower in.
        gone = sum(ns * ("slow" in of) + 10e6 * (name == "attention")
                   for name, ns in costs.items() if f"no {name}" in of)
        return sum(phase_ns(of, phase) for phase in PHASES_NS) - gone

    monkeypatch.setattr(scripted_backend, "spend_phase",
                        lambda of, process, step, phase: lab.clock.sleep(phase_ns(of, phase) / 1e9))
    lab.script(step_ns)
    return lambda **options: lab.run(suite="why", **{
        "arms": "scripted,scripted:slow", "blocks": 3, "pairs": 2, "steps": "1", "thorough": True, **options})


def by_cause(run):
    return {share.cause: share for share in run.of(Share) if share.method == "left-out"}


def test_what_is_left_out_takes_its_own_part_off_the_gap(why):
    end, run = why()
    assert (end.status, end.exit_code) == ("complete", 0)
    found = by_cause(run)
    assert {cause: (share.word, round(share.share, 3)) for cause, share in found.items()} == {
        "attention": ("explains", 0.5), "clipping": ("explains", 0.1), "averaged weights": ("does-not-explain", 0.0)}
    assert (found["attention"].a_ns, found["attention"].b_ns) == (pytest.approx(10e6), pytest.approx(40e6))
    assert len(run.of(LeftOut)) == 3 * 2 * 3


def test_what_a_block_takes_counts_them(why, monkeypatch):
    told = []
    monkeypatch.setattr(Why, "after_s", lambda self, block: told.append(leftouts.seconds(block)) or 0.0)
    why()
    # Of both arms without each of three things: a trainer, 4 steps to warm up, and 3 rounds of both.
    both = sum(PHASES_NS.values()) * 2 + 60e6
    assert told == [pytest.approx(3 * (2 * swaps.BUILD_S + 10 * both / 1e9), rel=0.01)]


def test_without_the_option_or_a_gap_nothing_is_left_out(why, lab, monkeypatch):
    asked = []
    monkeypatch.setattr(lab.sessions, "spy", asked.append)
    for options in ({"thorough": False}, {"arms": "scripted,scripted"}):
        _, run = why(**options)
        assert not by_cause(run) and not run.of(LeftOut)
    assert not [one for one in asked if isinstance(one, training.Swap)]


def test_what_an_arm_cannot_do_without_is_said(why, monkeypatch):
    monkeypatch.setattr("test_why_leftouts.FAILING", {"clipping"})
    end, run = why()
    assert (end.status, end.exit_code) == ("complete", 0)
    assert {case.case_id for case in run.of(Case) if case.status == "skipped"} == {
        f"without-{block}-{arm}-clipping" for block in range(3) for arm in "AB"}
    assert by_cause(run)["attention"].word == "explains"
    assert (by_cause(run)["clipping"].word, by_cause(run)["clipping"].reason) == (
        "not-measured", "RuntimeError: not without it")


def test_a_recipe_is_not_measured_without_what_it_lacks():
    tiny = preset("tiny")
    assert list(recipes(tiny)) == ["attention", "clipping", "averaged weights"]
    assert list(recipes(merged(tiny, {"train": {"grad_clip": None}}, "test"))) == ["attention", "averaged weights"]


def test_a_suite_that_looks_for_no_causes_refuses_it():
    with pytest.raises(UsageError, match="--thorough: suite train-speed looks for no causes.*--suite why"):
        checked(BenchConfig(suite="train-speed", thorough=True))


def test_nothing_is_left_out_of_arms_that_are_not_in_memory_together(lab):
    with pytest.raises(UsageError, match="--thorough: .*leave out --schedule sequential"):
        lab.run(suite="why", arms="scripted,scripted:slow", thorough=True, schedule="sequential")
