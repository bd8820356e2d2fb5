"""What each framework's profiler tells of a training step: each convolution, in its phase, and a step like others."""

from __future__ import annotations

from collections import Counter

import pytest
from small_training import config, trainer

from impls.recipe.operators import operators

STEPS = 2


@pytest.fixture(scope="module")
def found(fw):
    subject = trainer(fw)
    subject.step()
    profile = subject.profile(STEPS)
    yield subject, profile
    subject.close()


def test_every_convolution_is_counted_in_its_phase(framework, found):
    _, profile = found
    launches, classes = Counter(), Counter()
    for kernel in profile.kernels:
        assert kernel.ns >= 0 and kernel.count > 0
        launches[kernel.phase] += kernel.count
        classes[kernel.phase, kernel.operator_class] += kernel.count
    assert launches.keys() == {"data", "forward", "backward", "optimizer"}
    convolutions = sum(one.kind.startswith("conv") for one in operators(config().model))
    # PyTorch's dispatch may take longer than what it calls, once or twice.
    assert 0 <= classes["forward", "convolution"] - STEPS * convolutions <= STEPS * 2
    assert {kind for phase, kind in classes if phase == "optimizer"} == {None}
    # Jittor has one kernel for all products here.
    known = {"attention", "linear"} if framework == "pytorch" else set()
    assert known | {None} <= {kind for phase, kind in classes if phase == "backward"}


def test_spans_are_real_and_only_pytorch_knows_those_of_kernels(framework, found):
    _, profile = found
    phases = [span for span in profile.spans if span.track == "phases"]
    assert [span.name for span in phases] == ["data", "forward", "backward", "optimizer"] * STEPS
    assert all(span.duration_ns > 0 for span in profile.spans if span.track == "phases")
    assert {span.track for span in profile.spans} == ({"phases", "operators"} if framework == "pytorch" else {"phases"})
    spent = sum(kernel.ns for kernel in profile.kernels)
    assert 0 < spent <= sum(span.duration_ns for span in phases)


def test_the_trainer_goes_on_as_after_its_steps(fw, found):
    subject, _ = found
    other = trainer(fw)
    for _ in range(1 + STEPS):
        other.step()
    assert subject.steps_done == 1 + STEPS and subject.losses() == pytest.approx(other.losses(), rel=1e-4)
    other.close()
