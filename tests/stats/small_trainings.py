"""Hundreds of small trainings at once: a network of one hidden layer, some targets far off, clipped gradients, Adam."""

from __future__ import annotations

import numpy as np

INPUTS, HIDDEN, BATCH, STEPS = 6, 8, 8, 320
# One target in a hundred is off by so many times a heavy-tailed number: what clipping is for.
OFF, FAR = 0.01, 5.0


def trainings(runs, *, clip=0.5, rate=0.01, eps=1e-8, perturbed=0.0, rounding=1):
    """Losses (R, STEPS) of R runs, each with weights and batches of its own, the same whenever it is called.

    Args:
        runs: how many.
        clip: largest norm of a gradient; None for no clipping.
        rate: Adam's.
        eps: Adam's.
        perturbed: relative size of a change of the initial weights, as another framework's rounding makes.
        rounding: which change.
    """
    rng, noise = np.random.default_rng(0), np.random.default_rng(rounding)
    # The runs are the last axis: numpy is quick along it.
    weights = [rng.standard_normal((INPUTS, HIDDEN, runs)) / np.sqrt(INPUTS),
               rng.standard_normal((HIDDEN, runs)) / np.sqrt(HIDDEN)]
    teacher = rng.standard_normal((3, INPUTS)) / 2
    weights = [weight * (1 + perturbed * noise.standard_normal(weight.shape)) for weight in weights]
    means, squares = ([np.zeros_like(weight) for weight in weights] for _ in range(2))
    losses = np.empty((STEPS, runs))
    for step in range(1, STEPS + 1):
        x = rng.standard_normal((BATCH, INPUTS, runs))
        far = FAR * rng.standard_t(2, (BATCH, runs)) * (rng.random((BATCH, runs)) < OFF)
        y = np.tanh(np.einsum("ki,bir->bkr", teacher, x)).sum(axis=1) + 0.02 * rng.standard_normal((BATCH, runs)) + far
        hidden = np.tanh(np.einsum("bir,ihr->bhr", x, weights[0]))
        error = np.einsum("bhr,hr->br", hidden, weights[1]) - y
        losses[step - 1] = (error**2).mean(axis=0)
        above = 2 * error / BATCH
        gradients = [np.einsum("bir,bhr->ihr", x, above[:, None] * weights[1] * (1 - hidden**2)),
                     np.einsum("bhr,br->hr", hidden, above)]
        norm = np.sqrt((gradients[0] ** 2).sum(axis=(0, 1)) + (gradients[1] ** 2).sum(axis=0))
        factor = 1.0 if clip is None else np.minimum(1.0, clip / norm)
        for number, gradient in enumerate(gradients):
            means[number] += 0.1 * (gradient * factor - means[number])
            squares[number] += 0.001 * ((gradient * factor) ** 2 - squares[number])
            root = np.sqrt(squares[number] / (1 - 0.999**step)) + eps
            weights[number] -= rate * (means[number] / (1 - 0.9**step)) / root
    return losses.T.copy()
