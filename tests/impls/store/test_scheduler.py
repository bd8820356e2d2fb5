"""A diffusers scheduler's file: each key honoured, or refused in one line that names it and says what to do."""

from __future__ import annotations

import json

import pytest

from impls.errors import CheckpointError
from impls.recipe.config import DiffusionConfig, SampleConfig
from impls.store.scheduler import CLASSES, read_scheduler


def read(folder, text):
    path = folder / "scheduler_config.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return read_scheduler(path)


@pytest.mark.parametrize("name", CLASSES)
def test_absent_keys_are_as_in_diffusers(tmp_path, name):
    """Whichever class wrote the file: `DDPMScheduler.from_config` of a DDIM one has the small variance too."""
    diffusion, sample = read(tmp_path, {"_class_name": name})
    assert diffusion == DiffusionConfig(variance="fixedsmall")
    assert sample == SampleConfig(spacing="diffusers-leading", recompute_eps=False)


def test_every_key_is_honoured(tmp_path):
    diffusion, sample = read(tmp_path, {
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1", "num_train_timesteps": 50, "beta_start": 2e-4,
        "beta_end": 0.1, "beta_schedule": "scaled_linear", "trained_betas": None, "variance_type": "fixed_large",
        "clip_sample": False, "clip_sample_range": 2, "prediction_type": "epsilon", "thresholding": False,
        "dynamic_thresholding_ratio": 0.9, "sample_max_value": 3.0, "set_alpha_to_one": False, "steps_offset": 1,
        "timestep_spacing": "trailing", "rescale_betas_zero_snr": False})
    assert diffusion == DiffusionConfig(T=50, schedule="scaled_linear", beta_start=2e-4, beta_end=0.1,
                                        variance="fixedlarge")
    assert sample == SampleConfig(spacing="diffusers-trailing", clip=False, clip_range=2.0, recompute_eps=False,
                                  steps_offset=1, set_alpha_to_one=False)
    # Values that a program only wrote down as its defaults give way to them.
    _, sample = read(tmp_path, {"_class_name": "DDIMScheduler", "clip_sample": False,
                                "_use_default_values": ["clip_sample"]})
    assert sample.clip


@pytest.mark.parametrize(("change", "message"), [
    ('"prediction_type": "v_prediction"', "prediction_type: .*got 'v_prediction'"),
    ('"beta_schedule": "laplace"', "beta_schedule: .*got 'laplace'"), ('"trained_betas": [0.1]', "trained_betas: "),
    ('"rescale_betas_zero_snr": true', "rescale_betas_zero_snr: "), ('"thresholding": true', "thresholding: "),
    ('"variance_type": "learned"', "variance_type: "), ('"variance_type": "fixed_large_log"', "variance_type: "),
    ('"num_train_timesteps": "many"', "num_train_timesteps: "), ('"num_train_timesteps": 1e400', "num_train_timesteps"),
    (f'"num_train_timesteps": {"9" * 30}', "num_train_timesteps: .*less than"), ('"beta_end": 2.0', "beta_end: "),
    ('"beta_start": NaN', "beta_start: "), ('"beta_start": 1e-12', "the first beta is 1e-12"),
    ('"beta_end": 0.9', "alpha-bar falls to"), ('"clip_sample": 1', "clip_sample: "),
    ('"clip_sample": null', "clip_sample: "), ('"clip_sample_range": 0', "clip_sample_range: "),
    (f'"clip_sample_range": {10**50}', "clip_sample_range: .*less than"),
    ('"clip_sample_range": [[1]]', "clip_sample_range: "), ('"steps_offset": -1', "steps_offset: "),
    ('"timestep_spacing": "karras"', "timestep_spacing: "), ('"use_karras_sigmas": true', "unknown key.*delete it"),
    ('"_use_default_values": "clip_sample"', "_use_default_values is 'clip_sample'"),
    ('"_class_name": ["DDIMScheduler"]', "_class_name is"), ('"_class_name": null', "_class_name is None"),
    ('"_class_name": "EDMEulerScheduler"', "_class_name is 'EDMEulerScheduler'.*DDPMScheduler, .*save the scheduler"),
    ('"_class_name": "FlowMatchEulerDiscreteScheduler"', "_class_name is 'FlowMatch"),
    (f'"beta_end": {"[" * 900}{"]" * 900}', "beta_end: "), (f'"beta_end": {"[" * 10**5}{"]" * 10**5}', "not JSON"),
    (f'"beta_end": {"9" * 400}', "beta_end: "), (f'"beta_end": {"9" * 5000}', "not JSON"),
])
def test_everything_else_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, f'{{"_class_name": "DDPMScheduler", {change}}}')
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'scheduler_config.json'}: ") and "\n" not in text and len(text) < 600


def test_a_class_is_needed(tmp_path):
    with pytest.raises(CheckpointError, match="_class_name is None"):
        read(tmp_path, {})
