"""What products and convolutions of float32 are really computed in: proven by their rounding, not read from a flag."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jittor as jt
from jittor import Var, nn

from impls.recipe.precision import Precision, coarsest, recognise

# Large enough that the libraries take the kernels that they take for the network, and no shape of the presets: Jittor
# remembers the fastest algorithm by shape alone, whatever the format.
SIDE, BATCH, CHANNELS, PIXELS = 256, 8, 96, 16


@dataclass(frozen=True)
class Measured:
    """The coarsest format that was seen in each kind of operation.

    Attributes:
        products: matrix products.
        convolutions: convolutions, forward and backward.
    """

    products: Precision
    convolutions: Precision

    @property
    def tf32(self) -> bool:
        """Whether anything was computed in TF32."""
        return "tf32" in (self.products, self.convolutions)


def measured() -> Measured:
    """Compute a product and a convolution with its gradients, and see what they keep.

    Raises:
        UnavailableError: the numbers are wrong.
    """
    passes = [recognise(partial(convolution, which), "convolutions") for which in range(3)]
    return Measured(recognise(product, "matrix products"), coarsest(*passes))


def product(value: float) -> float:
    """An entry of a product of `value` and one, by its number of terms."""
    return float(jt.matmul(full((SIDE, SIDE), value), full((SIDE, SIDE), 1)).numpy()[1, 2]) / SIDE


def convolution(which: int, value: float) -> float:
    """An entry of a convolution of `value` (0), of its gradient by input (1) or weight (2), by its number of terms."""
    x = full((BATCH, CHANNELS, PIXELS, PIXELS), value)
    weight = full((CHANNELS, CHANNELS, 3, 3), 1)
    y = nn.conv2d(x, weight, padding=1)
    by_input, by_weight = jt.grad((y * value).sum(), [x, weight], retain_graph=False)
    middle = PIXELS // 2
    terms = CHANNELS * 9
    return (float(y.numpy()[1, 2, middle, middle]) / terms, float(by_input.numpy()[1, 2, middle, middle]) / terms,
            float(by_weight.numpy()[1, 2, 1, 1]) / (BATCH * PIXELS**2) / value)[which]


def full(shape: tuple[int, ...], value: float) -> Var:
    """A variable of one number, held in memory: one that is only described would be folded into the operation."""
    x = jt.full(shape, value, dtype="float32")
    x.sync()
    return x
