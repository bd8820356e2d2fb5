"""Weights from elsewhere under our own names: a diffusers `UNet2DModel` folder -> (ModelConfig, arrays)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from impls.backend import TrainerState
from impls.errors import CheckpointError
from impls.recipe.config import ModelConfig, first_fault

Arrays = dict[str, NDArray[np.float32]]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"

# What our U-Net always does; absent keys have diffusers' own default, given second.
FIXED: tuple[tuple[str, Any, Any], ...] = (
    ("_class_name", "UNet2DModel", None),
    ("act_fn", "silu", "silu"),
    ("time_embedding_type", "positional", "positional"),
    ("freq_shift", 1, 0),
    ("flip_sin_to_cos", False, True),
    ("center_input_sample", False, False),
    ("mid_block_scale_factor", 1, 1),
    ("mid_block_type", "UNetMidBlock2D", "UNetMidBlock2D"),
    ("downsample_type", "conv", "conv"),
    ("upsample_type", "conv", "conv"),
    ("attention_head_dim", None, 8),
    ("attn_norm_num_groups", None, None),
    ("resnet_time_scale_shift", "default", "default"),
    ("add_attention", True, True),
    ("class_embed_type", None, None),
    ("num_class_embeds", None, None),
)
RESNET = {"norm1": "norm1", "conv1": "conv1", "time": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
# Checkpoints from before diffusers 0.13, google/ddpm-cifar10-32 among them, carry these names.
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def load_diffusers(folder: str | Path) -> tuple[ModelConfig, Arrays]:
    """A diffusers `UNet2DModel` as our configuration and our state-dict arrays, float32.

    Args:
        folder: holds `config.json` and `diffusion_pytorch_model.safetensors`.

    Returns:
        The model's configuration (attention layout "conv") and its weights under our keys and in our shapes.

    Raises:
        CheckpointError: a file is missing or unreadable, or the network is one that ours cannot be.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    try:
        theirs = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file: save the model with safe_serialization=True") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
    return config, rename(theirs, config, path)


def read_config(path: Path) -> ModelConfig:
    """Our `ModelConfig` for a diffusers `config.json`.

    Raises:
        CheckpointError: unreadable, or it asks for something our U-Net does not have.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file: name a folder that save_pretrained wrote") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not a readable diffusers configuration: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(raw).__name__}")
    for key, wanted, default in FIXED:
        if raw.get(key, default) != wanted:
            raise CheckpointError(f"{path}: {key} is {raw.get(key, default)!r}, our U-Net only knows {wanted!r}")
    if raw.get("in_channels", 3) != raw.get("out_channels", 3):
        raise CheckpointError(f"{path}: in_channels and out_channels differ, our U-Net predicts as many as it takes")
    size, channels = raw.get("sample_size"), raw.get("block_out_channels")
    if isinstance(size, list) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int) or not isinstance(channels, list) or not channels:
        raise CheckpointError(f"{path}: sample_size (square) and block_out_channels are needed")
    padding = {0: "asymmetric", 1: "symmetric"}.get(raw.get("downsample_padding", 1))
    try:
        return ModelConfig(
            image_size=size, image_channels=raw.get("in_channels", 3),
            base_channels=channels[0], channels=tuple(channels), blocks_per_level=raw.get("layers_per_block", 2),
            attention_resolutions=attention_resolutions(raw, size, path),
            attention_layout="conv", upsample="nearest", downsample_padding=padding,  # type: ignore[arg-type]
            groups=raw.get("norm_num_groups", 32), group_norm_eps=raw.get("norm_eps", 1e-5),
            dropout=float(raw.get("dropout", 0.0)))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_fault(error)}") from error


def attention_resolutions(raw: Mapping[str, Any], size: int, path: Path) -> tuple[int, ...]:
    """Feature-map sizes with attention, from the block types going down; those going up must be their mirror image."""
    down, up = raw.get("down_block_types"), raw.get("up_block_types")
    known = {"DownBlock2D": "UpBlock2D", "AttnDownBlock2D": "AttnUpBlock2D"}
    levels = len(raw["block_out_channels"])
    if not isinstance(down, list) or len(down) != levels or any(kind not in list(known) for kind in down):
        raise CheckpointError(f"{path}: down_block_types {down!r}: need {levels} of {' or '.join(known)}")
    if up != [known[kind] for kind in reversed(down)]:
        raise CheckpointError(f"{path}: up_block_types {up!r} do not mirror down_block_types {down!r}")
    return tuple(size // 2**level for level, kind in enumerate(down) if kind == "AttnDownBlock2D")


def modules(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(our module, diffusers' module) for every module of the U-Net that holds weights."""
    levels, blocks = len(config.channels), config.blocks_per_level
    yield from [("time1", "time_embedding.linear_1"), ("time2", "time_embedding.linear_2"), ("conv_in", "conv_in")]
    for way, per_level in (("down", blocks), ("up", blocks + 1)):
        layer = 0
        for level in range(levels):
            for block in range(per_level):
                yield from res_block(f"{way}.{layer}", f"{way}_blocks.{level}", block)
                layer += 1
            if level < levels - 1:
                yield f"{way}.{layer}.conv", f"{way}_blocks.{level}.{way}samplers.0.conv"
                layer += 1
    yield from res_block("middle.0", "mid_block", 0)
    yield from res_block("middle.1", "mid_block", 1)
    yield from [("norm_out", "conv_norm_out"), ("conv_out", "conv_out")]


