"""Diffusers folders that are not what they should be; the outputs of a good one are tested per framework."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from impls.errors import CheckpointError
from impls.recipe.config import ModelConfig, preset
from impls.recipe.operators import operators
from impls.store.diffusers import load_diffusers, modules
from impls.store.unet2d import read_config
from impls.store.weights import load_weights

WEIGHTS = "diffusion_pytorch_model.safetensors"

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


def folder(path: Path, config: dict[str, Any] = SMALL, old_names: bool = False,
           like: dict[str, Any] | None = None) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder whose arrays have diffusers' names and shapes; each weight is filled with its own number.

    Args:
        path: the folder.
        config: what its config.json says.
        old_names: attention as diffusers called it before 0.13.
        like: what the arrays are of, where config.json lies.
    """
    (path / "config.json").write_text(json.dumps(like or config), encoding="utf-8")
    theirs = dict(modules(model := read_config(path / "config.json")))
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arrays = {}
    for number, operator in enumerate(each for each in operators(model) if each.weight):
        name, linear = theirs[operator.module], ".attentions." in theirs[operator.module] and len(operator.weight) == 4
        if old_names:
            for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
                name = name.replace(new, old)
        arrays[f"{name}.weight"] = np.full(operator.weight[:2] if linear else operator.weight, number, np.float32)
        arrays[f"{name}.bias"] = np.full(operator.bias, -number, np.float32)
    save_file(arrays, path / WEIGHTS)
    return path, arrays


def test_the_published_configuration_is_the_preset(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CIFAR10), encoding="utf-8")
    assert read_config(tmp_path / "config.json") == preset("ddpm").model.model_copy(update={"dropout": 0.0})


@pytest.mark.parametrize("old_names", [False, True])
def test_arrays_arrive_under_our_names(tmp_path, old_names):
    path, theirs = folder(tmp_path, old_names=old_names)
    found = load_diffusers(path)
    ours = found.params
    assert (found.config.channels, found.file, found.stored) == ((32, 64), path / WEIGHTS, "float32")
    assert len(ours) == len(theirs)
    q = "query" if old_names else "to_q"
    np.testing.assert_array_equal(ours["middle.0.attention.q.weight"][:, :, 0, 0],
                                  theirs[f"mid_block.attentions.0.{q}.weight"])
    np.testing.assert_array_equal(ours["up.2.conv.bias"], theirs["up_blocks.0.upsamplers.0.conv.bias"])
    np.testing.assert_array_equal(ours["up.3.time.bias"], theirs["up_blocks.1.resnets.0.time_emb_proj.bias"])


DEFAULTS = {
    "_class_name": "UNet2DModel", "sample_size": 32, "in_channels": 1, "out_channels": 1, "norm_num_groups": 16,
    "block_out_channels": [48, 80], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}


def test_absent_keys_have_diffusers_own_defaults(tmp_path):
    path, _ = folder(tmp_path, DEFAULTS)
    assert load_diffusers(path).config == ModelConfig(
        image_size=32, image_channels=1, base_channels=48, channels=(48, 80), attention_resolutions=(16,),
        downsample_padding="symmetric", groups=16, group_norm_eps=1e-5, dropout=0.0, head_channels=8,
        time_frequency_shift=0.0, time_cosine_first=True)


