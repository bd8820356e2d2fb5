"""PyTorch's arms on "cuda" without a GPU: every operator's device, and a device without numbers refused as evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def told(stand_in) -> dict:
    done = stand_in.run(str(HERE / "pytorch_path.py"))
    if "Torch not compiled with CUDA enabled" in done.stderr:
        pytest.skip("this PyTorch was built without CUDA")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_arm_trains_and_samples_on_the_device_alone(told):
    assert {name: said for name, said in told["found"].items() if said != "ok"} == {}
    arms = {name.split()[0] for name in told["found"]}
    assert {"pytorch", "pytorch:channels_last", "pytorch:bf16", "pytorch:fp16", "pytorch:tf32",
            "pytorch:bf16+channels_last", "pytorch:channels_last+fp16"} <= arms


def test_a_wrong_device_is_noticed(told):
    assert len(told["mutants"]) == 2
    for said in told["mutants"].values():
        assert "same device" in said and "cpu" in said


def test_what_computes_nothing_is_no_device(told):
    assert told["refused"].startswith("convolutions fail on this device (")
    assert "\n" not in told["refused"]
