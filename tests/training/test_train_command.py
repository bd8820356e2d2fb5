"""The command line with a scripted trainer: what it makes, goes on with, refuses, and says."""

from __future__ import annotations

import json
import os
import pickle
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from impls import train, train_start
from impls.common import checkpoint
from impls.common.checkpoint import load_state, read_note, save_state
from impls.common.config import ExperimentConfig, preset
from impls.common.trainfolder import TrainFolder
from impls.common.weights import Weights
from impls.train_options import parse

SHORT = ("--batch_size", 4, "--num_epochs", 3, "--checkpoint", 1)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(one, other):
    """Two checkpoints, by everything that they hold."""
    (left, left_config), (right, right_config) = load_state(one), load_state(other)
    assert (left.step, left_config, read_note(one)) == (right.step, right_config, read_note(other))
    for part in ("params", "ema"):
        for name, array in getattr(left, part).items():
            np.testing.assert_array_equal(array, getattr(right, part)[name])
    return True


def last(folder):
    return sorted((folder / "checkpoints").iterdir())[-1]


def test_a_training_leaves_a_folder(trained):
    done = trained(*SHORT)
    assert done.code == 0 and done.steps == [9, 18, 27]
    assert done.folder.name.startswith("scripted-trainer-tiny-2")
    assert done.out.strip() == str(last(done.folder))
    assert files(done.folder) == [
        *(f"checkpoints/step-{step:08d}.safetensors" for step in (9, 18, 27)), "config.json", "log.jsonl", "loss.png",
        *(f"samples/step-{step:08d}.png" for step in (9, 18, 27))]
    assert [line["step"] for line in done.lines if "loss" in line] == list(range(1, 28))
    epochs = [line for line in done.lines if "validation_loss" in line]
    assert [(line["step"], line["epoch"]) for line in epochs] == [(9, 1), (18, 2), (27, 3)]
    note = read_note(last(done.folder))
    assert (note.arm, note.dataset, note.validation_loss) == (
        "scripted-trainer", "digits", epochs[-1]["validation_loss_ema"])


def test_the_defaults(trained, monkeypatch):
    kept = []
    monkeypatch.setattr(train, "train", lambda options, config, *_: kept.append((options, config)))
    assert trained().code == 0
    (options, config), = kept
    assert (options.num_epochs, options.checkpoint, options.keep_last, options.log) == (500, 5, None, True)
    assert (config.preset, config.seed, config.diffusion.T, config.train.lr) == ("tiny", 0, 1000, 2e-4)
    assert (config.train.batch_size, config.train.num_workers, config.train.loader, config.train.randomness) == (
        128, 4, "resident", "matched")
    assert trained("--loader", "native", "--T=50", "--lr", 1e-3, "--seed", 3, "--preset", "seed").code == 0
    config = kept[1][1]
    assert (config.preset, config.train.randomness, config.diffusion.T) == ("seed", "native", 50)
    assert (config.train.lr, config.seed, config.train.ema_decay) == (1e-3, 3, None)


def test_the_command_line_wins_over_the_file(trained, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(train, "train", lambda options, config, *_: kept.append((options, config)))
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"batch-size": 8, "num_epochs": 7, "checkpoint": 2, "experiment": {
        "preset": "ddpm", "model": {"channels": [64, 64], "dropout": 0.0}, "train": {"batch_size": 99, "lr": 0.5}}}))
    assert trained("--config_path", file, "--num-epochs=9").code == 0
    (options, config), = kept
    assert (options.num_epochs, options.checkpoint, config.train.batch_size, config.train.lr) == (9, 2, 8, 0.5)
    assert (config.preset, config.model.channels, config.model.dropout) == ("ddpm", (64, 64), 0)


def test_the_settings_in_the_folder_repeat_the_training(trained):
    first = trained(*SHORT, "--lr", 3e-4)
    again = trained("--config", first.folder / "config.json", backend=None, root="again")
    assert again.losses == first.losses and same(last(first.folder), last(again.folder))
    resolved = json.loads((first.folder / "config.json").read_text())
    assert ExperimentConfig.model_validate(resolved["experiment"]) == load_state(last(first.folder))[1]
    assert (resolved["dataset_name"], resolved["backend"], resolved["num_epochs"]) == ("digits", "scripted-trainer", 3)


