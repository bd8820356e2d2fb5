"""`python -m impls.train` in processes of its own: killed at any moment, interrupted, handed to the other framework."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from impls.store.checkpoint import load_state
from impls.store.trainfolder import checkpoints

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 400
STEPS = 45
# Epochs of 106 steps; with dropout, as the preset has it.
SETTINGS = {"dataset_name": "digits", "batch_size": 16, "max_steps": STEPS, "checkpoint_steps": 3, "keep_last": 0,
            "sample_every": 0, "device": "cpu", "experiment": {
                "preset": "tiny", "train": {"ema_decay": 0.9, "warmup_steps": 10},
                "model": {"base_channels": 16, "channels": [16, 16], "groups": 4, "blocks_per_level": 1,
                          "attention_resolutions": [16]}}}


def start(*words):
    """A training in a session of its own, so that a signal can reach all of its processes, as Ctrl-C does."""
    return subprocess.Popen([sys.executable, "-m", "impls.train", *map(str, words)], cwd=ROOT, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True)


def new(backend, root, *words):
    root.mkdir()
    settings = root.with_suffix(".json")
    settings.write_text(json.dumps(SETTINGS))
    return start("--backend", backend, "--config_path", settings, "--log_root", root, *words)


def finish(process):
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    return Path(out.strip())


def log_size(root):
    return sum(path.stat().st_size for path in root.glob("*/log.jsonl"))


def wait_for_log(process, root, size):
    """Return as soon as the log is larger than `size` bytes."""
    until = time.monotonic() + LIMIT_S
    while log_size(root) <= size:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.002)


def losses(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def whole(framework, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = finish(new(framework, tmp_path_factory.mktemp("whole") / "logs")).parents[1]
    assert [step for step, _ in losses(folder)] == list(range(1, STEPS + 1))
    return folder


def assert_same_end(folder, other):
    (left, _), (right, _) = (load_state(checkpoints(each / "checkpoints")[-1]) for each in (folder, other))
    assert left.step == right.step == STEPS
    for part in ("params", "ema", "exp_avg", "exp_avg_sq"):
        for name, array in getattr(left, part).items():
            np.testing.assert_array_equal(array, getattr(right, part)[name], err_msg=f"{part} {name}")


@pytest.mark.slow
def test_killed_at_any_moment_a_training_ends_as_if_it_had_not_been(framework, whole, tmp_path):
    root, moments = tmp_path / "logs", random.Random(5)
    process = new(framework, root)
    for _ in range(3):
        # At least four steps, so that there is a checkpoint to go on from.
        wait_for_log(process, root, log_size(root) + moments.randrange(300, 900))
        time.sleep(moments.random() * 0.05)
        process.kill()
        process.communicate()
        (folder,) = root.iterdir()
        for path in checkpoints(folder / "checkpoints"):
            load_state(path)
        process = start("--model_path", folder)
        # The log is cut first; from then on it grows again.
        time.sleep(0.1)
    finish(process)
    assert losses(folder) == losses(whole)
    assert_same_end(folder, whole)
    assert not [path for path in (folder / "checkpoints").iterdir() if path.suffix != ".safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_a_training_says_how_to_go_on_and_does(framework, whole, tmp_path, number):
    root = tmp_path / "logs"
    process = new(framework, root)
    wait_for_log(process, root, 200)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=LIMIT_S)
    (folder,) = root.iterdir()
    assert process.returncode == 130 and out == "", err
    line = err.strip().splitlines()[-1]
    assert line.endswith(f"to go on: python -m impls.train --model_path {folder}")
    assert "Traceback" not in err
    assert checkpoints(folder / "checkpoints")[-1].stem == f"step-{losses(folder)[-1][0]:08d}"
    finish(start(*line.rpartition("python -m impls.train ")[2].split()))
    assert losses(folder) == losses(whole)
    assert_same_end(folder, whole)


@pytest.mark.slow
def test_a_checkpoint_of_one_framework_goes_on_in_the_other(framework, whole, tmp_path):
    if framework != "jittor":
        pytest.skip("once is enough: this runs with --framework jittor")
    path = whole / "checkpoints" / "step-00000042.safetensors"
    for arm in ("pytorch", "jittor:onednn"):
        folder = finish(start("--backend", arm, "--model_path", path, "--log_root", tmp_path / arm)).parents[1]
        assert folder != whole
        # The same batches and noise, other dropout masks.
        assert losses(folder)[:42] == losses(whole)[:42]
        np.testing.assert_allclose([loss for _, loss in losses(folder)], [loss for _, loss in losses(whole)], rtol=0.1)