def res_block(ours: str, theirs: str, index: int) -> Iterator[tuple[str, str]]:
    """The modules a residual block may have; its shortcut and its attention are not in every block."""
    yield from ((f"{ours}.{own}", f"{theirs}.resnets.{index}.{other}") for own, other in RESNET.items())
    yield f"{ours}.shortcut", f"{theirs}.resnets.{index}.conv_shortcut"
    yield from ((f"{ours}.attention.{own}", f"{theirs}.attentions.{index}.{other}") for own, other in ATTENTION.items())


def rename(theirs: Mapping[str, NDArray[Any]], config: ModelConfig, path: Path) -> Arrays:
    """Diffusers' arrays under our keys; linear attention projections become 1x1 convolutions.

    Raises:
        CheckpointError: an array has no place in our U-Net, or a module that every such network has is missing.
    """
    left = dict(theirs)
    ours: Arrays = {}
    for own, other in modules(config):
        names = [other] + [other.replace(new, old) for new, old in OLD_ATTENTION.items() if other.endswith("." + new)]
        found = next((name for name in names if f"{name}.weight" in left), None)
        optional = ".shortcut" in own or ".attention." in own
        if found is None or f"{found}.bias" not in left:
            if optional and found is None:
                continue
            raise CheckpointError(f"{path}: {other} is missing: not the weights of the network in {CONFIG_FILE}")
        weight = left.pop(f"{found}.weight").astype(np.float32)
        if ".attention." in own and weight.ndim == 2:
            weight = weight[:, :, None, None]
        ours[f"{own}.weight"] = weight
        ours[f"{own}.bias"] = left.pop(f"{found}.bias").astype(np.float32)
    if left:
        raise CheckpointError(f"{path}: {len(left)} arrays have no place in our U-Net, e.g. {sorted(left)[0]}")
    return ours


def require_fit(state: TrainerState, shapes: Mapping[str, tuple[int, ...]], keeps_ema: bool) -> None:
    """Refuse a training state that is not this network's.

    Args:
        state: what is to be loaded.
        shapes: the network's parameters, name -> shape.
        keeps_ema: whether the recipe averages weights.

    Raises:
        CheckpointError: names or shapes differ, values are not finite, or averaged weights are missing or too many.
    """
    if (state.ema is not None) != keeps_ema:
        have, want = ("without", "keeps") if keeps_ema else ("with", "keeps no")
        raise CheckpointError(f"checkpoint {have} averaged weights, the recipe {want} average: change train.ema_decay")
    for part in ("params", "exp_avg", "exp_avg_sq", *(("ema",) if keeps_ema else ())):
        require_same(part, getattr(state, part), shapes)


def require_same(part: str, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays whose names or shapes are not exactly `shapes`, or that hold NaN or infinity.

    Raises:
        CheckpointError: names the first array at fault.
    """
    for name in sorted(arrays.keys() ^ shapes.keys()):
        fault = "is missing" if name in shapes else "is not in this network"
        raise CheckpointError(f"checkpoint {part}: {name} {fault}: was it written with another model configuration?")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"checkpoint {part}: {name} has shape {arrays[name].shape}, the network's is {shape}")
        if not np.isfinite(arrays[name]).all():
            raise CheckpointError(f"checkpoint {part}: {name} holds NaN or infinity: the training had diverged")
