"""What an arm's products and convolutions are really computed in: proven by their rounding, not read from a flag."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import jittor as jt
import numpy as np
from jittor import Var, nn
from numpy.typing import NDArray

from impls.jittor.network import as_run
from impls.jittor.ops import STOCK, Operators
from impls.recipe.precision import Measured, coarsest, half, recognise
from messages import marked

# Large enough that the libraries take the kernels that they take for the network, and no shape of the presets: Jittor
# remembers the fastest algorithm by shape alone, whatever the format.
SIDE, BATCH, CHANNELS, PIXELS = 256, 8, 96, 16


def measured(options: Collection[str] = (), operators: Operators = STOCK) -> Measured:
    """Compute a product and a convolution with its gradients as the arm's network does, and see what they keep.

    Raises:
        UnavailableError: the numbers are wrong.
    """
    convolutions = recognise(partial(convolution, options), "convolutions")
    products = [recognise(partial(product, options), marked("matrix products"))]
    if half(options):
        # Attention chooses its formats itself.
        products.append(recognise(partial(attention, operators), marked("attention's products")))
    return Measured(coarsest(*products), convolutions)


def product(options: Collection[str], value: float) -> tuple[float]:
    """What an identity as a linear layer makes of `value`."""
    layer = nn.Linear(SIDE, SIDE)
    layer.weight.update(_held(np.eye(SIDE)))
    layer.bias.update(_held(np.zeros(SIDE)))
    return (float(as_run(layer, options)(full((SIDE, SIDE), value)).numpy()[1, 2]),)


def attention(operators: Operators, value: float) -> tuple[float]:
    """What attention of each to itself alone makes of `value`."""
    # So far apart that softmax gives one and zeros.
    apart = _held(np.broadcast_to(32 * np.eye(SIDE), (2, SIDE, SIDE)))
    values = full((2, SIDE, SIDE), value)
    return (float(operators.attention(apart, apart, values).numpy()[1, 2, 3]),)


def convolution(options: Collection[str], value: float) -> tuple[float, float, float]:
    """What an identity as a convolution, its gradient by input and that by weight make of `value`."""
    layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    weight = np.zeros(tuple(layer.weight.shape))
    weight[:, :, 1, 1] = np.eye(CHANNELS)
    layer.weight.update(_held(weight))
    layer.bias.update(_held(np.zeros(CHANNELS)))
    x = full((BATCH, CHANNELS, PIXELS, PIXELS), value)
    y = as_run(layer, options)(x)
    place = (1, 2, PIXELS // 2, PIXELS // 2)
    above = np.zeros(tuple(y.shape))
    above[place] = value
    by_input, by_weight = jt.grad((y * _held(above)).sum(), [x, layer.weight], retain_graph=False)
    return float(y.numpy()[place]), float(by_input.numpy()[place]), float(by_weight.numpy()[2, 2, 1, 1]) / value


def full(shape: tuple[int, ...], value: float) -> Var:
    """A variable of one number."""
    return _held(np.full(shape, value))


def _held(array: NDArray[np.float64]) -> Var:
    """A variable held in memory: one that is only described would be folded into the operation."""
    x = jt.array(array.astype(np.float32))
    x.sync()
    return x
