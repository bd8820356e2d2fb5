"""The network's primitives for which there is a choice, collected so that an arm can pick and report them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from messages import marked


@dataclass(frozen=True)
class Operators:
    """One implementation of each primitive.

    Attributes:
        group_norm: (x (N, C, ...), weight (C,), bias (C,), groups, eps) -> normalised x.
        group_norm_silu: the same, followed by SiLU.
        attention: (q, k, v), each (N, L, C), heads counted among the N -> softmax(q k^T / sqrt(C)) v.
        upsample: (N, C, H, W) -> (N, C, 2H, 2W) by repeating each pixel.
        names: what each primitive runs, for the report; what the framework chooses itself `Network.told` adds.
    """

    group_norm: Callable[[Tensor, Tensor, Tensor, int, float], Tensor]
    group_norm_silu: Callable[[Tensor, Tensor, Tensor, int, float], Tensor]
    attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    upsample: Callable[[Tensor], Tensor]
    names: Mapping[str, str]


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """GroupNorm (Wu & He 2018) over `groups` groups of channels."""
    return nn.functional.group_norm(x, groups, weight, bias, eps)


def group_norm_silu(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """GroupNorm, then SiLU."""
    return nn.functional.silu(group_norm(x, weight, bias, groups, eps))


# Channels of a head up to which PyTorch's fused attention is no slower than its parts on a CPU.
FUSED_WIDTH = 256


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention with one head (Vaswani et al. 2017, equation 1)."""
    # Of transposed tensors PyTorch computes the products and the softmax apart; its fused kernels want contiguous ones.
    # For wider heads the fused kernel was the slower one: see docs/performance.md.
    if q.shape[-1] <= FUSED_WIDTH:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return nn.functional.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)


def transpose(x: Tensor) -> Tensor:
    """Map x (N, A, B) to (N, B, A)."""
    return x.transpose(1, 2)


def upsample(x: Tensor) -> Tensor:
    """Twice the height and width by nearest neighbour."""
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _Dispatched(TorchDispatchMode):
    """Collects the names of what PyTorch's dispatcher runs inside its block, below all composite functions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the name and call."""
        self.names.add(function.name())
        return function(*args, **(kwargs or {}))


def called(make: Callable[[], Tensor]) -> set[str]:
    """What PyTorch runs for what `make` returns, below all composite functions, e.g. "aten::bmm"."""
    with _Dispatched() as dispatched:
        make()
    return dispatched.names


STOCK = Operators(
    group_norm=group_norm,
    group_norm_silu=group_norm_silu,
    attention=attention,
    upsample=upsample,
    names={
        "group_norm": "torch.nn.functional.group_norm",
        "group_norm_silu": marked("group_norm, then torch.nn.functional.silu"),
        "attention": "torch.nn.functional.scaled_dot_product_attention",
        "transpose": marked("torch.Tensor.transpose, a view"),
        "upsample": "torch.nn.functional.interpolate",
    },
)
