"""A backend without a framework: a step is a sum, and everything is a function of (seed, step)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from impls.backend import BackendInfo, TrainerState
from impls.registry import BackendSpec
from impls.store.diffusers import require_fit

SHAPES = {"a.weight": (2, 3), "b.bias": (4,)}
SPEC = BackendSpec(name="scripted-trainer", module="scripted_trainer", options={"other": "another arm"},
                   any_threads=frozenset({"other"}))


class ScriptedTrainer:
    """Its loss is a function of its state; `on_step` may do anything after a step."""

    def __init__(self, config, images):
        self.config, self.images, self.steps = config, images, 0
        self.params = {name: np.full(shape, config.seed, np.float32) for name, shape in SHAPES.items()}
        self.ema = {name: array.copy() for name, array in self.params.items()}
        self.parameter_count = sum(array.size for array in self.params.values())
        self.unread, self.closed = [], False
        self.on_step = ScriptedBackend.on_step

    def step(self):
        push = np.float32(np.random.default_rng([self.config.seed, self.steps]).random() * self.config.train.lr * 1e3)
        self.params = {name: array + push for name, array in self.params.items()}
        self.ema = {name: np.float32(0.5) * (array + self.params[name]) for name, array in self.ema.items()}
        self.steps += 1
        self.unread.append(float(1 / (1 + self.params["b.bias"][0])))
        if self.on_step is not None:
            self.on_step(self)

    def losses(self):
        unread, self.unread = self.unread, []
        return unread

    def loader_wait_ns(self):
        return []

    def state(self):
        zeros = {name: np.zeros_like(array) for name, array in self.params.items()}
        ema = None if self.config.train.ema_decay is None else dict(self.ema)
        return TrainerState(self.steps, dict(self.params), ema, zeros, zeros)

    def load_state(self, state):
        require_fit(state, SHAPES, self.config.train.ema_decay is not None)
        self.params, self.steps = dict(state.params), state.step
        self.ema = dict(state.ema or state.params)

    def validation_loss(self, images, use_ema):
        assert len(images)
        return float(1 / (1 + (self.ema if use_ema else self.params)["b.bias"][0]))

    def close(self):
        self.closed = True


class ScriptedSampler:
    def load(self, params):
        self.value = int(params["b.bias"][0]) % 256

    def sample(self, n, seed, method, steps, on_step=None):
        for call in range(steps):
            on_step(call + 1, lambda: None)
        return np.full((n, 4, 4, 3), self.value, np.uint8)


class ScriptedBackend:
    info = BackendInfo(framework="Scripted", version="1", device="cpu", device_name="none", device_uuid=None,
                       dtype="float32", tf32=False, threads=1)
    on_step = None

    def trainer(self, config, images):
        return ScriptedTrainer(config, images)

    def sampler(self, config):
        return ScriptedSampler()


def create(options, device, threads):
    backend = ScriptedBackend()
    backend.info = replace(backend.info, threads=threads)
    return backend
