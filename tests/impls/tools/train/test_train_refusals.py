"""What the training's command line refuses, before it begins or on the way, is one line and loses nothing."""

from __future__ import annotations

import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import scripted_trainer
from short_training import DEFAULT, SHORT, files, last

from impls.store import checkpoint
from impls.store.checkpoint import load_state, save_state
from impls.store.trainfolder import TrainFolder
from impls.tools.train import run as train


def test_a_full_disk_is_one_line_and_loses_nothing(trained, monkeypatch):
    real, calls = checkpoint.save_file, []

    def full(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)
    done = trained(*SHORT)
    assert done.code == 2 and done.steps == [9]
    line = done.errors[-1]
    assert "cannot write the checkpoint: No space left on device" in line
    assert line.endswith(f"the last checkpoint has 9 steps; to go on: python -m impls.train --model_path {done.folder}")
    assert [name for name in files(done.folder) if "checkpoints" in name] == ["checkpoints/step-00000009.safetensors"]
    assert trained("--model_path", done.folder, backend=None, root=None).code == 0
    assert [step for step, _ in done.losses] == list(range(1, 28))


def test_two_processes_never_train_in_one_folder(trained):
    done = trained(*SHORT, "--max_steps", 9)
    folder = TrainFolder(done.folder)
    again = trained("--model_path", done.folder, "--max_steps", 18, backend=None, root=None)
    folder.close()
    assert again.code == 2 and "another process trains in this folder" in again.errors[-1]
    assert done.steps == [9]


def test_a_loss_that_is_no_number_ends_the_training(trained, scripted, monkeypatch):
    def diverge(trainer):
        if trainer.steps == 12:
            trainer.unread[-1] = float("nan")

    monkeypatch.setattr(scripted, "on_step", diverge)
    done = trained(*SHORT)
    assert done.code == 2 and done.steps == [9]
    assert "the loss is nan at step 12" in done.errors[-1] and "go on" in done.errors[-1]


@pytest.mark.parametrize(("said", "line"), [
    ("CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure' in the manual",
     "CUDA error: unspecified launch failure: the driver lost the GPU or a kernel crashed: see dmesg for Xid"),
    ("CUDA out of memory. Tried to allocate 20.00 MiB", "choose a smaller batch, or end what else holds the memory"),
    ("Run cmd failed: nvcc a.cc\n/usr/bin/ld: final link failed: No space left on device", "make room on the disk")])
def test_a_device_that_gives_up_is_one_line_and_loses_nothing(trained, scripted, monkeypatch, said, line):
    def gone(trainer):
        if trainer.steps == 12:
            raise RuntimeError(said)

    def stuck(trainer):
        raise RuntimeError("CUDA error: nothing can be released")

    monkeypatch.setattr(scripted, "on_step", gone)
    monkeypatch.setattr(scripted_trainer.ScriptedTrainer, "close", stuck)
    done = trained(*SHORT)
    assert done.code == 1 and done.steps == [9]
    assert done.errors[-1].startswith("python -m impls.train: error: ") and line in done.errors[-1]
    assert done.errors[-1].endswith(
        f"; the last checkpoint has 9 steps; to go on: python -m impls.train --model_path {done.folder}")
    assert not any("Traceback" in line for line in done.errors)


def test_a_fault_of_ours_keeps_its_traceback(trained, scripted, monkeypatch):
    def wrong(trainer):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(scripted, "on_step", wrong)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trained(*SHORT)


def test_a_disk_that_will_be_full_is_said_beforehand(trained, monkeypatch):
    """A checkpoint of the scripted trainer has 160 bytes: four arrays of ten numbers."""
    free = SimpleNamespace(free=400)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)

    def told(*words):
        (line,) = [line for line in trained(*words).errors if "checkpoint" in line and " of " in line]
        return line

    assert "3 checkpoints of 0.0 MB, and one more every 10 minutes, do not fit" in told(*SHORT)
    assert "3 checkpoints of 0.0 MB at once do not fit" in told(*DEFAULT)
    assert "2 checkpoints of 0.0 MB at once; 0.0 MB are free" in told(*DEFAULT, "--only_checkpoint_max")
    assert "1 checkpoint of 0.0 MB at once; " in told(*DEFAULT, "--checkpoint", 0, "--checkpoint_minutes", 0)
    free.free = 159
    refused = trained(*DEFAULT, root="none")
    assert refused.code == 2 and "a checkpoint takes 0.0 MB, the disk has 0.0 MB left" in refused.errors[-1]
    assert refused.folder is None


