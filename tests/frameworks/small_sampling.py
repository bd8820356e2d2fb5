"""A sampler small enough for tests, the same in both frameworks, and the best possible network for Gaussian data."""

from __future__ import annotations

from collections import deque

import numpy as np
from small_training import config

from impls.recipe.config import merged

MU, S = 0.3, 0.5


def sampler(fw, T=1000, loaded=True, variance="fixedlarge", **sample):
    """A small sampler on the CPU with one thread, with weights that every layer is felt through."""
    overrides = {"diffusion": {"T": T, "variance": variance}, "sample": {"batch_size": 3, **sample}}
    chosen = merged(config(model={"dropout": 0.5}), overrides, "test")
    subject = fw.backend.create((), "cpu", 1).sampler(chosen)
    if loaded:
        rng = np.random.default_rng(5)
        subject.load({name: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 10)
                             + (len(shape) == 1 and "norm" in name and name.endswith("weight"))).astype(np.float32)
                      for name, shape in subject.network.shapes.items()})
    return subject


def oracle(schedule):
    """The best predictor for N(MU, S^2) data in place of a network: eps of the framework's own tensors."""
    def network(x, t):
        ab = schedule.alpha_bar(int(np.asarray(t.numpy()).reshape(-1)[0]))
        slope = float(np.sqrt(1 - ab) / (ab * S**2 + 1 - ab))
        return (x - float(np.sqrt(ab) * MU)) * slope
    return network


def numpy(x):
    return np.array(x.numpy())


def last(chain):
    return numpy(deque(chain, maxlen=1).pop())
