"""The U-Net of the option `onednn`: the modules and weights of `impls.jittor.unet`, computed with our C++ operators.

Only the way through the modules is written anew: feature maps are (N, H, W, C), the timestep's sum, GroupNorm, SiLU and
dropout are one operator, and nothing is reordered around a convolution.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from jittor import Var, nn

from impls.jittor.onednn import operators as onednn
from impls.jittor.ops import STOCK, Operators
from impls.jittor.unet import Attention, Downsample, GroupNorm, ResBlock, UNet, Upsample, timestep_embedding
from impls.recipe.config import ModelConfig
from messages import recorded

# The attribute of a layer that takes what bfloat16 keeps of its operands.
ROUNDED = "takes_bfloat16"


class OneDNNUNet(UNet):
    """`UNet` for the CPU; x and eps stay (N, C, H, W) outside."""

    def __init__(self, config: ModelConfig, made_of: Operators | None = None) -> None:
        super().__init__(config, made_of or operators())

    def execute(self, x: Var, t: Var) -> Var:
        """See `UNet.execute`."""
        temb = timestep_embedding(t, *self.sinusoids)
        temb = nn.silu(self.time2(nn.silu(self.time1(temb))))
        h = conv(self.conv_in, x.transpose(0, 2, 3, 1))
        skips = [h]
        for layer in self.down:
            h = downsample(layer, h) if isinstance(layer, Downsample) else res_block(layer, h, temb)
            skips.append(h)
        for layer in self.middle:
            h = res_block(layer, h, temb)
        for layer in self.up:
            if isinstance(layer, Upsample):
                h = upsample(layer, h)
            else:
                h = res_block(layer, onednn.concat(h, skips.pop()), temb)
        return conv(self.conv_out, norm(self.norm_out, h, silu=True)).transpose(0, 3, 1, 2)


def conv(module: nn.Conv2d, x: Var) -> Var:
    """The convolution of a module on x (N, H, W, C)."""
    vertical, horizontal = module.padding
    return onednn.conv2d(x, module.weight, module.bias, module.stride[0], (vertical, horizontal, vertical, horizontal),
                         bf16=rounds(module))


def project(module: nn.Conv2d | nn.Linear, x: Var) -> Var:
    """A 1x1 convolution, or a linear layer, of every pixel of x (N, H, W, C)."""
    return onednn.conv2d(x, module.weight.reshape(*module.weight.shape[:2], 1, 1), module.bias, bf16=rounds(module))


def norm(module: GroupNorm, x: Var, silu: bool, shift: Var | None = None, dropout: float = 0.0) -> Var:
    """The normalisation of a module on x (N, H, W, C) with what surrounds it: see `onednn.group_norm`."""
    return onednn.group_norm(x, module.weight, module.bias, module.groups, module.eps, silu, shift, dropout)


def res_block(block: ResBlock, x: Var, temb: Var) -> Var:
    """See `ResBlock.execute`."""
    h = conv(block.conv1, norm(block.norm1, x, silu=True))
    if block.scales:
        scale, shift = block.time(temb).unsqueeze(1).unsqueeze(1).chunk(2, dim=3)
        h = block.dropout(nn.silu(norm(block.norm2, h, silu=False) * (1 + scale) + shift))
    else:
        dropout = block.dropout.p if block.dropout.is_train else 0.0
        h = norm(block.norm2, h, True, block.time(temb), dropout)
    h = conv(block.conv2, h)
    h = h + (conv(block.shortcut, x) if isinstance(block.shortcut, nn.Conv2d) else x)
    return attend(block.attention, h) if isinstance(block.attention, Attention) else h


def attend(module: Attention, x: Var) -> Var:
    """See `Attention.execute`."""
    n, height, width, _ = x.shape
    h = norm(module.norm, x, silu=False) if isinstance(module.norm, GroupNorm) else x
    q, k, v = (module.split(project(layer, h).reshape(n, height * width, -1))
               for layer in (module.q, module.k, module.v))
    return x + project(module.out, module.join(module.attend(q, k, v)).reshape(n, height, width, -1))


def downsample(module: Downsample, x: Var) -> Var:
    """See `Downsample.execute`."""
    padding = (0, 0, 1, 1) if module.asymmetric else (1, 1, 1, 1)
    return onednn.conv2d(x, module.conv.weight, module.conv.bias, 2, padding, rounds(module.conv))


def upsample(module: Upsample, x: Var) -> Var:
    """See `Upsample.execute`."""
    if module.nearest:
        return conv(module.conv, onednn.upsample(x))
    return transposed(module.conv, x)


def transposed(module: nn.ConvTranspose2d, x: Var) -> Var:
    """The transposed convolution of a module, which doubles height and width, on x (N, H, W, C)."""
    return onednn.conv_transpose2d(x, module.weight, module.bias, stride=2, padding=1, bf16=rounds(module))


def rounds(layer: nn.Module) -> bool:
    """Whether a layer takes what bfloat16 keeps of its operands."""
    return getattr(layer, ROUNDED, False)


def rounded(module: nn.Module) -> nn.Module:
    """The network, or a part of it, whose convolutions and linear layers take what bfloat16 keeps of their operands."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            setattr(layer, ROUNDED, True)
        # `OneDNNUNet` calls the others itself; as they are called here, a probe calls them.
        if isinstance(layer, nn.Linear):
            layer.execute = partial(_linear, layer)
        elif isinstance(layer, nn.Conv2d):
            layer.execute = partial(_conv_of_planes, layer)
    return module


def _linear(module: nn.Linear, x: Var) -> Var:
    """A linear layer of x (..., C)."""
    return project(module, x.reshape(1, 1, -1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _conv_of_planes(module: nn.Conv2d, x: Var) -> Var:
    """A convolution of x (N, C, H, W)."""
    return conv(module, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def operators(bf16: bool = False) -> Operators:
    """Attention, and what the option reports; `OneDNNUNet` calls its other operators itself.

    Args:
        bf16: convolutions and products of what bfloat16 keeps.

    Raises:
        UnavailableError: they cannot be compiled or used here.
    """
    onednn.load()
    return replace(STOCK, attention=partial(onednn.attention, bf16=bf16), names={
        "convolution": (recorded("own C++ operator over oneDNN, channels-last; direct, of bfloat16") if bf16 else
                        recorded("own C++ operator over oneDNN, channels-last; 3x3 by F(2x2, 3x3) where it pays")),
        **({"linear": recorded("own C++ operator over oneDNN, of bfloat16")} if bf16 else {}),
        "group_norm": "own C++ operator",
        "group_norm_silu": recorded("own C++ operator, fused with the timestep's sum and dropout"),
        "attention": (recorded("own C++ operator over oneDNN's products of bfloat16, fused") if bf16 else
                      recorded("own C++ operator over oneDNN's sgemm, fused")),
        "transpose": recorded("none but that of several heads: feature maps are channels-last"),
        "upsample": "own C++ operator",
    })
