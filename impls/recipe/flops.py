"""Analytic cost and size of the U-Net: one count for both frameworks, whatever operators they run.

Counted: every convolution, linear layer and both matrix products of attention, as 2 x multiply-accumulate.
Left out: normalisations, activations, softmax, biases, additions and copies. They do a few operations
per value where a convolution does thousands, and memory bounds them. With `ddpm` the two matrix products of attention
make the difference between the 12.1 and the 12.4 GFLOP per image that are both found in the literature.

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

from collections.abc import Iterator
from dataclasses import dataclass

from impls.recipe.config import ModelConfig


@dataclass(frozen=True)
class Layer:
    """Cost of one layer for one image.

    Attributes:
        parameters: trainable scalars.
        mac: multiply-accumulates of one forward pass.
    """

    parameters: int
    mac: int = 0


def forward_flop_per_image(config: ModelConfig) -> int:
    """Floating-point operations (2 x multiply-accumulate) of one forward pass for one image."""
    return 2 * sum(layer.mac for layer in layers(config))


def training_step_flop(config: ModelConfig, batch: int) -> int:
    """Floating-point operations of one step: the backward pass costs twice the forward one; optimiser left out."""
    return 3 * batch * forward_flop_per_image(config)


def parameter_count(config: ModelConfig) -> int:
    """Trainable scalars of the network."""
    return sum(layer.parameters for layer in layers(config))


def layers(config: ModelConfig) -> Iterator[Layer]:
    """Every layer of the U-Net in the order in which it runs."""
    base, levels = config.base_channels, len(config.channels)
    yield _linear(base, 4 * base)
    yield _linear(4 * base, 4 * base)

    size, channels = config.image_size, base
    yield _conv(config.image_channels, channels, kernel=3, size=size)
    skips = [channels]
    for level, c_out in enumerate(config.channels):
        for _ in range(config.blocks_per_level):
            yield from _res_block(config, channels, c_out, size)
            channels = c_out
            skips.append(channels)
        if level < levels - 1:
            size //= 2
            yield _conv(channels, channels, kernel=3, size=size)
            skips.append(channels)

    yield from _res_block(config, channels, channels, size, attention=True)
    yield from _res_block(config, channels, channels, size, attention=False)

    for level in reversed(range(levels)):
        for block in range(config.blocks_per_level + 1):
            c_out = config.up_channels(level, block)
            yield from _res_block(config, channels + skips.pop(), c_out, size)
            channels = c_out
        if level > 0:
            size *= 2
            yield _upsample(config, channels, size)
    assert not skips, "every output on the way down is used once on the way up"
    yield _norm(channels)
    yield _conv(channels, config.image_channels, kernel=3, size=size)


def _res_block(
    config: ModelConfig, c_in: int, c_out: int, size: int, attention: bool | None = None
) -> Iterator[Layer]:
    yield _norm(c_in)
    yield _conv(c_in, c_out, kernel=3, size=size)
    yield _linear(4 * config.base_channels, c_out)
    yield _norm(c_out)
    yield _conv(c_out, c_out, kernel=3, size=size)
    if c_in != c_out:
        yield _conv(c_in, c_out, kernel=1, size=size)
    if size in config.attention_resolutions if attention is None else attention:
        yield from _attention(c_out, size)


def _attention(channels: int, size: int) -> Iterator[Layer]:
    pixels = size * size
    yield _norm(channels)
    for _ in ("q", "k", "v", "out"):
        # A 1x1 convolution and a linear layer over all pixels cost the same.
        yield _conv(channels, channels, kernel=1, size=size)
    for _ in ("scores", "weighted values"):
        yield Layer(parameters=0, mac=pixels * pixels * channels)


def _upsample(config: ModelConfig, channels: int, size: int) -> Layer:
    if config.upsample == "nearest":
        return _conv(channels, channels, kernel=3, size=size)
    # A transposed convolution multiplies once per *input* pixel and tap; stride 2: a quarter of the output's pixels.
    taps = channels * channels * 4 * 4
    return Layer(parameters=taps + channels, mac=taps * (size // 2) ** 2)


def _conv(c_in: int, c_out: int, kernel: int, size: int) -> Layer:
    taps = c_in * c_out * kernel * kernel
    return Layer(parameters=taps + c_out, mac=taps * size * size)


def _linear(c_in: int, c_out: int) -> Layer:
    return Layer(parameters=c_in * c_out + c_out, mac=c_in * c_out)


def _norm(channels: int) -> Layer:
    return Layer(parameters=2 * channels)
