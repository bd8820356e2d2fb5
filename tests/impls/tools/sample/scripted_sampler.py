"""A backend without a framework whose images are functions of (seed, number, network call) alone."""

from __future__ import annotations

import numpy as np

from impls.backend import BackendInfo
from impls.recipe.schedule import sampling_timesteps
from impls.registry import BackendSpec
from impls.store.diffusers import require_same

SPEC = BackendSpec(name="scripted-sampler", module="scripted_sampler", options={"other": "draws other images"})
SHAPES = {"a.weight": (2, 3)}


class ScriptedSampler:
    """Notes what it was asked for; `stop_after` batches it is interrupted."""

    def __init__(self, config, options=(), stop_after=None):
        self.config, self.options, self.stop_after = config, options, stop_after
        self.asked, self.reads, self.calls, self.closed = [], [], 0, False
        self.info = BackendInfo("Scripted", "1", "cpu", "none", None, "float32", False, 1)

    def load(self, params):
        require_same("weights", params, SHAPES)

    def image(self, seed, number, call):
        size = self.config.model.image_size
        return np.random.default_rng([seed, number, call, len(self.options)]).integers(
            0, 256, (size, size, self.config.model.image_channels), dtype=np.uint8)

    def sample(self, n, seed, method="ddpm", steps=None, eta=0.0, on_step=None, *, spacing="uniform", first=0):
        if self.stop_after is not None and len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(range(first, first + n))
        nfe = len(sampling_timesteps(self.config.diffusion.T, method, steps, spacing))
        self.calls += nfe

        def read(call):
            self.reads.append(call)
            return np.stack([self.image(seed, number, call) for number in self.asked[-1]])

        for call in range(1, nfe + 1):
            if on_step is not None:
                on_step(call, lambda call=call: read(call))
        return np.stack([self.image(seed, number, nfe) for number in self.asked[-1]])

    def close(self):
        self.closed = True


class ScriptedBackend:
    """Makes scripted samplers; the newest one is `last`, and `stop_after` is passed on."""

    last: ScriptedSampler | None = None
    stop_after: int | None = None

    def __init__(self, options):
        self.options = options
        self.info = BackendInfo("Scripted", "1", "cpu", "none", None, "float32", False, 1)

    def sampler(self, config):
        ScriptedBackend.last = ScriptedSampler(config, self.options, ScriptedBackend.stop_after)
        return ScriptedBackend.last


def create(options, device, threads):
    return ScriptedBackend(options)
