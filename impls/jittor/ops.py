"""The network's primitives for which there is a choice, collected so that an arm can pick and report them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jittor as jt
from jittor import Var, nn

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

    group_norm: Callable[[Var, Var, Var, int, float], Var]
    group_norm_silu: Callable[[Var, Var, Var, int, float], Var]
    attention: Callable[[Var, Var, Var], Var]
    upsample: Callable[[Var], Var]
    names: Mapping[str, str]


def group_norm(x: Var, weight: Var, bias: Var, groups: int, eps: float) -> Var:
    """GroupNorm (Wu & He 2018) over `groups` groups of channels.

    In two passes: Jittor's own takes the variance as E[x^2] - E[x]^2, which cancels where the mean is large.
    """
    n, c, height, width = x.shape
    x = x.reshape(n, groups, c // groups, height, width)
    centred = x - x.mean([2, 3, 4], keepdims=True)
    variance = centred.sqr().mean([2, 3, 4], keepdims=True)
    per_channel = (1, groups, c // groups, 1, 1)
    # One factor for a channel first: of two factors for every pixel the backward pass makes one more loop over them.
    factor = weight.reshape(per_channel) / jt.sqrt(variance + eps)
    return (centred * factor + bias.reshape(per_channel)).reshape(n, c, height, width)


def group_norm_silu(x: Var, weight: Var, bias: Var, groups: int, eps: float) -> Var:
    """GroupNorm, then SiLU."""
    return nn.silu(group_norm(x, weight, bias, groups, eps))


def attention(q: Var, k: Var, v: Var) -> Var:
    """Scaled dot-product attention with one head (Vaswani et al. 2017, equation 1)."""
    if jt.flags.use_cuda or jt.mkl_ops is None or q.dtype != "float32":
        scores = nn.bmm_transpose(q, k) * q.shape[-1] ** -0.5
        return nn.bmm(nn.softmax(scores, dim=-1), v)
    return _Attention()(q, k, v)


class _Attention(jt.Function):
    """Attention on the CPU, whose products oneDNN computes.

    A product of batches Jittor writes itself there, as loops of one thread; their gradients read across the rows. What
    belongs to one image is a plain product, and a library's.
    """

    def execute(self, q: Var, k: Var, v: Var) -> Var:
        """See `attention`."""
        weights = nn.softmax(_products(q, k, trans_b=True) * q.shape[-1] ** -0.5, dim=-1)
        self.kept = q, k, v, weights
        return _products(weights, v)

    def grad(self, grad: Var) -> tuple[Var, Var, Var]:
        """The gradients of q, k and v."""
        q, k, v, weights = self.kept
        wanted = _products(grad, v, trans_b=True)
        scores = weights * (wanted - (wanted * weights).sum(-1, keepdims=True)) * q.shape[-1] ** -0.5
        return _products(scores, k), _products(scores, q, trans_a=True), _products(weights, grad, trans_a=True)


def _products(a: Var, b: Var, trans_a: bool = False, trans_b: bool = False) -> Var:
    """Products of matrices a (N, A, B) and b (N, B, C), or of their transposes: (N, A, C)."""
    return jt.stack([jt.mkl_ops.mkl_matmul(a[i], b[i], trans_a, trans_b) for i in range(len(a))])


class _Swap(jt.Function):
    """Map x (N, A, B) to (N, B, A) by a kernel that Jittor writes itself."""

    def execute(self, x: Var) -> Var:
        """The exchanged axes."""
        return _swapped(x)

    def grad(self, grad: Var) -> Var:
        """The same for the gradient; reindex alone would add it up atomically."""
        return _swapped(grad)


def _swapped(x: Var) -> Var:
    """One element after another of the result."""
    n, a, b = x.shape
    return x.reindex([n, b, a], ["i0", "i2", "i1"])


def transpose(x: Var) -> Var:
    """Map x (N, A, B) to (N, B, A)."""
    # Jittor's own transpose of the last axis has no CUDA kernel: it runs on the CPU, without a word.
    return _Swap()(x) if jt.flags.use_cuda else x.transpose(0, 2, 1)


def _half_attention(q: Var, k: Var, v: Var) -> Var:
    """Attention whose products take float16 and whose softmax takes float32."""
    scores = nn.bmm_transpose(q.float16(), k.float16()).float32() * q.shape[-1] ** -0.5
    return nn.bmm(nn.softmax(scores, dim=-1).float16(), v.float16()).float32()


def upsample(x: Var) -> Var:
    """Twice the height and width by nearest neighbour."""
    n, c, height, width = x.shape
    return x.reindex([n, c, 2 * height, 2 * width], ["i0", "i1", "i2/2", "i3/2"])


def called(make: Callable[[], Var]) -> set[str]:
    """The operators that Jittor's graph holds for what `make` returns, which is not computed, e.g. "reduce.add"."""
    before = set(jt.dump_all_graphs().nodes_info)
    kept = make()
    found = [node for node in jt.dump_all_graphs().nodes_info if node.startswith("Op(") and node not in before]
    del kept
    return {match[1] for node in found if (match := re.search(r",([\w.]+)->", node))}


STOCK = Operators(
    group_norm=group_norm,
    group_norm_silu=group_norm_silu,
    attention=attention,
    upsample=upsample,
    names={
        "group_norm": marked("two-pass mean and variance from Jittor's reductions"),
        "group_norm_silu": marked("group_norm, then jittor.nn.silu"),
        "attention": marked("two products with a softmax between them"),
        "transpose": marked("jittor.Var.transpose, on CUDA reindex"),
        "upsample": "jittor.Var.reindex",
    },
)

HALF = replace(STOCK, attention=_half_attention, names={
    **STOCK.names, "attention": marked("jittor.nn.bmm in float16, softmax in float32, bmm in float16")})
