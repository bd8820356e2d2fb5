"""Which device: CUDA only when every arm can, the same for all, with the arm and the reason named."""

from __future__ import annotations

import pytest

from harness.run.execute import check_data
from harness.run.resolve import common_device
from impls.errors import UnavailableError, UsageError
from impls.registry import parse_arms

ARMS = parse_arms("pytorch,jittor")


def driver():
    return None


def no_driver():
    return "no driver here"


def only_pytorch(arm):
    return None if arm.backend == "pytorch" else "needs cuDNN 8"


def every(arm):
    return None


def never(arm):
    raise AssertionError("nobody should be asked")


def test_auto_takes_cuda_only_when_every_arm_can():
    assert common_device("auto", ARMS, driver, every)[0] == "cuda"
    device, reason = common_device("auto", ARMS, driver, only_pytorch)
    assert device == "cpu" and "jittor" in reason and "cuDNN 8" in reason


def test_without_a_driver_no_framework_is_asked():
    device, reason = common_device("auto", ARMS, no_driver, never)
    assert device == "cpu" and "no driver here" in reason


def test_cpu_asks_nobody():
    assert common_device("cpu", ARMS, no_driver, never) == ("cpu", "as asked")


def test_cuda_names_the_arm_that_cannot():
    with pytest.raises(UnavailableError, match="--device cuda: jittor: needs cuDNN 8"):
        common_device("cuda", ARMS, driver, only_pytorch)
    with pytest.raises(UnavailableError, match="--device cuda: pytorch: no driver here"):
        common_device("cuda", ARMS, no_driver, never)
    assert common_device("cuda", ARMS, driver, every)[0] == "cuda"


def test_an_option_of_the_other_device_decides_without_asking():
    arms = parse_arms("jittor:onednn")
    assert common_device("auto", arms, driver, never)[0] == "cpu"
    with pytest.raises(UnavailableError, match="onednn"):
        common_device("cuda", arms, driver, never)


def test_the_same_arm_twice_is_asked_once():
    asked = []
    common_device("auto", parse_arms("pytorch,pytorch"), driver, lambda arm: asked.append(arm) and None)
    assert len(asked) == 1


def test_data_must_fit():
    check_data(64, 64, (32, 32, 3), (32, 32, 3))
    with pytest.raises(UsageError, match="65.*only 64 images"):
        check_data(65, 64, (32, 32, 3), (32, 32, 3))
    with pytest.raises(UsageError, match="28x28x1.*32x32x3"):
        check_data(1, 64, (28, 28, 1), (32, 32, 3))