BAD = {
    "option": (("--fast",), "--fast"),
    "backend": (("--backend", "tensorflow"), "unknown backend 'tensorflow'"),
    "number": (("--max_steps", "ten"), "--max-steps: expected a whole number, got 'ten'"),
    "epochs": (("--num_epochs", 0), "--num-epochs: must be at least 1, got 0"),
    "batch": (("--batch_size", 39), "--batch-size 39: the data set has 40 images, 2 of them held out: choose at most"),
    "lr": (("--lr", "nan"), "--lr: a number above 0, got nan"),
    "T": (("--T", 1), "--T: must be at least 2, got 1"),
    "seed": (("--seed", 2**63), "--seed: must be below 2**63"),
    "keep": (("--keep_last", -1), "--keep-last: must be at least 0"),
    "minutes": (("--checkpoint_minutes", "nan"), "--checkpoint-minutes: a number of minutes, or 0 for none, got nan"),
    "threads": (("--threads", 0), "--threads: from 1 to "),
    "data set": (("--dataset_name", "imagenet"), "invalid choice 'imagenet'"),
    "cuda": (("--device", "cuda"), "--device cuda"),
    "config": (("--config", "/nonexistent.json"), "/nonexistent.json: cannot read"),
    "model path": (("--model_path", "/nonexistent"), "/nonexistent: no such file or folder"),
    "log root": (("--log_root", "/dev/null/logs", "--batch_size", 4), "--log-root /dev/null/logs: cannot make"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(trained, tmp_path, name):
    words, line = BAD[name]
    done = trained(*words, backend=None if "--backend" in words else "scripted-trainer")
    assert done.code == 2 and done.out == ""
    assert done.errors[-1].startswith("python -m impls.train: error: ") and line in done.errors[-1]
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("channels", "name"), [(1, "synthetic"), (2, "digits"), (4, "digits")])
def test_channels_that_the_images_have_not_are_refused(scripted, tmp_path, capsys, monkeypatch, channels, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "settings.json"
    file.write_text(f'{{"experiment": {{"model": {{"image_channels": {channels}}}}}}}')
    words = ["--backend", "scripted-trainer", "--device", "cpu", "--log_root", str(tmp_path / "logs")]
    assert train.main([*words, "--dataset_name", name, "--config", str(file)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"data set {name} has images of" in line and f"the network is for {channels}" in line
    assert not (tmp_path / "logs").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("text", "line"), [
    ("{", "not JSON"), ("[]", "expected a JSON object"), ('{"epochs": 3}', "unknown key 'epochs'"),
    ('{"num_epochs": "3"}', "num_epochs: "), ('{"config": "x"}', "belongs on the command line"),
    ('{"lr": -1.0}', "--lr: a number above 0"),
    ('{"experiment": {"model": {"chanels": [8]}}}', "unknown key 'model.chanels'"),
    ('{"experiment": []}', "expected a JSON object of settings"),
])
def test_a_bad_file_is_one_line(trained, tmp_path, text, line):
    file = tmp_path / "settings.json"
    file.write_text(text)
    done = trained("--config", file)
    assert done.code == 2 and len(done.errors) == 1
    assert str(file) in done.errors[0] and line in done.errors[0]


def test_bad_checkpoints_are_one_line(trained, tmp_path):
    part = trained(*SHORT, "--max_steps", 9, root="part")
    good, bad = last(part.folder), tmp_path / "bad.safetensors"

    def refused(*words):
        done = trained("--model_path", bad, *words, root="none")
        assert done.code == 2 and len(done.errors) == 1 and not (tmp_path / "none").exists()
        return done.errors[0]

    bad.write_bytes(good.read_bytes()[:-7])
    assert "truncated" in refused()
    bad.write_bytes(pickle.dumps({"step": 3}))
    assert "a pickle" in refused()
    bad.write_bytes(good.read_bytes())
    assert "has preset tiny, ddpm was asked for" in refused("--preset", "ddpm")
    assert "has diffusion.T 1000, 20 was asked for" in refused("--T", 20)
    wide = tmp_path / "wide.json"
    wide.write_text('{"experiment": {"model": {"channels": [64, 64]}}}')
    assert "has model.channels" in refused("--config", wide)
    raw = bytearray(good.read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()
    bad.write_bytes(raw)
    assert "holds NaN" in refused()


def test_a_checkpoint_of_another_network_is_refused_by_the_trainer(trained, tmp_path):
    part = trained(*SHORT, "--max_steps", 9, root="part")
    state, config = load_state(last(part.folder))
    other = tmp_path / "other.safetensors"
    changed = {name: np.zeros((7, 7), np.float32) for name in state.params}
    save_state(other, type(state)(9, changed, changed, changed, changed), config)
    done = trained("--model_path", other, "--num_epochs", 2, root="none")
    assert done.code == 2 and "has shape (7, 7)" in done.errors[-1] and not (tmp_path / "none").exists()
