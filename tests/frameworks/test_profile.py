"""What each framework's profiler tells of a training step: each convolution, in its phase, and a step like others."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from small_sampling import sampler
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
    assert classes["forward", "convolution"] == STEPS * convolutions
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


def test_network_calls_of_a_sampler_are_told_like_steps(fw, framework):
    subject = sampler(fw)
    subject.step()
    profile = subject.profile(STEPS)
    launches = Counter()
    for kernel in profile.kernels:
        launches[kernel.phase, kernel.operator_class] += kernel.count
    assert {phase for phase, _ in launches} == {"network", "update"}
    convolutions = sum(one.kind.startswith("conv") for one in operators(config().model))
    assert launches["network", "convolution"] == STEPS * convolutions
    assert [span.name for span in profile.spans if span.track == "phases"] == ["network", "update"] * STEPS
    subject.close()


def event(name, start_us, us, device="CPU", kernels=(), note=False, calls=()):
    """What a profiler tells of one operator or kernel, or of a note that the host made."""
    return SimpleNamespace(name=name, device_type=SimpleNamespace(name=device), cpu_children=list(calls),
                           is_user_annotation=note, kernels=[SimpleNamespace(name=kernel) for kernel in kernels],
                           time_range=SimpleNamespace(start=start_us, end=start_us + us, elapsed_us=lambda: us))


def test_on_cuda_kernels_are_the_devices_and_named_by_who_launched_them(fw, framework):
    if framework != "pytorch":
        pytest.skip("Jittor's profiler tells kernels alike on both devices")
    told = [event("phase:", 0, 1), event("aten::conv2d", 2, 3, kernels=["sm90_conv"]),
            event("aten::addmm", 5, 3, kernels=["sm90_gemm"]), event("aten::bmm", 8, 3, kernels=["sm90_gemm"]),
            event("sm90_conv", 4, 50, "CUDA"), event("sm90_gemm", 54, 9, "CUDA"), event("sm90_gemm", 63, 7, "CUDA"),
            event("phase:forward", 4, 90, "CUDA", note=True), event("phase:forward", 100, 1),
            event("Optimizer.step#Adam.step", 110, 40, "CUDA", note=True), event("sm90_conv", 110, 40, "CUDA"),
            event("phase:optimizer", 200, 1)]
    found = fw.profile.read(told, "")
    # Nobody can tell whose product that of linear layers and of attention is.
    assert [(one.phase, one.operator_class, one.count, one.ns) for one in found.kernels] == [
        ("forward", "convolution", 1, 50e3), ("forward", None, 2, 16e3), ("optimizer", None, 1, 40e3)]
    assert [(span.name, span.track) for span in found.spans if span.track != "operators"] == [
        ("forward", "phases"), ("optimizer", "phases"), ("sm90_conv", "device"), ("sm90_gemm", "device"),
        ("sm90_gemm", "device"), ("sm90_conv", "device")]


def test_a_thread_that_was_interrupted_makes_no_kernel_of_a_caller_or_the_reverse(fw, framework):
    if framework != "pytorch":
        pytest.skip("Jittor's profiler tells kernels itself")
    told = [event("phase:", 0, 1)]
    # Outer, middle, inner call and what that calls: as usual, the outer held up, then all so that none has half.
    lengths = (60, 54, 50, 5), (120, 54, 50, 5), (110, 60, 50, 30)
    for start, (outer, middle, inner, least) in zip((10, 200, 400), lengths, strict=True):
        kernel = event("aten::mkldnn_convolution", start, inner, calls=[event("aten::add_", start, least)])
        calls = event("aten::convolution", start, middle, calls=[kernel])
        told += [event("aten::conv2d", start, outer, calls=[calls]), calls, kernel]
    told.append(event("phase:forward", 900, 1))
    (found,) = fw.profile.read(told, "").kernels
    assert (found.name, found.operator_class) == ("aten::mkldnn_convolution", "convolution")
    assert (found.count, found.ns) == (3, 110e3)
