"""Diffusers folders that are not what they should be; the outputs of a good one are tested per framework."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from impls.errors import CheckpointError
from impls.store.diffusers import load_diffusers, modules, read_config

# The published configuration of google/ddpm-cifar10-32.
CIFAR10 = {
    "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256], "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"], "downsample_padding": 0,
    "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = {**CIFAR10, "block_out_channels": [32, 64], "layers_per_block": 1,
         "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}


def folder(path: Path, config: object = SMALL, old_names: bool = False) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder whose arrays have diffusers' names; each weight is filled with its own number."""
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    present = [theirs for ours, theirs in modules(read_config_of(SMALL, path)) if exists(ours)]
    if old_names:
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            present = [name.replace(new, old) for name in present]
    arrays = {}
    for number, name in enumerate(present):
        shape = (4, 4) if "attentions" in name and "norm" not in name else (4,)
        arrays[f"{name}.weight"] = np.full(shape, number, np.float32)
        arrays[f"{name}.bias"] = np.full(4, -number, np.float32)
    save_file(arrays, path / "diffusion_pytorch_model.safetensors")
    return path, arrays


def exists(ours: str) -> bool:
    """Whether the small network has this module: attention at level 1 and the middle, shortcuts where widths differ."""
    if ".attention." in ours:
        return ours.startswith(("down.2", "up.0", "up.1", "middle.0"))
    return ".shortcut" not in ours or ours.startswith(("down.2", "up."))


def read_config_of(config: dict[str, object], path: Path):
    other = path / "small.json"
    other.write_text(json.dumps(config), encoding="utf-8")
    return read_config(other)


def test_the_published_configuration_is_the_preset(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CIFAR10), encoding="utf-8")
    from impls.recipe.config import preset

    assert read_config(tmp_path / "config.json") == preset("ddpm").model.model_copy(update={"dropout": 0.0})


@pytest.mark.parametrize("old_names", [False, True])
def test_arrays_arrive_under_our_names(tmp_path, old_names):
    path, theirs = folder(tmp_path, old_names=old_names)
    config, ours = load_diffusers(path)
    assert config.channels == (32, 64)
    assert len(ours) == len(theirs)
    q = "query" if old_names else "to_q"
    np.testing.assert_array_equal(ours["middle.0.attention.q.weight"][:, :, 0, 0],
                                  theirs[f"mid_block.attentions.0.{q}.weight"])
    np.testing.assert_array_equal(ours["up.2.conv.bias"], theirs["up_blocks.0.upsamplers.0.conv.bias"])
    np.testing.assert_array_equal(ours["up.3.time.bias"], theirs["up_blocks.1.resnets.0.time_emb_proj.bias"])


@pytest.mark.parametrize(("change", "message"), [
    ({"_class_name": "UNet2DConditionModel"}, "_class_name"), ({"flip_sin_to_cos": True}, "flip_sin_to_cos"),
    ({"attention_head_dim": 8}, "attention_head_dim"), ({"act_fn": "relu"}, "act_fn"),
    ({"out_channels": 6}, "differ"),
    ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "mirror"), ({"sample_size": None}, "sample_size"),
    ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "down_block_types"),
    ({"norm_eps": -1.0}, "norm_eps"),
    ({"downsample_padding": 3}, "downsample_padding"),
    ({"block_out_channels": [32, "64"]}, "block_out_channels|channels"),
])
def test_other_networks_are_refused(tmp_path, change, message):
    path, _ = folder(tmp_path, {**SMALL, **change})
    with pytest.raises(CheckpointError, match=message):
        load_diffusers(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_diffusers(tmp_path)
    path, arrays = folder(tmp_path)
    weights = path / "diffusion_pytorch_model.safetensors"
    save_file({**arrays, "class_embedding.weight": np.zeros(3, np.float32)}, weights)
    with pytest.raises(CheckpointError, match="no place"):
        load_diffusers(path)
    arrays.pop("conv_in.weight")
    save_file(arrays, weights)
    with pytest.raises(CheckpointError, match="conv_in is missing"):
        load_diffusers(path)
    weights.write_bytes(b"\x80\x02not a tensor file")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_diffusers(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_diffusers(path)
    (path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a readable"):
        load_diffusers(path)
    (path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="JSON object"):
        load_diffusers(path)
