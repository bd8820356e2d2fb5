import json

import pytest
from pydantic import ValidationError

from impls.errors import UsageError
from impls.recipe.config import PRESETS, ExperimentConfig, ModelConfig, merged, preset, read_json, validated


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip_keeps_everything(name):
    config = preset(name)
    again = validated(json.loads(config.model_dump_json()), "test")
    assert again == config
    assert again.sha256() == config.sha256()


def test_settings_that_came_later_leave_old_records_as_they_were():
    """The hashes are those of the presets when these were all the settings of a network."""
    assert not ModelConfig.later & json.loads(preset("ddpm").model_dump_json())["model"].keys()
    assert [preset(name).sha256()[:12] for name in PRESETS] == ["c2d93f6e65f8", "27b135823348", "dd52f3a3b860"]
    other = merged(preset("ddpm"), {"model": {"head_channels": 8}}, "test")
    assert other.sha256() != preset("ddpm").sha256()
    assert validated(json.loads(other.model_dump_json()), "test") == other


def test_presets_differ_and_are_immutable():
    assert len({preset(name).sha256() for name in PRESETS}) == len(PRESETS)
    with pytest.raises(ValidationError, match="frozen"):
        preset("ddpm").seed = 1


def test_later_settings_are_written_only_where_they_are_not_the_default():
    """Else every record of before would be another experiment than its equal of today."""
    config = preset("ddpm")
    assert config.sha256() == "c2d93f6e65f8fabc134e45b0384fb907b7a29f1c501d5c7ba53a30819eea3d4e"
    data = json.loads(config.model_dump_json())
    assert set(data["sample"]) == {"batch_size", "steps", "eta", "spacing", "randomness"}
    other = merged(config, {"sample": {"clip": False}}, "test")
    assert other.sha256() != config.sha256()
    assert json.loads(other.model_dump_json())["sample"]["clip"] is False
    assert validated(json.loads(other.model_dump_json()), "test") == other
    # What is laid over a configuration must find every field.
    assert {"clip", "clip_range", "recompute_eps"} <= set(config.model_dump()["sample"])


def test_unknown_preset_is_refused():
    with pytest.raises(UsageError, match="unknown preset 'huge': choose one of ddpm, seed, tiny"):
        preset("huge")


def test_recipes_are_the_papers():
    ddpm, seed = preset("ddpm"), preset("seed")
    assert (ddpm.train.lr, ddpm.train.ema_decay, ddpm.train.warmup_steps) == (2e-4, 0.9999, 5000)
    assert (ddpm.train.batch_size, ddpm.train.grad_clip, ddpm.train.flip) == (128, 1, True)
    assert (ddpm.diffusion.T, ddpm.diffusion.beta_start, ddpm.diffusion.beta_end) == (1000, 1e-4, 0.02)
    assert (ddpm.model.group_norm_eps, seed.model.group_norm_eps) == (1e-6, 1e-5)
    assert (seed.train.lr, seed.train.ema_decay, seed.model.channels) == (1e-4, None, (128, 256, 512, 1024))


def test_overrides_are_laid_over_group_by_group():
    config = merged(preset("tiny"), {"seed": 5, "train": {"lr": 1e-3}, "model": {"channels": [32, 64]}}, "f.json")
    assert (config.seed, config.train.lr, config.model.channels) == (5, 1e-3, (32, 64))
    assert config.train.batch_size == preset("tiny").train.batch_size


@pytest.mark.parametrize(("overrides", "line"), [
    ({"modle": {}}, "f.json: unknown key 'modle'"),
    ({"train": {"rate": 1}}, "f.json: unknown key 'train.rate'"),
    ({"train": {"lr": "fast"}}, "f.json: train.lr: Input should be a valid number, got 'fast'"),
    ({"train": {"lr": float("inf")}}, "f.json: train.lr: Input should be a finite number, got Infinity"),
    ({"train": {"batch_size": 1.5}}, "f.json: train.batch_size: Input should be a valid integer"),
    ({"train": {"batch_size": True}}, "f.json: train.batch_size: Input should be a valid integer, got true"),
    ({"train": 3}, "f.json: train: Input should be a valid dictionary"),
    ({"model": {"channels": [-32]}}, "f.json: model.channels.0: Input should be greater than 0, got -32"),
    ({"model": {"base_channels": 1, "groups": 1}}, "f.json: model: base_channels must be 2 or more"),
    ({"model": {"head_channels": 65}}, "f.json: model: head_channels: 65 is more than the 64 channels of an attention"),
    ({"model": {"middle_attention_groups": 7}}, "f.json: model: channels: 64 is not a multiple of middle_attention"),
    ({"model": {"time_frequency_shift": 16}}, "f.json: model: time_frequency_shift 16.0 is not below the 16 sinusoids"),
    ({"model": {"channels": [100]}}, "f.json: model: channels: 100 is not a multiple of groups=32"),
    ({"model": {"image_size": 30}}, "f.json: model: image_size 30 cannot be halved 3 times"),
    ([1], "f.json: expected a JSON object of settings, found list"),
])
def test_faults_are_one_line_with_their_place(overrides, line):
    with pytest.raises(UsageError) as fault:
        merged(preset("tiny"), overrides, "f.json")
    assert str(fault.value).startswith(line)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(("content", "line"), [
    (b"{", "not JSON"),
    (b"\xff", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"[]", "expected a JSON object, found list"),
])
def test_files_that_hold_no_settings_are_refused(tmp_path, content, line):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=line):
        read_json(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read the configuration: No such file"):
        read_json(tmp_path / "nothing.json")


def test_every_setting_is_described():
    def fields(model):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from fields(field.annotation)
            else:
                yield name, field.description

    assert [name for name, description in fields(ExperimentConfig) if not description] == []