def test_going_on_in_the_folder_repeats_the_uninterrupted_training(trained):
    whole = trained(*SHORT, root="whole")
    part = trained(*SHORT, "--max_steps", 12, root="part")
    assert part.steps == [9, 12]
    rest = trained("--model_path", part.folder, "--max_steps", "None", backend=None, root=None)
    # Nothing but the training itself was named: options, backend, data set and folder are the training's own.
    assert rest.code == 0 and rest.out.strip() == str(last(part.folder))
    assert part.losses == whole.losses
    assert same(last(part.folder), last(whole.folder))


def test_lines_newer_than_the_checkpoint_go(trained):
    whole = trained(*SHORT, root="whole")
    part = trained(*SHORT, root="part")
    for step in (18, 27):
        (part.folder / "checkpoints" / f"step-{step:08d}.safetensors").unlink()
    with (part.folder / "log.jsonl").open("a") as log:
        log.write('{"step": 28, "epo')
    (part.folder / "checkpoints" / ".step-00000018.safetensors.1.partial").touch()
    assert trained("--model_path", part.folder, backend=None, root=None).code == 0
    assert part.losses == whole.losses
    assert files(part.folder) == files(whole.folder)


def test_an_older_checkpoint_goes_on_in_a_new_folder_with_its_trace(trained):
    whole = trained(*SHORT, root="whole")
    before = files(whole.folder)
    fork = trained("--model_path", whole.folder / "checkpoints" / "step-00000009.safetensors", root="fork")
    assert fork.code == 0 and any("in a new folder" in line for line in fork.errors)
    assert fork.losses == whole.losses and fork.steps == [18, 27]
    assert files(whole.folder) == before


@pytest.mark.parametrize(("words", "reason"), [
    (("--lr", 1e-5), "train.lr 0.0002 -> 1e-05"), (("--seed", 4), "seed 0 -> 4"),
    (("--dataset_name", "synthetic"), "images hash of digits -> hash of synthetic"),
    (("--backend", "scripted-trainer:other"), "backend scripted-trainer -> scripted-trainer:other"),
])
def test_changed_settings_go_on_in_a_new_folder(trained, words, reason):
    part = trained(*SHORT, "--max_steps", 9, root="part")
    log = (part.folder / "log.jsonl").read_text()
    rest = trained("--model_path", part.folder, "--max_steps", 18, *words, root="rest",
                   backend=None if "--backend" in words else "scripted-trainer")
    assert rest.code == 0, rest.errors
    assert any(reason in line for line in rest.errors)
    assert rest.folder != part.folder and rest.losses[:9] == part.losses and len(rest.losses) == 18
    assert (part.folder / "log.jsonl").read_text() == log


def test_a_bare_file_names_its_backend_and_data(trained, tmp_path):
    part = trained(*SHORT, "--max_steps", 9, root="part")
    alone = tmp_path / "alone.safetensors"
    last(part.folder).rename(alone)
    rest = trained("--model_path", alone, "--num_epochs", 2, backend=None, root="rest")
    assert rest.code == 0 and rest.folder.name.startswith("scripted-trainer-tiny")
    assert [step for step, _ in rest.losses] == list(range(10, 19))


def test_a_finished_training_has_nothing_to_do(trained):
    done = trained(*SHORT)
    before = files(done.folder)
    again = trained("--model_path", done.folder, backend=None, root=None)
    assert again.code == 0 and again.out == "" and "nothing to do" in again.errors[-1]
    assert files(done.folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [5, 9])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(trained, scripted, monkeypatch, number, step):
    whole = trained(*SHORT, root="whole")
    monkeypatch.setattr(scripted, "on_step", lambda trainer: trainer.steps == step and os.kill(os.getpid(), number))
    cut = trained(*SHORT, root="cut")
    assert cut.code == 130 and cut.out == "" and cut.steps == [step]
    assert cut.errors[-1].endswith(f"to go on: python -m impls.train --model_path {cut.folder}")
    assert not (cut.folder / "samples").exists()
    monkeypatch.setattr(scripted, "on_step", None)
    assert trained("--model_path", cut.folder, backend=None, root=None).code == 0
    assert cut.losses == whole.losses
    assert same(last(cut.folder), last(whole.folder))


