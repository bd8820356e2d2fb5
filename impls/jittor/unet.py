"""The noise-predicting U-Net of DDPM (Ho et al. 2020, appendix B), in Jittor."""

from __future__ import annotations

import math

import jittor as jt
from jittor import Var, nn

from impls.jittor.ops import STOCK, Operators, transpose
from impls.recipe.config import ModelConfig


def timestep_embedding(t: Var, width: int, shift: float = 1.0, cosine_first: bool = False) -> Var:
    """Sinusoids [sin, cos] of t (N,) at frequencies 10000^(-i/(half-shift)), float32 (Vaswani et al. 2017).

    Args:
        t: timesteps (N,).
        width: of the embedding; an odd one ends with a zero.
        shift: 1 puts the last frequency at 1/10000, as in the original code of DDPM.
        cosine_first: [cos, sin] instead.

    Returns:
        (N, width).
    """
    half = width // 2
    frequencies = jt.exp(jt.arange(half).float32() * (-math.log(10000) / ((half - shift) or 1)))
    angles = t.float32().unsqueeze(1) * frequencies.unsqueeze(0)
    waves = [angles.cos(), angles.sin()] if cosine_first else [angles.sin(), angles.cos()]
    return jt.concat([*waves, jt.zeros((len(t), 1))] if width % 2 else waves, dim=1)


class GroupNorm(nn.Module):
    """GroupNorm with per-channel scale and shift, optionally followed by SiLU."""

    def __init__(self, channels: int, groups: int, config: ModelConfig, operators: Operators, silu: bool) -> None:
        self.groups, self.eps = groups, config.group_norm_eps
        self.apply_norm = operators.group_norm_silu if silu else operators.group_norm
        self.weight = jt.ones(channels)
        self.bias = jt.zeros(channels)

    def execute(self, x: Var) -> Var:
        """Map x (N, C, H, W) to the same shape."""
        return self.apply_norm(x, self.weight, self.bias, self.groups, self.eps)


