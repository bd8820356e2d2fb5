"""What --model_path may name, and that everything else is refused in one line."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_diffusers import CIFAR10, SMALL, folder

from impls.backend import TrainerState
from impls.errors import CheckpointError
from impls.recipe.config import preset
from impls.store.checkpoint import save_state
from impls.store.weights import find_checkpoint, load_weights


def checkpoint(path, step=7, ema=True, value=1.0):
    raw = {"a.weight": np.full((2, 3), value, np.float32)}
    zeros = {"a.weight": np.zeros((2, 3), np.float32)}
    averaged = {"a.weight": np.full((2, 3), value / 2, np.float32)} if ema else None
    save_state(path, TrainerState(step, raw, averaged, zeros, zeros), preset("tiny"))
    return path


def test_a_file_is_itself_and_a_folder_its_newest_checkpoint(tmp_path):
    for step in (9, 1000, 200):
        checkpoint(tmp_path / "run" / "checkpoints" / f"step-{step:06d}.safetensors", step)
    newest = tmp_path / "run" / "checkpoints" / "step-001000.safetensors"
    assert find_checkpoint(tmp_path / "run") == newest
    assert find_checkpoint(tmp_path / "run" / "checkpoints") == newest
    assert find_checkpoint(newest) == newest
    (tmp_path / "run" / "config.json").write_text("{}", encoding="utf-8")
    assert load_weights(tmp_path / "run").path == newest
    # The number counts, not the alphabet.
    checkpoint(tmp_path / "run" / "checkpoints" / "step-9999999.safetensors", 9_999_999)
    longer = checkpoint(tmp_path / "run" / "checkpoints" / "step-10000000.safetensors", 10_000_000)
    (tmp_path / "run" / "checkpoints" / "step-last.safetensors").write_bytes(b"not ours")
    assert find_checkpoint(tmp_path / "run") == longer


def test_averaged_weights_are_taken_where_there_are_any(tmp_path):
    path = checkpoint(tmp_path / "step-7.safetensors")
    values = {which: float(load_weights(path, which).params["a.weight"][0, 0]) for which in (None, "ema", "raw")}
    assert values == {None: 0.5, "ema": 0.5, "raw": 1.0}
    found = load_weights(tmp_path)
    assert (found.step, found.kind, found.path, found.config) == (7, "ema", path, preset("tiny"))
    assert found.description == f"EMA weights of {path}, preset tiny, 7 training steps"
    bare = checkpoint(tmp_path / "bare.safetensors", ema=False)
    assert load_weights(bare).kind == "raw"
    assert load_weights(bare).description.startswith("raw weights of ")
    with pytest.raises(CheckpointError, match="bare.safetensors: holds no averaged weights"):
        load_weights(bare, "ema")


def test_the_hash_is_of_the_weights_not_of_the_file(tmp_path):
    one, other = checkpoint(tmp_path / "one.safetensors"), checkpoint(tmp_path / "other.safetensors", step=8)
    assert load_weights(one).sha256() == load_weights(other).sha256()
    assert load_weights(one).sha256() != load_weights(one, "raw").sha256()
    assert load_weights(one).sha256() != load_weights(checkpoint(one, value=2.0)).sha256()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "truncated or not a safetensors"), (b"\x80\x04\x95 pickled", "a pickle"),
    (b"PK\x03\x04 zipped", "a zip archive"), (b"\xff" * 64, "truncated or not a safetensors"),
    (b"hello, this is text", "truncated or not a safetensors")])
def test_foreign_files_are_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "step-1.safetensors"
    path.write_bytes(content)
    for place in (path, tmp_path):
        with pytest.raises(CheckpointError, match=message) as caught:
            load_weights(place)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", ["ema", "raw"])
def test_only_the_weights_that_are_wanted_are_read(tmp_path, which):
    size = 1 << 18
    arrays = {f"{number}.weight": np.full(size, number, np.float32) for number in range(8)}
    path = tmp_path / "step-1.safetensors"
    save_state(path, TrainerState(1, arrays, arrays, arrays, arrays), preset("tiny"))
    tracemalloc.start()
    try:
        found = load_weights(path, which)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(array.nbytes for array in found.params.values()) == 8 * 4 * size
    assert peak < 1.2 * 8 * 4 * size


def test_damage_is_noticed(tmp_path):
    path = checkpoint(tmp_path / "a.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match="truncated"):
        load_weights(path)
    broken = np.frombuffer(whole, np.uint8).copy()
    broken[-4:] = np.frombuffer(np.array([np.nan], "<f4").tobytes(), np.uint8)
    path.write_bytes(broken.tobytes())
    with pytest.raises(CheckpointError, match="params.a.weight' holds NaN"):
        load_weights(path, "raw")
    save_file({"a.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match="of another program"):
        load_weights(path)


def test_nothing_there_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load_weights(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load_weights(tmp_path / "absent" / "config.json")
    with pytest.raises(CheckpointError, match="holds no step-"):
        load_weights(tmp_path)


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("layout", ["flat", "pipeline"])
def test_a_diffusers_folder(tmp_path, old_names, layout):
    place = tmp_path / "model" / ("unet" if layout == "pipeline" else "")
    place.mkdir(parents=True)
    _, arrays = folder(place, SMALL, old_names)
    given = tmp_path / "model"
    for path in (given, place / "diffusion_pytorch_model.safetensors"):
        found = load_weights(path)
        assert found.config.model.channels == (32, 64)
        assert found.config.diffusion == preset("ddpm").diffusion
        assert (found.kind, found.step, len(found.params)) == ("diffusers", None, len(arrays))
        assert "preset ddpm (no scheduler_config.json)" in found.description
    scheduler = place if layout == "flat" else given / "scheduler"
    scheduler.mkdir(exist_ok=True)
    (scheduler / "scheduler_config.json").write_text(json.dumps({
        "_class_name": "DDPMScheduler", "num_train_timesteps": 50, "beta_start": 2e-4, "beta_end": 0.1,
        "beta_schedule": "linear", "variance_type": "fixed_large", "prediction_type": "epsilon"}), encoding="utf-8")
    diffusion = load_weights(given).config.diffusion
    assert (diffusion.T, diffusion.beta_start, diffusion.beta_end) == (50, 2e-4, 0.1)
    assert (diffusion.schedule, diffusion.variance) == ("linear", "fixedlarge")
    with pytest.raises(CheckpointError, match="does not say which"):
        load_weights(given, "raw")


def test_a_scheduler_belongs_to_the_weights(tmp_path):
    folder(tmp_path, SMALL)
    scheduler = tmp_path / "scheduler_config.json"
    scheduler.write_text(json.dumps({"_class_name": "DDIMScheduler", "clip_sample_range": 2.0, "steps_offset": 1}),
                         encoding="utf-8")
    found = load_weights(tmp_path)
    assert found.config.sample.clip_range == 2.0
    assert found.description.endswith(f"diffusion and sampling of {scheduler}, which says: x_0 clipped to 2, "
                                      "eps of DDIM as predicted, diffusers-leading timesteps, steps_offset 1")
    scheduler.write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not JSON"):
        load_weights(tmp_path)


def test_a_pickled_diffusers_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CIFAR10), encoding="utf-8")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match="safe_serialization=True"):
        load_weights(tmp_path)