def test_a_second_signal_ends_at_once(trained, scripted, monkeypatch):
    def twice(trainer):
        if trainer.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(scripted, "on_step", twice)
    cut = trained(*SHORT)
    assert cut.code == 130 and not (cut.folder / "checkpoints").exists()


@pytest.mark.parametrize(("words", "left"), [
    (("--only_checkpoint_max",), [27]), (("--keep_last", 2), [18, 27]), (("--keep-last=1",), [27]), ((), [9, 18, 27])])
def test_retention(trained, words, left):
    assert trained(*SHORT, *words).steps == left


def test_the_best_checkpoint_stays(trained, scripted, monkeypatch):
    def worse(trainer):
        if trainer.steps == 10:
            trainer.validation_loss = lambda images, use_ema: 9.0

    monkeypatch.setattr(scripted, "on_step", worse)
    assert trained(*SHORT, "--keep_last", 1).steps == [9, 27]


def test_without_a_log_only_settings_and_checkpoints_are_written(trained):
    done = trained(*SHORT, "--no-log", "--checkpoint", 0)
    assert files(done.folder) == ["checkpoints/step-00000027.safetensors", "config.json"]


def test_samples_when_they_are_asked_for(trained):
    assert "samples" not in " ".join(files(trained(*SHORT, "--sample_every", 0, root="none").folder))
    found = files(trained(*SHORT, "--sample_every", 2, root="two").folder)
    assert [name for name in found if "samples" in name] == ["samples/step-00000018.png", "samples/step-00000027.png"]


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


def test_a_disk_that_will_be_full_is_said_beforehand(trained, monkeypatch):
    monkeypatch.setattr(train.shutil, "disk_usage", lambda path: SimpleNamespace(free=200))
    assert any("3 checkpoints" in line and "do not fit" in line for line in trained(*SHORT).errors)
    assert not any("do not fit" in line for line in trained(*SHORT, "--only_checkpoint_max", "--checkpoint", 0).errors)


BAD = {
    "option": (("--fast",), "--fast"),
    "backend": (("--backend", "tensorflow"), "unknown backend 'tensorflow'"),
    "number": (("--max_steps", "ten"), "--max-steps: expected a whole number, got 'ten'"),
    "epochs": (("--num_epochs", 0), "--num-epochs: must be at least 1, got 0"),
    "batch": (("--batch_size", 39), "--batch-size 39: the data set has 40 images, 2 of them held out: choose at most"),
    "lr": (("--lr", "nan"), "--lr: a number above 0, got nan"),
    "T": (("--T", 1), "--T: must be at least 2, got 1"),
    "seed": (("--seed", 2**63), "--seed: must be below 2**63"),
    "keep": (("--keep_last", 0), "--keep-last: must be at least 1"),
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


def test_the_weights_of_others_start_at_step_0(tmp_path, monkeypatch):
    (tmp_path / train_start.WEIGHTS_FILE).touch()
    params = {"w": np.ones(3, np.float32)}
    found = Weights(preset("ddpm"), params, None, "diffusers", tmp_path / train_start.WEIGHTS_FILE, "")
    monkeypatch.setattr(train_start, "load_weights", lambda path: found)
    start = train_start.starting_point(str(tmp_path))
    assert (start.state.step, start.folder, start.note.arm) == (0, None, None)
    assert start.state.params is params and start.state.ema is params
    assert not start.state.exp_avg["w"].any() and not start.state.exp_avg_sq["w"].any()
    assert (start.config.train.randomness, start.config.train.batch_size) == ("matched", 128)


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    assert not stop.value.code
    shown = capsys.readouterr().out
    for name in ("backend", "model-path", "config", "data-root", "num-epochs", "T", "log-root", "only-checkpoint-max",
                 "max-steps", "sample-every"):
        assert f"--{name}" in shown