class Attention(nn.Module):
    """Self-attention over all pixels; the residual adds the block's own input."""

    def __init__(self, channels: int, groups: int, config: ModelConfig, operators: Operators) -> None:
        self.linear = config.attention_layout == "linear"
        self.attend = operators.attention
        self.heads, inner = config.heads(channels), config.attention_channels(channels)
        self.norm = GroupNorm(channels, groups, config, operators, silu=False) if groups else nn.Identity()
        self.q, self.k, self.v, self.out = (
            nn.Linear(*widths) if self.linear else nn.Conv2d(*widths, 1)
            for widths in (*((channels, inner),) * 3, (inner, channels)))

    def execute(self, x: Var) -> Var:
        """Map x (N, C, H, W) to the same shape."""
        n, c, height, width = x.shape
        h = self.norm(x)
        if self.linear:
            h = transpose(h.reshape(n, c, height * width))
        h = self.out(self.mix(self.q(h), self.k(h), self.v(h)))
        return x + (transpose(h).reshape(n, c, height, width) if self.linear else h)

    def mix(self, q: Var, k: Var, v: Var) -> Var:
        """What attention makes of the projections, and of their shape: (N, L, C) if linear, else (N, C, H, W)."""
        if self.linear:
            return self.join(self.attend(self.split(q), self.split(k), self.split(v)))
        n, _, height, width = q.shape
        q, k, v = (transpose(x.reshape(n * self.heads, -1, height * width)) for x in (q, k, v))
        return transpose(self.attend(q, k, v)).reshape(n, -1, height, width)

    def split(self, x: Var) -> Var:
        """Map x (N, L, C) to the heads' shares (N heads, L, C / heads)."""
        n, pixels, c = x.shape
        return x if self.heads == 1 else transpose(transpose(x).reshape(n * self.heads, c // self.heads, pixels))

    def join(self, x: Var) -> Var:
        """The inverse of `split`."""
        n, pixels, c = x.shape
        return x if self.heads == 1 else transpose(transpose(x).reshape(n // self.heads, c * self.heads, pixels))


class ResBlock(nn.Module):
    """Two 3x3 convolutions with the timestep in between, a shortcut around them, then attention if wanted."""

    def __init__(self, c_in: int, c_out: int, attention: int | None, config: ModelConfig,
                 operators: Operators) -> None:
        self.norm1 = GroupNorm(c_in, config.groups, config, operators, silu=True)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scales = config.time_scale_shift
        self.time = nn.Linear(4 * config.base_channels, 2 * c_out if self.scales else c_out)
        self.norm2 = GroupNorm(c_out, config.groups, config, operators, silu=not self.scales)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = nn.Identity() if attention is None else Attention(c_out, attention, config, operators)

    def execute(self, x: Var, temb: Var) -> Var:
        """Map x (N, c_in, H, W) and the activated time embedding (N, 4 base) to (N, c_out, H, W)."""
        h, time = self.conv1(self.norm1(x)), self.time(temb).unsqueeze(2).unsqueeze(3)
        if self.scales:
            scale, shift = time.chunk(2, dim=1)
            h = nn.silu(self.norm2(h) * (1 + scale) + shift)
        else:
            h = self.norm2(h + time)
        h = self.conv2(self.dropout(h)) + self.shortcut(x)
        return self.attention(h)


class Downsample(nn.Module):
    """Half the height and width by a strided 3x3 convolution."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        self.asymmetric = config.downsample_padding == "asymmetric"
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if self.asymmetric else 1)

    def execute(self, x: Var, _temb: Var) -> Var:
        """Map x (N, C, H, W) to (N, C, H/2, W/2)."""
        return self.conv(nn.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Twice the height and width: nearest neighbour and a 3x3 convolution, or one transposed convolution."""

    def __init__(self, channels: int, config: ModelConfig, operators: Operators) -> None:
        self.nearest = operators.upsample if config.upsample == "nearest" else None
        self.conv = (nn.Conv2d(channels, channels, 3, padding=1) if self.nearest
                     else nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1))

    def execute(self, x: Var, _temb: Var) -> Var:
        """Map x (N, C, H, W) to (N, C, 2H, 2W)."""
        return self.conv(self.nearest(x) if self.nearest else x)


class UNet(nn.Module):
    """eps(x_t, t). Every layer on the way down leaves its output on a stack; every ResBlock on the way up takes one."""

    def __init__(self, config: ModelConfig, operators: Operators = STOCK) -> None:
        width, channels, levels = config.base_channels, config.base_channels, len(config.channels)
        self.sinusoids = width, config.time_frequency_shift, config.time_cosine_first
        attention = [config.attention_groups(config.image_size // 2**level) for level in range(levels)]

        self.time1 = nn.Linear(width, 4 * width)
        self.time2 = nn.Linear(4 * width, 4 * width)
        self.conv_in = nn.Conv2d(config.image_channels, channels, 3, padding=1)
        skips = [channels]
        self.down = nn.ModuleList()
        for level, c_out in enumerate(config.channels):
            for _ in range(config.blocks_per_level):
                self.down.append(ResBlock(channels, c_out, attention[level], config, operators))
                channels = c_out
                skips.append(channels)
            if level < levels - 1:
                self.down.append(Downsample(channels, config))
                skips.append(channels)
        self.middle = nn.ModuleList([ResBlock(channels, channels, groups, config, operators)
                                     for groups in (config.middle_groups, None)])
        self.up = nn.ModuleList()
        for level in reversed(range(levels)):
            for block in range(config.blocks_per_level + 1):
                c_out = config.up_channels(level, block)
                self.up.append(ResBlock(channels + skips.pop(), c_out, attention[level], config, operators))
                channels = c_out
            if level > 0:
                self.up.append(Upsample(channels, config, operators))
        assert not skips, "every output on the way down is used once on the way up"  # English
        self.norm_out = GroupNorm(channels, config.groups, config, operators, silu=True)
        self.conv_out = nn.Conv2d(channels, config.image_channels, 3, padding=1)
        if config.init == "ddpm":
            initialise(self)

    def execute(self, x: Var, t: Var) -> Var:
        """The predicted noise.

        Args:
            x: noisy images (N, C, H, W).
            t: timesteps (N,), integers in [0, T).

        Returns:
            eps (N, C, H, W).
        """
        temb = timestep_embedding(t, *self.sinusoids)
        temb = nn.silu(self.time2(nn.silu(self.time1(temb))))
        h = self.conv_in(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, temb)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, temb)
        for layer in self.up:
            h = layer(jt.concat([h, skips.pop()], dim=1) if isinstance(layer, ResBlock) else h, temb)
        return self.conv_out(self.norm_out(h))


def initialise(unet: UNet) -> None:
    """The DDPM initialisation: variance scaling (fan average, uniform), gates close to zero, zero biases.

    A gate is what a residual branch or the network ends with: each block's second convolution, the attention output
    and the last convolution (Ho et al.'s code, scale 1e-10).
    """
    for name, module in unet.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            gate = name.endswith((".conv2", ".attention.out")) or name == "conv_out"
            variance_scaling(module.weight, 1e-10 if gate else 1.0)
            module.bias.update(jt.zeros_like(module.bias))


def variance_scaling(weight: Var, scale: float) -> None:
    """Fill `weight` uniformly with variance scale / ((fan_in + fan_out) / 2)."""
    receptive = math.prod(weight.shape[2:])
    fan_average = (weight.shape[0] + weight.shape[1]) * receptive / 2
    bound = math.sqrt(3 * scale / fan_average)
    weight.update((jt.rand(weight.shape) * 2 - 1) * bound)


def parameter_count(unet: UNet) -> int:
    """Trainable scalars."""
    return sum(p.numel() for p in unet.parameters())
