"""The `config.json` of a diffusers `UNet2DModel` as our `ModelConfig`: each key honoured or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError

from impls.errors import CheckpointError, UsageError
from impls.recipe.config import Frozen, ModelConfig, first_fault, read_json, unknown_key
from impls.store.diffusers_files import at_default
from messages import shown, tell

CONFIG_FILE = "config.json"

CLASS = "UNet2DModel"
# What a file may also hold without changing this network.
HARMLESS = frozenset({
    "_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values",
    "num_train_timesteps",  # of the learned time embedding, which is refused
})
UP = {"DownBlock2D": "UpBlock2D", "AttnDownBlock2D": "AttnUpBlock2D"}


class UNet2DFile(Frozen):
    """The keys that shape the network, with diffusers' own defaults; what has one value here is all that we know."""

    sample_size: PositiveInt
    in_channels: PositiveInt = 3
    out_channels: PositiveInt = 3
    center_input_sample: Literal[False] = False
    time_embedding_type: Literal["positional"] = "positional"
    time_embedding_dim: int | None = None
    freq_shift: float = 0.0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = Field(
        ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"), strict=False)
    mid_block_type: Literal["UNetMidBlock2D"] = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = Field(
        ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), strict=False)
    block_out_channels: tuple[PositiveInt, ...] = Field((224, 448, 672, 896), min_length=1, strict=False)
    layers_per_block: PositiveInt = 2
    mid_block_scale_factor: float = Field(1.0, ge=1, le=1)
    downsample_padding: Literal[0, 1] = 1
    downsample_type: Literal["conv"] = "conv"
    upsample_type: Literal["conv"] = "conv"
    dropout: float = Field(0.0, ge=0, lt=1)
    act_fn: Literal["silu", "swish"] = "silu"
    attention_head_dim: PositiveInt | None = 8
    norm_num_groups: PositiveInt = 32
    attn_norm_num_groups: PositiveInt | None = None
    norm_eps: float = Field(1e-5, gt=0)
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: None = None
    num_class_embeds: None = None


def read_config(path: Path) -> ModelConfig:
    """Our `ModelConfig` for a diffusers `config.json`; an absent key has diffusers' default.

    Raises:
        CheckpointError: unreadable, or a key or value that our U-Net does not have; the message names it.
    """
    try:
        raw: dict[str, Any] = read_json(path)
    except UsageError as error:
        raise CheckpointError(tell("{fault}: name a folder that diffusers' save_pretrained wrote",
                                   fault=error)) from error
    if raw.get("_class_name", CLASS) != CLASS:
        raise CheckpointError(tell("{path}: _class_name is {value}, our U-Net is diffusers' {own}", path=path,
                                   value=f"{raw['_class_name']!r:.80}", own=CLASS))
    size = raw.get("sample_size")
    if size is None:
        raise CheckpointError(tell("{path}: sample_size is missing: write the height and width of the images there",
                                   path=path))
    if isinstance(size, list) and len(size) == 2:
        if size[0] != size[1]:
            raise CheckpointError(tell("{path}: sample_size is {size}, our images are square", path=path,
                                       size=f"{size!r:.80}"))
        raw["sample_size"] = size[0]
    if isinstance(raw.get("act_fn"), str):
        raw["act_fn"] = raw["act_fn"].lower()
    try:
        left_out = HARMLESS | at_default(raw, path)
        file = UNet2DFile.model_validate({key: value for key, value in raw.items() if key not in left_out})
        return _model(file, path)
    except ValidationError as error:
        fault = shown(first_fault(error))
        if unknown_key(error):
            fault += tell(": our U-Net does not know what it changes: delete it from the file if it changes nothing")
        raise CheckpointError(f"{path}: {fault}") from error


def _model(file: UNet2DFile, path: Path) -> ModelConfig:
    size, channels = file.sample_size, file.block_out_channels
    if file.in_channels != file.out_channels:
        raise CheckpointError(tell("{path}: in_channels is {taken} and out_channels {given}: our U-Net predicts as "
                                   "many as it takes", path=path, taken=file.in_channels, given=file.out_channels))
    if file.time_embedding_dim not in (None, 0, 4 * channels[0]):
        raise CheckpointError(tell("{path}: time_embedding_dim is {value}, our U-Net's is 4 times the first of "
                                   "block_out_channels, {own}", path=path, value=file.time_embedding_dim,
                                   own=4 * channels[0]))
    scale_shift = file.resnet_time_scale_shift == "scale_shift"
    # Without a number of its own, diffusers' middle attention has no normalisation beside "scale_shift".
    middle_groups = file.attn_norm_num_groups or (0 if scale_shift else None)
    return ModelConfig(
        image_size=size, image_channels=file.in_channels, base_channels=channels[0], channels=channels,
        blocks_per_level=file.layers_per_block, attention_resolutions=_attention_resolutions(file, size, path),
        attention_layout="conv", upsample="nearest",
        downsample_padding="symmetric" if file.downsample_padding else "asymmetric",
        groups=file.norm_num_groups, group_norm_eps=file.norm_eps, dropout=file.dropout,
        head_channels=file.attention_head_dim, middle_attention=file.add_attention,
        middle_attention_groups=None if middle_groups == file.norm_num_groups else middle_groups,
        time_frequency_shift=file.freq_shift, time_cosine_first=file.flip_sin_to_cos, time_scale_shift=scale_shift)


def _attention_resolutions(file: UNet2DFile, size: int, path: Path) -> tuple[int, ...]:
    """Feature-map sizes with attention, from the block types going down; those going up must be their mirror image."""
    down, up, levels = file.down_block_types, file.up_block_types, len(file.block_out_channels)
    if len(down) != levels or any(kind not in UP for kind in down):
        raise CheckpointError(tell("{path}: down_block_types {down}: need {levels} of {known}", path=path,
                                   down=list(down), levels=levels, known=tell(" or ").join(UP)))
    if list(up) != [UP[kind] for kind in reversed(down)]:
        raise CheckpointError(tell("{path}: up_block_types {up} do not mirror down_block_types {down}", path=path,
                                   up=list(up), down=list(down)))
    return tuple(size // 2**level for level, kind in enumerate(down) if kind == "AttnDownBlock2D")
