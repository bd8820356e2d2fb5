"""Suite `align` in processes of its own: PyTorch against Jittor, layer by layer, and arms with options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record.events import AlignedLayer, Alignment
from harness.record.run import read_run

ROOT = Path(__file__).resolve().parents[2]
# Of the preset tiny a quarter of the width and one level: what is compiled is the same.
SMALL = ('{"experiment": {"model": {"base_channels": 16, "channels": [16, 32], "groups": 8, "blocks_per_level": 1, '
         '"attention_resolutions": [16]}}}')
ARMS = {"pytorch": ("pytorch,pytorch:channels_last", 2), "jittor": ("pytorch,jittor,jittor:onednn", 3)}


@pytest.fixture(scope="module")
def run(framework, tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    (folder / "small.json").write_text(SMALL)
    arms, _ = ARMS[framework]
    command = [sys.executable, "run_bench.py", "--suite", "align", "--arms", arms, "--device", "cpu", "--dataset",
               "synthetic", "--config", str(folder / "small.json"), "--out", str(folder / "out"), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=500,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (path for path in (folder / "out").iterdir() if path.is_dir())
    return read_run(made), done.stdout


def test_our_own_arms_agree_in_every_layer(framework, run):
    recorded, said = run
    found = recorded.of(Alignment)
    assert [one.word for one in found] == ["agree"] * (ARMS[framework][1] - 1), said
    for one in found:
        assert one.reference == "A" and one.twins == ["double", "perturbed"]
    assert found[0].compared == found[0].calls > 60 and not found[0].unmatched
    assert "all" in said and "agree" in said


def test_every_layer_is_fed_forward_and_backward(run):
    recorded, _ = run
    layers = [one for one in recorded.of(AlignedLayer) if one.arm_b == "B"]
    convolutions = [one for one in layers if one.kind == "Conv2d"]
    assert len(convolutions) > 10
    for one in convolutions:
        assert {"output 0", "gradient of input 0", "gradient of weight", "gradient of bias"} <= {
            entry.place for entry in one.differences if entry.fed}, one.name
    places = {entry.place.split(" ")[0] for entry in recorded.of(Alignment)[0].training}
    assert {"loss", "weight", "exp_avg", "exp_avg_sq", "losses"} <= places


def test_a_network_that_does_not_call_its_modules_is_seen_from_outside(framework, run):
    if framework != "jittor":
        pytest.skip("jittor:onednn has a way of its own through its modules")
    recorded, _ = run
    one = recorded.of(Alignment)[1]
    # It calls the modules of the timestep alone.
    assert 0 < one.compared < 20 and one.calls > 60
    assert any(entry.place.startswith("gradient of") for entry in one.training)
