"""What an arm's products and convolutions are really computed in: proven by their rounding, not read from a flag."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn

from impls.pytorch.network import as_run
from impls.pytorch.ops import Operators
from impls.recipe.precision import Measured, coarsest, half, recognise
from messages import marked

# Large enough that the libraries take the kernels that they take for the network, and no shape of the presets: Jittor
# remembers the fastest algorithm by shape alone, whatever the format.
SIDE, BATCH, CHANNELS, PIXELS = 256, 8, 96, 16


def measured(device: torch.device, options: Collection[str], operators: Operators) -> Measured:
    """Compute a product and a convolution with its gradients as the arm's network does, and see what they keep.

    Raises:
        UnavailableError: the numbers are wrong.
    """
    benchmark = torch.backends.cudnn.benchmark
    # A search for the fastest algorithm takes seconds, and these shapes are used here alone.
    torch.backends.cudnn.benchmark = False
    try:
        convolutions = recognise(partial(convolution, device, options), "convolutions")
        products = [recognise(partial(product, device, options), marked("matrix products"))]
        if half(options):
            # Attention chooses its formats itself.
            products.append(recognise(partial(attention, device, options, operators), marked("attention's products")))
        return Measured(coarsest(*products), convolutions)
    finally:
        torch.backends.cudnn.benchmark = benchmark


def product(device: torch.device, options: Collection[str], value: float) -> tuple[float]:
    """What an identity as a linear layer makes of `value`."""
    layer = nn.Linear(SIDE, SIDE, bias=False).to(device)
    nn.init.eye_(layer.weight)
    return (float(as_run(layer, device, options)(full((SIDE, SIDE), value, device))[1, 2].detach()),)


def attention(device: torch.device, options: Collection[str], operators: Operators, value: float) -> tuple[float]:
    """What attention of each to itself alone makes of `value`."""
    # So far apart that softmax gives one and zeros.
    apart = 32 * torch.eye(SIDE, device=device).expand(2, SIDE, SIDE)
    values = full((2, SIDE, SIDE), value, device)
    return (float(as_run(operators.attention, device, options)(apart, apart, values)[1, 2, 3]),)


def convolution(device: torch.device, options: Collection[str], value: float) -> tuple[float, float, float]:
    """What an identity as a convolution, its gradient by input and that by weight make of `value`."""
    layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).to(device)
    nn.init.dirac_(layer.weight)
    x = full((BATCH, CHANNELS, PIXELS, PIXELS), value, device).requires_grad_()
    y = as_run(layer, device, options)(x)
    place = (1, 2, PIXELS // 2, PIXELS // 2)
    above = torch.zeros_like(y)
    above[place] = value
    by_input, by_weight = torch.autograd.grad(y, [x, layer.weight], above)
    return float(y.detach()[place]), float(by_input[place]), float(by_weight[2, 2, 1, 1]) / value


def full(shape: tuple[int, ...], value: float, device: torch.device) -> Tensor:
    """A tensor of one number."""
    return torch.full(shape, value, dtype=torch.float32, device=device)
