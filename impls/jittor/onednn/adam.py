"""Clipping, Adam and the averaged weights of the option `onednn`: one C++ operator for all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jittor as jt

from impls.jittor.moments import Moments
from impls.jittor.onednn.operators import load
from messages import marked

SOURCES = tuple(Path(__file__).parent / "csrc" / f"ddpm_adam_op.{kind}" for kind in ("h", "cc"))


class OneDNNAdam(Moments):
    """What `impls.jittor.optimizer.Adam` does, in one pass over all parameters, which stay apart."""

    name = marked("own C++ operator, torch.optim.Adam's formula, fused with clipping and averaging")

    def __init__(self, params: Mapping[str, jt.Var], grad_clip: float | None, ema_decay: float | None) -> None:
        load()
        self._operator = jt.compiler.compile_custom_ops([str(file) for file in SOURCES]).ddpm_adam
        super().__init__(params, grad_clip, ema_decay)

    def of_all_ranks(self, grads: jt.Var) -> list[jt.Var]:
        """The gradients of all ranks, which are flat, apart."""
        starts = [0, *self.ends[:-1].tolist()]
        return [grads[start:end].reshape(shape)
                for start, end, shape in zip(starts, self.ends.tolist(), self.shapes.values(), strict=True)]

    def update(self, grads: Sequence[jt.Var], lr: float) -> jt.Var:
        """Enqueue one update; returns the gradients' global norm before clipping, shape (1,).

        Args:
            grads: one gradient per parameter, in the same order. Every earlier reader of a parameter must be an
                ancestor of a gradient or already finished: the update overwrites the parameters.
            lr: learning rate of this step.
        """
        self.steps += 1
        norm, (beta1, beta2) = jt.zeros(1), self.betas
        # Each that is held becomes the operator's output in its place.
        self._operator(list(grads), [*self.outputs(), norm], lr, beta1, beta2, self.eps, 1 - beta1**self.steps,
                       1 - beta2**self.steps, self.grad_clip or 0.0, self.ema_decay or 0.0)
        return norm
