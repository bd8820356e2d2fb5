"""The public UNet2DModel as one more arm: trained by our loop it does what our network does."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record.events import ParityResult
from harness.record.run import read_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_diffusers_agrees_with_the_arm_pytorch(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "peers"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
           "HF_HUB_OFFLINE": "1"}
    small = tmp_path / "small.json"
    small.write_text('{"experiment": {"model": {"base_channels": 32, "channels": [32, 64]}}}')
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_bench.py"), "--suite", "parity", "--steps", "3", "--config", str(small),
         "--arms", "pytorch,diffusers", "--preset", "tiny", "--dataset", "digits",
         "--device", "cpu", "--quiet", "--out", str(tmp_path / "results")],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = [path for path in (tmp_path / "results").iterdir() if path.is_dir()]
    (result,) = read_run(folder).of(ParityResult)
    assert result.passed, result.reason


@pytest.mark.slow
def test_its_sampler_takes_what_ours_takes():
    told = subprocess.run(
        [sys.executable, "-c", "import diffusers_peer, inspect; from impls.pytorch.sampler import Sampler; "
         "print([list(inspect.signature(one.chain).parameters) for one in (Sampler, diffusers_peer.PeerSampler)])"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "peers")])},
        capture_output=True, text=True, timeout=300, check=True)
    ours, theirs = ast.literal_eval(told.stdout)
    assert ours == theirs
