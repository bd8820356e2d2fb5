"""Convolutions and products whose inputs are rounded as a coarser number format rounds them, in either framework.

A tensor core rounds what goes into a product, forward and backward, and adds up in float32. The CPU has none, so the
rounding is done beside the framework's own operators, which compute everything else.

`PYTHONPATH=. python tests/frameworks/coarse.py pytorch tiny` prints how far such an arm is from the exact one: what the
tolerances of `harness/suites/parity/tolerances.py` are made from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rounding:
    """How a format keeps a number of float32.

    Attributes:
        bits: behind the leading one.
        nearest: to the nearest, ties to even; else towards zero, as some kernels do.
        results: whether what an operator gives is rounded too, as where it leaves the operator in that format.
    """

    bits: int
    nearest: bool = True
    results: bool = False


TF32 = Rounding(10)
ROUNDINGS = {"tf32": TF32, "tf32 cut": Rounding(10, nearest=False), "float16": Rounding(10, results=True),
             "bfloat16": Rounding(7, results=True)}


@contextmanager
def coarse(framework: str, rounding: Rounding, products: bool = True) -> Iterator[None]:
    """Have every convolution round what it is given inside the block, and with `products` every product too."""
    patches = _pytorch(rounding, products) if framework == "pytorch" else _jittor(rounding, products)
    kept = [(place, name, getattr(place, name)) for place, name, _ in patches]
    for place, name, coarser in patches:
        setattr(place, name, coarser)
    try:
        yield
    finally:
        for place, name, own in kept:
            setattr(place, name, own)


def _pytorch(rounding: Rounding, products: bool) -> list[tuple[Any, str, Any]]:
    import torch
    from torch.nn import functional

    drop = 23 - rounding.bits

    def rounded(x):
        i = x.detach().contiguous().view(torch.int32)
        if rounding.nearest:
            i = i + ((1 << (drop - 1)) - 1) + ((i >> drop) & 1)
        return (i & -(1 << drop)).view(torch.float32)

    class Given(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return rounded(x)

        @staticmethod
        def backward(ctx, grad):
            return rounded(grad) if rounding.results else grad

    class Gives(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return rounded(y) if rounding.results else y.clone()

        @staticmethod
        def backward(ctx, grad):
            return rounded(grad)

    def coarser(operator):
        def compute(x, weight, bias=None, *args, **more):
            y = Gives.apply(operator(Given.apply(x), Given.apply(weight), None, *args, **more))
            return y if bias is None else y + (bias.reshape(-1, 1, 1) if operator is conv2d else bias)

        return compute

    def product(a, b):
        return Gives.apply(torch.matmul(Given.apply(a), Given.apply(b)))

    def attention(q, k, v):
        return product(torch.softmax(product(q, k.transpose(-2, -1)) * q.shape[-1] ** -0.5, dim=-1), v)

    conv2d = functional.conv2d
    found = [(functional, "conv2d", coarser(conv2d))]
    if products:
        found += [(functional, "linear", coarser(functional.linear)),
                  (functional, "scaled_dot_product_attention", attention)]
    return found


def _jittor(rounding: Rounding, products: bool) -> list[tuple[Any, str, Any]]:
    import jittor as jt
    from jittor import nn

    drop = 23 - rounding.bits
    up = f"i += {(1 << (drop - 1)) - 1}u + ((i >> {drop}) & 1u);" if rounding.nearest else ""
    # Bits, because arithmetic that rounds is optimised away under -Ofast.
    source = f"""
        for (int64 n = 0; n < in0->num; n++) {{
            unsigned i;
            memcpy(&i, in0_p + n, 4);
            {up}
            i &= ~{(1 << drop) - 1}u;
            memcpy(out0_p + n, &i, 4);
        }}"""

    def rounded(x):
        return jt.code(x.shape, x.dtype, [x], cpu_header="#include <cstring>", cpu_src=source)

    class Given(jt.Function):
        def execute(self, x):
            return rounded(x)

        def grad(self, grad):
            return rounded(grad) if rounding.results else grad

    class Gives(jt.Function):
        def execute(self, y):
            return rounded(y) if rounding.results else y + 0

        def grad(self, grad):
            return rounded(grad)

    def convolution(self, x):
        y = nn.conv2d(Given()(x), Given()(self.weight), None, self.stride, self.padding, self.dilation, self.groups)
        return Gives()(y) + self.bias.reshape(1, -1, 1, 1)

    def coarser(operator):
        return lambda a, b: Gives()(operator(Given()(a), Given()(b)))

    found = [(nn.Conv, "execute", convolution)]
    if products:
        found += [(nn, name, coarser(getattr(nn, name))) for name in ("matmul_transpose", "bmm_transpose", "bmm")]
    return found


def arm_numbers(backend: ModuleType, recipe: Any, images: NDArray[np.uint8], steps: int,
                precision: Any = "float32") -> Any:
    """What the parity check would ask of an arm that says it computes in such a format; the control is left out."""
    from harness.suites.parity import numbers as parity

    trainer = backend.create((), "cpu", 1).trainer(recipe, images)
    shapes = {name: value.shape for name, value in trainer.state().params.items()}
    trainer.load_state(parity.random_state(shapes, recipe.seed, recipe.model.image_channels))
    probes = parity.probe_inputs(recipe)
    eps = trainer.predict(probes["x"], probes["t"])
    _, gradients = trainer.gradients()
    trainer.step()
    trainer.synchronize()
    after_one, losses = trainer.state().params, trainer.losses()
    for _ in range(steps - 1):
        trainer.step()
        losses += trainer.losses()
    trainer.close()
    return parity.ArmNumbers(eps=eps, gradients=gradients, after_one=after_one, losses=losses, control=[],
                             precision=precision)


def main(framework: str, name: str, seed: str = "0", steps: str = "1") -> None:
    """Print how far each rounding is from float32, in a network as parity runs it, on images of noise."""
    from importlib import import_module

    from harness.suites.parity import numbers as parity
    from impls.recipe.config import preset

    if framework == "jittor":
        from impls.jittor import runtime

        runtime.prepare("cpu")
    backend = import_module(f"impls.{framework}.backend")
    batch = 4 if name == "tiny" else 1
    recipe = parity.parity_experiment(preset(name).model_copy(update={"seed": int(seed)}), batch)
    size = recipe.model.image_size
    images = np.random.default_rng(0).integers(0, 256, (64, size, size, recipe.model.image_channels), dtype=np.uint8)
    exact = arm_numbers(backend, recipe, images, int(steps))
    for word, rounding in ROUNDINGS.items():
        with coarse(framework, rounding):
            rounded = arm_numbers(backend, recipe, images, int(steps))
        found = parity.compare(("A", "B"), exact, rounded, recipe)
        print(f"{framework} {name} seed {seed} {word}: forward {found.forward_max_abs:.1e}, gradients "
              f"{found.gradient_worst_rel:.1e} ({found.gradient_worst_name}), losses {max(found.loss_rel_diff):.1e}",
              flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
