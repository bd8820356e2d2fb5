"""The command line with a scripted trainer: what it makes, keeps and says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from short_training import DEFAULT, SHORT, files, last, same

from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig, preset
from impls.store.checkpoint import load_state, read_note
from impls.store.weights import Weights
from impls.tools.train import outputs
from impls.tools.train import run as train
from impls.tools.train import start as train_start
from impls.tools.train.options import parse


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
    assert (options.num_epochs, options.checkpoint, options.keep_last, options.log) == (500, 5, 1, True)
    assert (options.checkpoint_minutes, options.threads) == (10, None)
    assert (config.preset, config.seed, config.diffusion.T, config.train.lr) == ("tiny", 0, 1000, 2e-4)
    assert (config.train.batch_size, config.train.num_workers, config.train.loader, config.train.randomness) == (
        128, 4, "resident", "matched")
    assert trained("--loader", "native", "--T=50", "--lr", 1e-3, "--seed", 3, "--preset", "seed").code == 0
    config = kept[1][1]
    assert (config.preset, config.train.randomness, config.diffusion.T) == ("seed", "native", 50)
    assert (config.train.lr, config.seed, config.train.ema_decay) == (1e-3, 3, None)


@pytest.mark.parametrize(("experiment", "data", "channels"), [
    ({}, "digits", 1), ({"model": {"image_channels": 3}}, "digits", 3), ({"preset": "ddpm"}, "digits", 1)])
def test_grey_images_train_one_channel_unless_the_user_says_otherwise(trained, tmp_path, experiment, data, channels):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"experiment": experiment}))
    done = trained(*SHORT, "--config", file, "--dataset_name", data)
    assert done.code == 0 and load_state(last(done.folder))[1].model.image_channels == channels
    # A checkpoint's own network decides, whatever would be made anew.
    rest = trained("--model_path", done.folder, "--max_steps", 30, "--num_epochs", 4, backend=None, root=None)
    assert rest.code == 0 and load_state(last(done.folder))[0].step == 30
    assert load_state(last(done.folder))[1].model.image_channels == channels


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


@pytest.mark.parametrize(("words", "left"), [
    (("--only_checkpoint_max",), [27]), (("--keep_last", 2), [18, 27]), (("--keep-last=1",), [27]), ((), [27]),
    (("--keep_last", 0), [9, 18, 27])])
def test_retention(trained, words, left):
    """The losses fall, so that the newest checkpoint is the best."""
    assert trained(*DEFAULT, *words).steps == left


def test_the_newest_and_the_best_checkpoint_stay(trained, scripted, monkeypatch):
    def worse(trainer):
        if trainer.steps == 10:
            trainer.validation_loss = lambda images, use_ema: 9.0

    monkeypatch.setattr(scripted, "on_step", worse)
    assert trained(*DEFAULT).steps == [9, 27]


def test_a_training_that_was_promised_all_checkpoints_keeps_them(trained):
    part = trained(*SHORT, "--max_steps", 18)
    settings = part.folder / "config.json"
    before = json.loads(settings.read_text())
    del before["keep_last"]
    settings.write_text(json.dumps(before))
    assert trained("--model_path", part.folder, "--max_steps", "None", backend=None, root=None).code == 0
    assert part.steps == [9, 18, 27]


def test_without_a_log_only_settings_and_checkpoints_are_written(trained):
    done = trained(*SHORT, "--no-log", "--checkpoint", 0)
    assert files(done.folder) == ["checkpoints/step-00000027.safetensors", "config.json"]


def test_samples_when_they_are_asked_for(trained):
    assert "samples" not in " ".join(files(trained(*SHORT, "--sample_every", 0, root="none").folder))
    found = files(trained(*SHORT, "--sample_every", 2, root="two").folder)
    assert [name for name in found if "samples" in name] == ["samples/step-00000018.png", "samples/step-00000027.png"]


def test_the_weights_of_others_start_at_step_0(tmp_path, monkeypatch):
    file = tmp_path / "diffusion_pytorch_model.fp16.safetensors"
    file.touch()
    (tmp_path / "config.json").touch()
    params = {"w": np.ones(3, np.float32)}
    found = Weights(preset("ddpm"), params, None, "diffusers", file, "")
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


@pytest.mark.parametrize("fault", [RuntimeError("no font\nat all"), UsageError("loss.png: cannot be written: full")])
def test_a_picture_that_cannot_be_drawn_costs_a_line(trained, monkeypatch, fault):
    def fails(*_):
        raise fault

    monkeypatch.setattr(outputs, "save_curve", fails)
    monkeypatch.setattr(outputs, "save_grid", fails if isinstance(fault, UsageError) else lambda *_: None)
    monkeypatch.setattr(outputs, "CURVE_EVERY_S", 0)
    done = trained(*SHORT)
    assert done.code == 0 and done.steps
    told = [line for line in done.errors if "could not be drawn" in line]
    assert sorted(line.split(" could")[0] for line in told) == (
        ["loss.png", "samples"] if isinstance(fault, UsageError) else ["loss.png"])
    assert "no font at all" in told[0] or "full" in told[0]
