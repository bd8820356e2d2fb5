"""The primitives of an arm: the stock ones, or those that its options put in their place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from impls.pytorch.ops import STOCK, Operators
from messages import recorded

FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)


def chosen(options: Collection[str]) -> Operators:
    """Those of an arm with these options."""
    for option, attend in (("attention=math", _math_attention), ("attention=fused", _fused_attention)):
        if option in options:
            stock = STOCK.names["attention"]
            names = {**STOCK.names, "attention": recorded("{operator}, math only", operator=stock)
                     if option == "attention=math" else recorded("{operator}, fused only", operator=stock)}
            return replace(STOCK, attention=attend, names=names)
    return STOCK


def _math_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by products and a softmax of their own."""
    with sdpa_kernel(SDPBackend.MATH):
        return _one_head(q, k, v)


def _fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by a fused kernel, or an error: they want contiguous tensors."""
    with sdpa_kernel(list(FUSED)):
        return _one_head(q.contiguous(), k.contiguous(), v.contiguous())


def _one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)
