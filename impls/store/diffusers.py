"""Weights from elsewhere under our own names: a diffusers `UNet2DModel` folder -> (ModelConfig, arrays)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.backend import TrainerState
from impls.errors import CheckpointError
from impls.recipe.config import ModelConfig
from impls.recipe.operators import operators
from impls.store.diffusers_files import read_weights, weights_file
from impls.store.unet2d import CONFIG_FILE, read_config
from messages import tell

Arrays = dict[str, NDArray[np.float32]]

RESNET = {"norm1": "norm1", "conv1": "conv1", "time": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
# Checkpoints from before diffusers 0.13, google/ddpm-cifar10-32 among them, carry these names.
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True)
class Model:
    """A diffusers model as ours.

    Attributes:
        config: the network, with attention layout "conv".
        params: its weights under our keys and in our shapes, float32.
        file: what they were read from: a whole file, or the index of its shards.
        stored: number types that they were stored in, e.g. "float16".
    """

    config: ModelConfig
    params: Arrays
    file: Path
    stored: str


def load_diffusers(folder: str | Path, file: Path | None = None) -> Model:
    """The `UNet2DModel` in a folder that diffusers' `save_pretrained` wrote.

    Args:
        folder: holds `config.json` and the weights.
        file: the weights' file there, where it is not for `weights_file` to find.

    Raises:
        CheckpointError: a file is missing or unreadable, or the network is one that ours cannot be.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG_FILE)
    file = file or weights_file(folder)
    theirs, stored = read_weights(file)
    return Model(config, rename(theirs, config, file), file, stored)


def modules(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(our module, diffusers' module) for every module that holds weights, or would if its block had it."""
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


def rename(theirs: Mapping[str, NDArray[np.float32]], config: ModelConfig, path: Path) -> Arrays:
    """Diffusers' arrays under our keys; linear attention projections become 1x1 convolutions.

    Raises:
        CheckpointError: the arrays are not those of this network; the message names one, and the file.
    """
    left, ours = dict(theirs), {}
    shapes = {operator.module: (operator.weight, operator.bias) for operator in operators(config) if operator.weight}
    for own, other in modules(config):
        if own not in shapes:
            continue
        names = [other] + [other.replace(new, old) for new, old in OLD_ATTENTION.items() if other.endswith("." + new)]
        found = next((name for name in names if f"{name}.weight" in left), None)
        if found is None or f"{found}.bias" not in left:
            raise CheckpointError(tell("{path}: {name} is missing: not the weights of the network in {file}",
                                       path=path, name=other, file=CONFIG_FILE))
        for part, shape in zip(("weight", "bias"), shapes[own], strict=True):
            array = left.pop(f"{found}.{part}")
            if ".attention." in own and array.ndim == 2:
                array = array[:, :, None, None]
            if array.shape != shape:
                raise CheckpointError(tell("{path}: {name} has shape {shape}, that of the network in {file} has "
                                           "{wanted}", path=path, name=f"{found}.{part}", shape=array.shape,
                                           file=CONFIG_FILE, wanted=shape))
            ours[f"{own}.{part}"] = array
    if left:
        raise CheckpointError(tell("{path}: {count} arrays have no place in our U-Net, e.g. {name}", path=path,
                                   count=len(left), name=sorted(left)[0]))
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
        raise CheckpointError(
            tell("checkpoint without averaged weights, the recipe keeps average: change train.ema_decay")
            if keeps_ema else
            tell("checkpoint with averaged weights, the recipe keeps no average: change train.ema_decay"))
    for part in ("params", "exp_avg", "exp_avg_sq", *(("ema",) if keeps_ema else ())):
        require_same(part, getattr(state, part), shapes)


def require_same(part: str, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays whose names or shapes are not exactly `shapes`, or that hold NaN or infinity.

    Raises:
        CheckpointError: names the first array at fault.
    """
    for name in sorted(arrays.keys() ^ shapes.keys()):
        raise CheckpointError(
            tell("checkpoint {part}: {name} is missing: was it written with another model configuration?",
                 part=part, name=name) if name in shapes else
            tell("checkpoint {part}: {name} is not in this network: was it written with another model configuration?",
                 part=part, name=name))
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise CheckpointError(tell("checkpoint {part}: {name} has shape {shape}, the network's is {wanted}",
                                       part=part, name=name, shape=arrays[name].shape, wanted=shape))
        if not np.isfinite(arrays[name]).all():
            raise CheckpointError(tell("checkpoint {part}: {name} holds NaN or infinity: the training had diverged",
                                       part=part, name=name))