@pytest.mark.parametrize(("change", "ours"), [
    ({"attention_head_dim": 16}, {"head_channels": 16}), ({"attention_head_dim": None}, {"head_channels": None}),
    ({"freq_shift": 1}, {"time_frequency_shift": 1.0}), ({"freq_shift": 0.5}, {"time_frequency_shift": 0.5}),
    ({"flip_sin_to_cos": False}, {"time_cosine_first": False}), ({"act_fn": "swish"}, {}), ({"act_fn": "SiLU"}, {}),
    ({"resnet_time_scale_shift": "scale_shift"}, {"time_scale_shift": True, "middle_attention_groups": 0}),
    ({"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 8},
     {"time_scale_shift": True, "middle_attention_groups": 8}),
    ({"attn_norm_num_groups": 8}, {"middle_attention_groups": 8}), ({"attn_norm_num_groups": 16}, {}),
    ({"norm_eps": 0.5, "_use_default_values": ["norm_eps"]}, {}),
    ({"add_attention": False}, {"middle_attention": False}), ({"dropout": 0.25}, {"dropout": 0.25}),
    ({"downsample_padding": 0}, {"downsample_padding": "asymmetric"}), ({"sample_size": [32, 32]}, {}),
    ({"norm_num_groups": 8, "norm_eps": 1}, {"groups": 8, "group_norm_eps": 1.0}), ({"time_embedding_dim": 192}, {}),
    ({"mid_block_scale_factor": 1.0, "num_train_timesteps": 1000, "_name_or_path": "x"}, {})])
def test_every_switch_of_the_network_is_followed(tmp_path, change, ours):
    path, arrays = folder(tmp_path, {**DEFAULTS, **change})
    found = load_diffusers(path)
    (tmp_path / "config.json").write_text(json.dumps(DEFAULTS), encoding="utf-8")
    assert found.config == read_config(tmp_path / "config.json").model_copy(update=ours)
    assert len(found.params) == len(arrays)


@pytest.mark.parametrize(("change", "message"), [
    ({"_class_name": "UNet2DConditionModel"}, "_class_name is 'UNet2DConditionModel'"),
    ({"_class_name": ["x"]}, "_class_name"), ({"act_fn": "relu"}, "act_fn: .*'silu' or 'swish', got 'relu'"),
    ({"act_fn": 3}, "act_fn"), ({"out_channels": 6}, "in_channels is 3 and out_channels 6"),
    ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "mirror"), ({"sample_size": None}, "sample_size is missing"),
    ({"sample_size": [32, 16]}, r"sample_size is \[32, 16\]"), ({"sample_size": "32"}, "sample_size"),
    ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "down_block_types"),
    ({"down_block_types": "DownBlock2D"}, "down_block_types"), ({"down_block_types": [{}]}, "down_block_types"),
    ({"norm_eps": -1.0}, "norm_eps"), ({"norm_eps": "small"}, "norm_eps"), ({"dropout": None}, "dropout"),
    ({"downsample_padding": 3}, "downsample_padding"), ({"downsample_type": "resnet"}, "downsample_type"),
    ({"upsample_type": "resnet"}, "upsample_type"), ({"center_input_sample": True}, "center_input_sample"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type"), ({"time_embedding_dim": 99}, "time_embedding_dim"),
    ({"mid_block_type": None}, "mid_block_type"), ({"mid_block_scale_factor": 1.4}, "mid_block_scale_factor"),
    ({"class_embed_type": "timestep"}, "class_embed_type"), ({"num_class_embeds": 10}, "num_class_embeds"),
    ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift"), ({"norm_num_groups": None}, "norm_num_groups"),
    ({"attention_head_dim": 0}, "attention_head_dim"), ({"attention_head_dim": 65}, "head_channels: 65 is more than"),
    ({"attention_head_dim": [8, 8]}, "attention_head_dim"), ({"attention_head_dim": 1e400}, "attention_head_dim"),
    ({"freq_shift": 16}, "time_frequency_shift 16.0 is not below"), ({"freq_shift": True}, "freq_shift"),
    ({"flip_sin_to_cos": 1}, "flip_sin_to_cos"), ({"attn_norm_num_groups": 7}, "middle_attention_groups=7"),
    ({"add_attention": "no"}, "add_attention"), ({"skip_blocks": [1]}, "unknown key 'skip_blocks'"),
    ({"block_out_channels": [32, "64"]}, "block_out_channels"), ({"block_out_channels": []}, "block_out_channels")])
def test_other_networks_are_refused_by_name(tmp_path, change, message):
    path, _ = folder(tmp_path, {**SMALL, **change}, like=SMALL)
    with pytest.raises(CheckpointError, match=message) as fault:
        load_diffusers(path)
    assert str(path / "config.json") in str(fault.value) and "\n" not in str(fault.value)


def stored(path: Path, arrays: dict[str, np.ndarray], kind: str) -> None:
    """Write a safetensors file whose numbers are of another type; numpy has no bfloat16."""
    if kind != "BF16":
        save_file({name: array.astype(kind) for name, array in arrays.items()}, path)
        return
    header, data = {}, b""
    for name, array in arrays.items():
        bits = upper_half(array).tobytes()
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (len(data), len(data) + len(bits))}
        data += bits
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def upper_half(array: np.ndarray) -> np.ndarray:
    """Bfloat16 of float32, as its bits: sign, exponent, seven bits of the fraction."""
    return (array.view(np.uint32) >> 16).astype("<u2")


@pytest.mark.parametrize(("kind", "told"), [("float16", "float16"), ("BF16", "bfloat16")])
def test_half_precision_arrives_exactly(tmp_path, kind, told):
    path, arrays = folder(tmp_path)
    odd = np.array([1 + 2**-7, -3.0e-5, 65280.0, 2.0**-14] * 8, np.float32)
    arrays["conv_in.bias"] = odd if kind == "BF16" else odd.astype(np.float16).astype(np.float32)
    want = arrays["conv_in.bias"] if kind != "BF16" else (odd.view(np.uint32) & 0xFFFF0000).view(np.float32)
    stored(path / WEIGHTS, arrays, kind)
    found = load_diffusers(path)
    assert found.stored == told
    np.testing.assert_array_equal(found.params["conv_in.bias"], want)
    assert all(array.dtype == np.float32 for array in found.params.values())


