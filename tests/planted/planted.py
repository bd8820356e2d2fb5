"""The arm `planted`: the arm `pytorch` with one thing made slower on purpose, so that it is known why it is slower."""

from __future__ import annotations

import time
from dataclasses import replace
from unittest import mock

import numpy as np

from impls.pytorch import backend, optimizer, trainer
from impls.registry import BackendSpec

# Copied at every step, so often.
COPIED, COPIES = np.ones(8 << 20, np.float32), 16

SPEC = BackendSpec(name="planted", module="planted", options={
    "attention": "attention is computed four times", "optimiser": "each update waits as long as the backward pass took",
    "loader": "512 MB are copied for every batch"})


class WaitingAdam(optimizer.Adam):
    """Our update, and a wait behind it: as long as the backward pass took, so that a busy machine drowns neither."""

    def backward(self, loss):
        began = time.perf_counter_ns()
        grads = super().backward(loss)
        self.wait_ns = time.perf_counter_ns() - began
        return grads

    def update(self, grads, lr):
        super().update(grads, lr)
        until = time.perf_counter_ns() + self.wait_ns
        while time.perf_counter_ns() < until:
            pass


class CopyingTrainer(trainer.Trainer):
    """Our trainer, whose batches cost copies of something large."""

    def next_batch(self):
        for _ in range(COPIES):
            COPIED.copy()
        return super().next_batch()


def create(options, device, threads):
    """See `impls.registry.Arm.create`."""
    if "optimiser" in options:
        mock.patch.object(trainer, "Adam", WaitingAdam).start()
    if "loader" in options:
        mock.patch.object(backend, "Trainer", CopyingTrainer).start()
    made = backend.create((), device, threads)
    if "attention" in options:
        once = made.operators.attention
        made.operators = replace(made.operators, attention=lambda q, k, v: sum(once(q, k, v) for _ in range(4)) / 4)
    return made
