"""`python -m impls.sample` in processes of its own: killed, interrupted, and both frameworks on the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_training import config, set_weights, trainer, weights

from impls.recipe.config import merged
from impls.store.checkpoint import save_state

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 400


@pytest.fixture(scope="module")
def checkpoint(fw, tmp_path_factory):
    """A checkpoint of the small network; T = 20."""
    subject = trainer(fw)
    set_weights(subject, weights(subject, seed=8))
    path = tmp_path_factory.mktemp("training") / "step-000000.safetensors"
    save_state(path, subject.state(), merged(config(), {"diffusion": {"T": 20}}, "test"))
    return path


def start(backend, checkpoint, root, *options, T=20):
    settings = root.with_suffix(".json")
    settings.write_text(json.dumps({"experiment": {"diffusion": {"T": T}}}))
    command = [sys.executable, "-m", "impls.sample", "--backend", backend, "--model_path", str(checkpoint), "--test",
               "--no-log", "--device", "cpu", "--sample_root", str(root), "--config_path", str(settings), *options]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process):
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    return out


def stop(process, root, number):
    """Send a signal to all its processes, as Ctrl-C does, as soon as there is one more shard; exit code and stderr."""
    until = time.monotonic() + LIMIT_S
    before = len(list(root.glob("shards/*.npz")))
    while len(list(root.glob("shards/*.npz"))) == before:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.01)
    helpers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert not psutil.wait_procs(helpers, timeout=5)[1]
    assert not (root / "images.npz").exists()
    return process.returncode, err


def test_a_killed_or_interrupted_evaluation_goes_on(fw, checkpoint, tmp_path):
    options = ("--num_images", "5", "--batch_size", "1", "--steps", "400")
    root = tmp_path / "stopped"
    assert stop(start(fw.name, checkpoint, root, *options, T=400), root, signal.SIGKILL)[0] == -signal.SIGKILL
    code, err = stop(start(fw.name, checkpoint, root, *options, T=400), root, signal.SIGINT)
    assert code == 130 and err.splitlines()[-1] == "python -m impls.sample: interrupted"
    out = finish(start(fw.name, checkpoint, root, *options, T=400))
    assert "images are there already" in out
    finish(start(fw.name, checkpoint, tmp_path / "whole", *options, T=400))
    assert {path.name for path in root.iterdir()} == {"images.npz", "images.npy", "grid.png", "sampling.json",
                                                      "manifest.json", "shards"}
    images = np.load(root / "images.npy")
    assert len(images) == 5
    np.testing.assert_array_equal(images, np.load(tmp_path / "whole" / "images.npy"))


@pytest.mark.parametrize("options", [(), ("--steps", "10"), ("--steps", "10", "--eta", "0.7", "--weights", "raw")])
def test_both_frameworks_draw_the_same_images(fw, checkpoint, tmp_path, options):
    if fw.name != "jittor":
        pytest.skip("once is enough: this runs with --framework jittor")
    arms = ("pytorch", "jittor", "jittor:onednn")
    common = ("--num_images", "3", "--batch_size", "2", "--seed", "4")
    for arm in arms:
        finish(start(arm, checkpoint, tmp_path / arm, *common, *options))
    one, *others = (np.load(tmp_path / arm / "images.npy").astype(int) for arm in arms)
    assert one.std() > 30
    for other in others:
        assert (np.abs(one - other) <= 1).mean() >= 0.999
