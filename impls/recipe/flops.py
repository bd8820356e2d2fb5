"""Analytic cost of the U-Net: one count for both frameworks, whatever operators they run.

Counted: every convolution, linear layer and both matrix products of attention, as 2 x multiply-accumulate.
Left out: normalisations, activations, softmax, biases, additions and copies. They do a few operations
per value where a convolution does thousands, and memory bounds them. With `ddpm` the two matrix products of attention
make the difference between the 12.1 and the 12.4 GFLOP per image that are both found in the literature.
"""

from __future__ import annotations

from impls.recipe.config import ModelConfig
from impls.recipe.operators import operators


def forward_flop_per_image(config: ModelConfig) -> int:
    """Floating-point operations (2 x multiply-accumulate) of one forward pass for one image."""
    return sum(operator.flop for operator in operators(config))


def training_step_flop(config: ModelConfig, batch: int) -> int:
    """Floating-point operations of one step: the backward pass costs twice the forward one; optimiser left out."""
    return 3 * batch * forward_flop_per_image(config)
