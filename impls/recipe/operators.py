"""Every operator of the U-Net in the order in which it runs, with its shapes, cost and place: one list for everybody.

The wiring, level 0 being the finest:

- Down: the first block of a level changes the channels; the strided convolution never does.
- Up, `up_narrowing="first"` (Ho et al. 2020): the first block of a level takes in the coarser level's channels and puts
  out its own; so does each further block of the level.
- Up, `up_narrowing="last"` (preset `seed`): the last block of a level already puts out the finer level's channels (the
  base width on level 0), so its attention and the transposed convolution after it work on those.

Every block on the way up takes one output of the way down beside its input: that of `conv_in`, of each block and of
each down-sampling, last first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from impls.recipe.config import ModelConfig

Shape = tuple[int, ...]
Kind = Literal["sinusoid", "linear", "silu", "conv2d", "conv_transpose2d", "group_norm", "add", "multiply", "dropout",
               "matmul", "softmax", "concat", "upsample", "pad"]


@dataclass(frozen=True)
class Operator:
    """One operator, for one image: no shape counts the batch.

    Attributes:
        name: of its own, e.g. "down.0.conv1", "down.2.attention.scores".
        module: path of the module that runs it, as in state-dict names; "" for the U-Net itself.
        kind: what it does; "dropout" in training only.
        inputs: shapes of what it reads, its weights left out: (C, H, W), (L, C) or (C,).
        output: shape of what it writes.
        weight: shape of `<module>.weight`, beside which stands `<module>.bias`; None where it has neither.
        flop: 2 x multiply-accumulate of a forward pass; 0 where a value costs a few operations and memory is the bound.
    """

    name: str
    module: str
    kind: Kind
    inputs: tuple[Shape, ...]
    output: Shape
    weight: Shape | None = None
    flop: int = 0

    @property
    def bias(self) -> Shape | None:
        """Shape of `<module>.bias`: one value a channel of the output."""
        if self.weight is None:
            return None
        return self.output[-1:] if self.kind == "linear" else self.output[:1]


def operators(config: ModelConfig) -> Iterator[Operator]:
    """The operators of the network, first to last."""
    base, levels = config.base_channels, len(config.channels)
    temb: Shape = (4 * base,)
    yield Operator("timestep_embedding", "", "sinusoid", ((),), (base,))
    yield _linear("time1", (base,), 4 * base)
    yield _same("time1.silu", "", "silu", temb)
    yield _linear("time2", temb, 4 * base)
    yield _same("time2.silu", "", "silu", temb)

    x: Shape = (config.image_channels, config.image_size, config.image_size)
    yield _conv("conv_in", x, base)
    x = (base, *x[1:])
    skips = [x]
    layer = 0
    for level, c_out in enumerate(config.channels):
        for _ in range(config.blocks_per_level):
            yield from _res_block(f"down.{layer}", x, c_out, config.attention_groups(x[1]), config)
            x = (c_out, *x[1:])
            skips.append(x)
            layer += 1
        if level < levels - 1:
            yield from _downsample(f"down.{layer}", x, config)
            x = (x[0], x[1] // 2, x[2] // 2)
            skips.append(x)
            layer += 1

    for layer, attention in enumerate((config.middle_groups, None)):
        yield from _res_block(f"middle.{layer}", x, x[0], attention, config)

    layer = 0
    for level in reversed(range(levels)):
        for block in range(config.blocks_per_level + 1):
            skip, c_out = skips.pop(), config.up_channels(level, block)
            both = (x[0] + skip[0], *x[1:])
            yield Operator(f"up.{layer}.concat", "", "concat", (x, skip), both)
            yield from _res_block(f"up.{layer}", both, c_out, config.attention_groups(x[1]), config)
            x = (c_out, *x[1:])
            layer += 1
        if level > 0:
            yield from _upsample(f"up.{layer}", x, config)
            x = (x[0], 2 * x[1], 2 * x[2])
            layer += 1
    assert not skips, "every output on the way down is used once on the way up"  # English
    yield from _norm_silu("norm_out", x)
    yield _conv("conv_out", x, config.image_channels)


def _res_block(path: str, x: Shape, c_out: int, attention: int | None, config: ModelConfig) -> Iterator[Operator]:
    y = (c_out, *x[1:])
    yield from _norm_silu(f"{path}.norm1", x)
    yield _conv(f"{path}.conv1", x, c_out)
    yield _linear(f"{path}.time", (4 * config.base_channels,), 2 * c_out if config.time_scale_shift else c_out)
    if config.time_scale_shift:
        yield _norm(f"{path}.norm2", y)
        yield Operator(f"{path}.scale_time", path, "multiply", (y, (2 * c_out,)), y)
        yield Operator(f"{path}.add_time", path, "add", (y, (2 * c_out,)), y)
        yield _same(f"{path}.norm2.silu", path, "silu", y)
    else:
        yield Operator(f"{path}.add_time", path, "add", (y, (c_out,)), y)
        yield from _norm_silu(f"{path}.norm2", y)
    if config.dropout > 0:
        yield _same(f"{path}.dropout", f"{path}.dropout", "dropout", y)
    yield _conv(f"{path}.conv2", y, c_out)
    if x != y:
        yield _conv(f"{path}.shortcut", x, c_out, kernel=1)
    yield Operator(f"{path}.add_shortcut", path, "add", (y, y), y)
    if attention is not None:
        yield from _attention(f"{path}.attention", y, attention, config)


def _attention(path: str, x: Shape, groups: int, config: ModelConfig) -> Iterator[Operator]:
    channels, pixels, heads = x[0], x[1] * x[2], config.heads(x[0])
    inner = config.attention_channels(channels)
    tokens = (pixels, inner)
    scores = (pixels, pixels) if heads == 1 else (heads, pixels, pixels)
    linear = config.attention_layout == "linear"

    def project(name: str, c_in: int, c_out: int) -> Operator:
        if linear:
            return _linear(f"{path}.{name}", (pixels, c_in), c_out)
        return _conv(f"{path}.{name}", (c_in, *x[1:]), c_out, kernel=1)

    product = 2 * pixels * pixels * inner
    if groups:
        yield _norm(f"{path}.norm", x)
    yield from (project(name, channels, inner) for name in "qkv")
    yield Operator(f"{path}.scores", path, "matmul", (tokens, tokens), scores, flop=product)
    yield _same(f"{path}.softmax", path, "softmax", scores)
    yield Operator(f"{path}.values", path, "matmul", (scores, tokens), tokens, flop=product)
    yield project("out", inner, channels)
    yield Operator(f"{path}.add_input", path, "add", (x, x), x)


def _downsample(path: str, x: Shape, config: ModelConfig) -> Iterator[Operator]:
    if config.downsample_padding == "asymmetric":
        padded = (x[0], x[1] + 1, x[2] + 1)
        yield Operator(f"{path}.pad", path, "pad", (x,), padded)
        x = padded
    yield _conv(f"{path}.conv", x, x[0], stride=2)


def _upsample(path: str, x: Shape, config: ModelConfig) -> Iterator[Operator]:
    channels, height, width = x
    doubled = (channels, 2 * height, 2 * width)
    if config.upsample == "nearest":
        yield Operator(f"{path}.upsample", path, "upsample", (x,), doubled)
        yield _conv(f"{path}.conv", doubled, channels)
    else:
        # A transposed convolution multiplies once per *input* pixel and tap.
        weight = (channels, channels, 4, 4)
        yield Operator(f"{path}.conv", f"{path}.conv", "conv_transpose2d", (x,), doubled, weight,
                       2 * math.prod(weight) * height * width)


def _conv(module: str, x: Shape, c_out: int, kernel: int = 3, stride: int = 1) -> Operator:
    output = (c_out, x[1] // stride, x[2] // stride)
    weight = (c_out, x[0], kernel, kernel)
    return Operator(module, module, "conv2d", (x,), output, weight, 2 * math.prod(weight) * output[1] * output[2])


def _linear(module: str, x: Shape, c_out: int) -> Operator:
    weight = (c_out, x[-1])
    return Operator(module, module, "linear", (x,), (*x[:-1], c_out), weight, 2 * math.prod(x) * c_out)


def _norm(module: str, x: Shape) -> Operator:
    return Operator(module, module, "group_norm", (x,), x, x[:1])


def _norm_silu(module: str, x: Shape) -> Iterator[Operator]:
    yield _norm(module, x)
    yield _same(f"{module}.silu", module, "silu", x)


def _same(name: str, module: str, kind: Kind, x: Shape) -> Operator:
    return Operator(name, module, kind, (x,), x)
