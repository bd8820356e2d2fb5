"""CPU operators of our own for Jittor, in C++ over oneDNN: what the arm `jittor:onednn` runs instead of the stock ones.

Stock Jittor runs batched products, softmax and GroupNorm as generated loops on the CPU, and each of its convolutions
builds its oneDNN primitives anew and reorders its feature maps on the way in and out. Here feature maps are
channels-last, (N, H, W, C), which oneDNN's convolutions take as they are; `group_norm_planes` alone takes them as stock
Jittor has them. CPU only. Arrays are float32, also where convolutions and attention's products are asked to take what
bfloat16 keeps of them (`bf16`).
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jittor as jt
import numpy as np

from impls.errors import UnavailableError
from impls.jittor.setup import home, onednn_wheels
from impls.store.files import remove_abandoned, replacement
from messages import tell

SOURCES = tuple(Path(__file__).parent / "csrc" / name for name in ("operators.cc", "planes.cc", "convolution.cc",
                                                             "winograd.cc"))
HEADERS = tuple(Path(__file__).parent / "csrc" / name for name in ("silu.h", "arena.h", "winograd.h"))
COMPILE = ("-std=c++17", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-Wall", "-c")
# Linking without -ffast-math: with it GCC adds code that flushes denormals in the whole process.
LINK = ("-shared", "-fopenmp", "-lm")


@cache
def load() -> Path:
    """Compile the operators if that was not done before (about 10 s) and show their symbols to Jittor's kernels.

    Raises:
        UnavailableError: Jittor runs without oneDNN or on CUDA, or the compiler refuses.
    """
    if jt.flags.use_cuda:
        raise UnavailableError(tell("the onednn option exists only on the CPU: use --device cpu"))
    if not jt.compile_extern.use_mkl:
        raise UnavailableError(tell("the onednn option needs Jittor's oneDNN, which use_mkl=0 switched off: unset "
                                    "use_mkl"))
    compiler = jt.flags.cc_path
    headers = onednn_wheels.folder(home.jittor_home()) / "include"
    texts = [file.read_text(encoding="utf-8") for file in (*SOURCES, *HEADERS)]
    key = hashlib.sha256("\0".join((*texts, compiler, *COMPILE, *LINK)).encode()).hexdigest()[:16]
    library = Path(jt.flags.cache_path) / "ddpm_bench" / f"operators-{key}.so"
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        remove_abandoned(library)
        with tempfile.TemporaryDirectory() as folder, replacement(library) as built:
            objects = [Path(folder) / f"{source.stem}.o" for source in SOURCES]
            for source, obj in zip(SOURCES, objects, strict=True):
                _run([compiler, *COMPILE, f"-I{headers}", str(source), "-o", str(obj)])
            _run([compiler, *map(str, objects), *LINK, "-o", str(built)])
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return library


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(tell("the onednn option does not compile: {command}: {fault}", command=command[0],
                                    fault=done.stderr.strip()[:300]))


def _call(
    function: str, shapes: Sequence[Sequence[int] | None], inputs: Sequence[jt.Var | None], **scalars: float
) -> list[jt.Var]:
    """New float32 Vars of `shapes` filled by the C function `function(inputs..., outputs..., scalars...)`.

    None among inputs or shapes becomes a null pointer. Scalars are `long` where they are int and `float` otherwise;
    their values are not part of the compiled kernel.
    """
    load()
    kinds = tuple(isinstance(value, int) for value in scalars.values())
    header, source = _kernel(
        function, tuple(var is None for var in inputs), tuple(shape is None for shape in shapes), tuple(scalars), kinds
    )
    made = [shape for shape in shapes if shape is not None]
    given = [var for var in inputs if var is not None]
    return jt.code(made, ["float32"] * len(made), given, cpu_header=header, cpu_src=source, data=scalars)


@cache
def _kernel(
    function: str, no_input: tuple[bool, ...], no_output: tuple[bool, ...], names: tuple[str, ...],
    is_long: tuple[bool, ...],
) -> tuple[str, str]:  # fmt: skip
    """Declaration and call of a C function; which inputs and outputs are null, and which of its scalars are long."""
    types = ["long" if each else "float" for each in is_long]
    declared = ["const float*"] * len(no_input) + ["float*"] * len(no_output) + types  # English
    inward, outward = iter(range(len(no_input))), iter(range(len(no_output)))
    given = ["nullptr" if null else f"in{next(inward)}_p" for null in no_input]
    given += ["nullptr" if null else f"out{next(outward)}_p" for null in no_output]
    given += [f'({kind})data["{name}"]' for kind, name in zip(types, names, strict=True)]
    return f'extern "C" void {function}({", ".join(declared)});', f"{function}({', '.join(given)});"  # English


class _Attention(jt.Function):
    def execute(self, q: jt.Var, k: jt.Var, v: jt.Var, scale: float, bf16: bool) -> jt.Var:
        (items, queries, d), keys = q.shape, k.shape[1]
        self.sizes = {"items": items, "l": queries, "s": keys, "d": d, "scale": float(scale), "bf16": int(bf16)}
        o, p = _call("ddpm_attention", [q.shape, (items, queries, keys)], [q, k, v], **self.sizes)
        self.saved = q, k, v, p
        return o

    def grad(self, g: jt.Var) -> tuple[jt.Var | None, ...]:
        q, k, v, p = self.saved
        shapes = [q.shape, k.shape, v.shape, p.shape]
        gq, gk, gv, _work = _call("ddpm_attention_backward", shapes, [q, k, v, p, g], **self.sizes)
        return gq, gk, gv, None, None


def attention(q: jt.Var, k: jt.Var, v: jt.Var, scale: float | None = None, bf16: bool = False) -> jt.Var:
    """softmax(scale q k^T) v (Vaswani et al. 2017, equation 1), in one pass per item.

    Args:
        q: queries (N, L, d).
        k: keys (N, S, d).
        v: values (N, S, d).
        scale: 1/sqrt(d) by default.
        bf16: products of what bfloat16 keeps, forward and backward; softmax is float32's.
    """
    return _Attention()(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale, bf16)


class _GroupNorm(jt.Function):
    def execute(
        self, x: jt.Var, shift: jt.Var | None, weight: jt.Var, bias: jt.Var, options: Mapping[str, float]
    ) -> jt.Var:
        (n, height, width, channels), eps = x.shape, options["eps"]
        self.sizes = {"n": n, "channels": channels, "pixels": height * width, "groups": options["groups"]}
        self.after = {name: options[name] for name in ("silu", "seed", "p")}
        shapes, inputs = [x.shape, (n, channels, 2)], [x, shift, weight, bias]
        y, moments = _call("ddpm_group_norm", shapes, inputs, **self.sizes, eps=eps, **self.after)
        self.saved = x, shift, weight, bias, moments
        return y

    def grad(self, g: jt.Var) -> tuple[jt.Var | None, ...]:
        x, shift, weight, bias, moments = self.saved
        n, channels = x.shape[0], x.shape[3]
        shapes = [x.shape, None if shift is None else shift.shape, weight.shape, bias.shape, (2, n, channels)]
        inputs = [x, weight, bias, moments, g]
        gx, *gshift, gw, gb, _sums = _call("ddpm_group_norm_backward", shapes, inputs, **self.sizes, **self.after)
        return gx, gshift[0] if gshift else None, gw, gb, None


def group_norm(
    x: jt.Var, weight: jt.Var, bias: jt.Var, groups: int, eps: float,
    silu: bool = False, shift: jt.Var | None = None, dropout: float = 0.0,
) -> jt.Var:  # fmt: skip
    """GroupNorm (Wu & He 2018) and what surrounds it, in one pass; two-pass moments, so a large mean costs no accuracy.

    Args:
        x: feature maps (N, H, W, C).
        weight: scale (C,).
        bias: shift (C,).
        groups: groups of channels, a divisor of C.
        eps: added to the variance.
        silu: apply SiLU afterwards.
        shift: added to every pixel before the normalisation, (N, C).
        dropout: probability of a zero after the SiLU; drawn from numpy's global generator, which Jittor seeds too.
    """
    seed = int(np.random.randint(2**31)) if dropout else 0
    options = {"groups": groups, "eps": float(eps), "silu": int(silu), "seed": seed, "p": float(dropout)}
    return _GroupNorm()(x, shift, weight, bias, options)


class _GroupNormPlanes(jt.Function):
    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var, groups: int, eps: float, silu: bool) -> jt.Var:
        n, channels, height, width = x.shape
        self.sizes = {"n": n, "channels": channels, "pixels": height * width, "groups": groups}
        self.silu, shapes = int(silu), [x.shape, (n, groups, 2)]
        y, moments = _call("ddpm_group_norm_planes", shapes, [x, weight, bias], **self.sizes, eps=float(eps),
                           silu=self.silu)
        self.saved = x, weight, bias, moments
        return y

    def grad(self, g: jt.Var) -> tuple[jt.Var | None, ...]:
        x, weight, bias, moments = self.saved
        shapes = [x.shape, weight.shape, bias.shape, (2, *x.shape[:2])]
        gx, gw, gb, _sums = _call("ddpm_group_norm_planes_backward", shapes, [x, weight, bias, moments, g],
                                  **self.sizes, silu=self.silu)
        return gx, gw, gb, None, None, None


def group_norm_planes(x: jt.Var, weight: jt.Var, bias: jt.Var, groups: int, eps: float, silu: bool = False) -> jt.Var:
    """GroupNorm, as `group_norm` without what surrounds it, of feature maps x (N, C, H, W)."""
    return _GroupNormPlanes()(x, weight, bias, groups, eps, silu)


class _Convolution(jt.Function):
    def execute(
        self, x: jt.Var, weight: jt.Var, bias: jt.Var, stride: int, padding: tuple[int, int, int, int], bf16: bool
    ) -> jt.Var:
        (n, h, w, ci), (co, _, kh, kw), (top, left, bottom, right) = x.shape, weight.shape, padding
        self.sizes = {"n": n, "ci": ci, "h": h, "w": w, "co": co, "kh": kh, "kw": kw, "stride": stride}
        self.sizes |= {"top": top, "left": left, "bottom": bottom, "right": right, "bf16": int(bf16)}
        self.saved = x, weight
        shape = (n, (h + top + bottom - kh) // stride + 1, (w + left + right - kw) // stride + 1, co)
        return _call("ddpm_conv", [shape], [x, weight, bias], **self.sizes)[0]

    def grad(self, g: jt.Var) -> tuple[jt.Var | None, ...]:
        x, weight = self.saved
        gx = _call("ddpm_conv_backward_data", [x.shape], [g, weight], **self.sizes)[0]
        gw, gb = _call("ddpm_conv_backward_weights", [weight.shape, weight.shape[:1]], [x, g], **self.sizes)
        return gx, gw, gb, None, None, None


def conv2d(
    x: jt.Var, weight: jt.Var, bias: jt.Var, stride: int = 1, padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    bf16: bool = False,
) -> jt.Var:  # fmt: skip
    """Convolution through oneDNN, whose primitives are kept from call to call.

    Args:
        x: feature maps (N, H, W, C).
        weight: (C out, C, kernel height, kernel width), as in the state dict.
        bias: (C out,).
        stride: step in both directions.
        padding: zeros above, left, below and right.
        bf16: of what bfloat16 keeps of both operands, forward and backward, added up in float32.
    """
    return _Convolution()(x, weight, bias, stride, padding, bf16)


class _TransposedConvolution(jt.Function):
    """The backward pass of a convolution used as the forward one."""

    def execute(self, x: jt.Var, weight: jt.Var, stride: int, padding: int, bf16: bool) -> jt.Var:
        (n, height, width, ci), (_, co, kh, kw) = x.shape, weight.shape
        h, w = ((size - 1) * stride + kernel - 2 * padding for size, kernel in ((height, kh), (width, kw)))
        self.sizes = {"n": n, "ci": co, "h": h, "w": w, "co": ci, "kh": kh, "kw": kw, "stride": stride}
        self.sizes |= {**dict.fromkeys(("top", "left", "bottom", "right"), padding), "bf16": int(bf16)}
        self.saved = x, weight
        return _call("ddpm_conv_backward_data", [(n, h, w, co)], [x, weight], **self.sizes)[0]

    def grad(self, g: jt.Var) -> tuple[jt.Var | None, ...]:
        x, weight = self.saved
        gx = _call("ddpm_conv", [x.shape], [g, weight, jt.zeros(weight.shape[:1])], **self.sizes)[0]
        gw, _ = _call("ddpm_conv_backward_weights", [weight.shape, weight.shape[:1]], [g, x], **self.sizes)
        return gx, gw, None, None, None


def conv_transpose2d(
    x: jt.Var, weight: jt.Var, bias: jt.Var, stride: int, padding: int, bf16: bool = False
) -> jt.Var:
    """Transposed convolution of x (N, H, W, C); weight (C, C out, kernel height, kernel width) as in the state dict."""
    return _TransposedConvolution()(x, weight, stride, padding, bf16) + bias


class _Concat(jt.Function):
    def execute(self, a: jt.Var, b: jt.Var) -> jt.Var:
        self.shapes = a.shape, b.shape
        (*outer, ca), cb = a.shape, b.shape[3]
        self.sizes = {"pixels": a.numel() // ca, "ca": ca, "cb": cb}
        return _call("ddpm_concat", [(*outer, ca + cb)], [a, b], **self.sizes)[0]

    def grad(self, g: jt.Var) -> list[jt.Var]:
        return _call("ddpm_concat_backward", self.shapes, [g], **self.sizes)


def concat(a: jt.Var, b: jt.Var) -> jt.Var:
    """Feature maps (N, H, W, Ca + Cb) of (N, H, W, Ca) and (N, H, W, Cb)."""
    return _Concat()(a, b)


class _Upsample(jt.Function):
    def execute(self, x: jt.Var) -> jt.Var:
        n, height, width, channels = self.shape = x.shape
        self.sizes = {"rows": n * height, "width": width, "channels": channels}
        return _call("ddpm_upsample", [(n, 2 * height, 2 * width, channels)], [x], **self.sizes)[0]

    def grad(self, g: jt.Var) -> jt.Var:
        return _call("ddpm_upsample_backward", [self.shape], [g], **self.sizes)[0]


def upsample(x: jt.Var) -> jt.Var:
    """Twice the height and width of x (N, H, W, C) by repeating each pixel."""
    return _Upsample()(x)
