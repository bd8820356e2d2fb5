"""What products and convolutions of float32 are really computed in: proven by their rounding, not read from a flag."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

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


def measured(device: torch.device) -> Measured:
    """Compute a product and a convolution with its gradients, and see what they keep.

    Raises:
        UnavailableError: the numbers are wrong.
    """
    benchmark = torch.backends.cudnn.benchmark
    # A search for the fastest algorithm takes seconds, and these shapes are used here alone.
    torch.backends.cudnn.benchmark = False
    try:
        passes = [recognise(partial(convolution, device, which), "convolutions") for which in range(3)]
        return Measured(recognise(partial(product, device), "matrix products"), coarsest(*passes))
    finally:
        torch.backends.cudnn.benchmark = benchmark


def product(device: torch.device, value: float) -> float:
    """An entry of a product of `value` and one, by its number of terms."""
    return float(torch.mm(full((SIDE, SIDE), value, device), full((SIDE, SIDE), 1, device))[1, 2]) / SIDE


def convolution(device: torch.device, which: int, value: float) -> float:
    """An entry of a convolution of `value` (0), of its gradient by input (1) or weight (2), by its number of terms."""
    x = full((BATCH, CHANNELS, PIXELS, PIXELS), value, device).requires_grad_()
    weight = full((CHANNELS, CHANNELS, 3, 3), 1, device).requires_grad_()
    y = nn.functional.conv2d(x, weight, padding=1)
    by_input, by_weight = torch.autograd.grad(y, [x, weight], torch.full_like(y, value))
    middle = PIXELS // 2
    terms = CHANNELS * 9
    return (float(y.detach()[1, 2, middle, middle]) / terms, float(by_input[1, 2, middle, middle]) / terms,
            float(by_weight[1, 2, 1, 1]) / (BATCH * PIXELS**2) / value)[which]


def full(shape: tuple[int, ...], value: float, device: torch.device) -> Tensor:
    """A tensor of one number."""
    return torch.full(shape, value, dtype=torch.float32, device=device)