def test_numbers_that_float32_does_not_hold_are_refused(tmp_path):
    path, arrays = folder(tmp_path)
    stored(path / WEIGHTS, arrays, "float64")
    with pytest.raises(CheckpointError, match="holds F64 numbers: save the model in float32"):
        load_diffusers(path)


def sharded(path: Path, index: str = "diffusion_pytorch_model.safetensors.index.json") -> dict[str, Any]:
    """The small model in two shards; what its index says."""
    _, arrays = folder(path)
    (path / WEIGHTS).unlink()
    places = {name: f"diffusion_pytorch_model-0000{1 + number % 2}-of-00002.safetensors"
              for number, name in enumerate(arrays)}
    for shard in set(places.values()):
        save_file({name: array for name, array in arrays.items() if places[name] == shard}, path / shard)
    content = {"metadata": {"total_size": 1}, "weight_map": places}
    (path / index).write_text(json.dumps(content), encoding="utf-8")
    return content


def test_shards_are_put_together(tmp_path):
    sharded(tmp_path)
    found = load_diffusers(tmp_path)
    assert found.file.name == "diffusion_pytorch_model.safetensors.index.json"
    whole = tmp_path / "whole"
    whole.mkdir()
    params = load_diffusers(folder(whole)[0]).params
    assert found.params.keys() == params.keys()
    assert all(np.array_equal(found.params[name], array) for name, array in params.items())


@pytest.mark.parametrize(("damage", "message"), [
    (lambda places: places.update({"conv_in.bias": "../secret.safetensors"}), "not the name of a .safetensors file"),
    (lambda places: places.update({"conv_in.bias": "/etc/passwd"}), "not the name of a .safetensors file"),
    (lambda places: places.update({"conv_in.bias": "other.safetensors"}), "its shard other.safetensors is missing"),
    (lambda places: places.update({"conv_in.bias": 3}), "weight_map does not say"),
    (lambda places: places.update({"more.bias": places["conv_in.bias"]}), "more.bias is not where this index says"),
    (lambda places: places.pop("conv_in.bias"), "conv_in.bias is not where this index says"),
    (lambda places: places.clear(), "weight_map does not say")])
def test_an_index_that_lies_is_refused(tmp_path, damage, message):
    content = sharded(tmp_path)
    damage(content["weight_map"])
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_diffusers(tmp_path)


def test_which_file_is_taken(tmp_path):
    """The index of shards, else the whole file, else the only variant; of several, the one that is named."""
    _, arrays = folder(tmp_path)
    half, other = (tmp_path / f"diffusion_pytorch_model.{variant}.safetensors" for variant in ("fp16", "non_ema"))
    stored(half, arrays, "float16")
    assert load_diffusers(tmp_path).file == tmp_path / WEIGHTS
    assert load_weights(half).path == half
    (tmp_path / WEIGHTS).rename(other)
    with pytest.raises(CheckpointError, match=r"fp16.safetensors and .*non_ema.safetensors: name one"):
        load_diffusers(tmp_path)
    other.unlink()
    found = load_weights(tmp_path)
    assert found.path == half and f"{half} (float16)" in found.description
    half.unlink()
    sharded(tmp_path, "diffusion_pytorch_model.safetensors.index.fp16.json")
    assert load_diffusers(tmp_path).file.name.endswith(".index.fp16.json")
    content = sharded(tmp_path)
    folder(tmp_path)
    assert load_diffusers(tmp_path).file.name.endswith(".index.json") and content


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"No such file.*save_pretrained"):
        load_diffusers(tmp_path)
    path, arrays = folder(tmp_path)
    weights = path / WEIGHTS
    save_file({**arrays, "class_embedding.weight": np.zeros(3, np.float32)}, weights)
    with pytest.raises(CheckpointError, match="no place"):
        load_diffusers(path)
    save_file({**arrays, "conv_in.bias": np.zeros(3, np.float32)}, weights)
    with pytest.raises(CheckpointError, match=r"conv_in.bias has shape \(3,\), that of the network .* has \(32,\)"):
        load_diffusers(path)
    arrays.pop("conv_in.weight")
    save_file(arrays, weights)
    with pytest.raises(CheckpointError, match="conv_in is missing"):
        load_diffusers(path)
    weights.write_bytes(b"\x80\x02not a tensor file")
    with pytest.raises(CheckpointError, match="a pickle"):
        load_diffusers(path)
    weights.write_bytes(b"not a tensor file")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_diffusers(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_diffusers(path)
    (path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not JSON"):
        load_diffusers(path)
    (path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="JSON object"):
        load_diffusers(path)
