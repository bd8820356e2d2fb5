"""What Adam keeps for the parameters, as flat arrays: the moments and the averaged weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.jittor.data import to_numpy
from impls.jittor.group import Group


class Moments(ABC):
    """What a step of Adam updates beside the parameters: flat arrays in the order of `params`.

    Args:
        params: parameters by state-dict name; updated in place.
        grad_clip: largest global gradient norm, or None.
        ema_decay: decay of the averaged weights, or None for no average.

    Attributes:
        flat: "exp_avg", "exp_avg_sq" and, where there is an average, "ema".
        steps: updates done, left out ones included.
        group: ranks whose gradients count too; None for those of this process alone.
    """

    name: str
    scaler: Any = None
    group: Group | None = None
    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, params: Mapping[str, Var], grad_clip: float | None, ema_decay: float | None) -> None:
        self.params, self.grad_clip, self.ema_decay = dict(params), grad_clip, ema_decay
        self.shapes = {name: tuple(p.shape) for name, p in self.params.items()}
        self.ends = np.cumsum([p.numel() for p in self.params.values()])
        self.steps = 0
        weights = self.flatten(to_numpy(self.params))
        starts = {"exp_avg": np.zeros_like(weights), "exp_avg_sq": np.zeros_like(weights)}
        if ema_decay is not None:
            starts["ema"] = weights
        self.flat = {what: jt.array(start).stop_grad() for what, start in starts.items()}

    def step(self, loss: Var, lr: float) -> None:
        """Enqueue backward pass and update of one training step."""
        self.update(self.backward(loss), lr)

    def backward(self, loss: Var) -> list[Var]:
        """Enqueue the backward pass; returns the gradients."""
        # Without the default of keeping the graph, which operators of our own would hold for good.
        grads = list(jt.grad(loss, list(self.params.values()), retain_graph=False))
        return grads if self.group is None else self.of_all_ranks(self.group.mean(grads))

    def of_all_ranks(self, grads: Var) -> list[Var]:
        """What `update` takes of the gradients of all ranks, which are flat."""
        return [grads]

    @abstractmethod
    def update(self, grads: Sequence[Var], lr: float) -> Var | None:
        """Enqueue the update by the gradients of `backward`."""

    def outputs(self) -> list[Var]:
        """Everything that a step updates: what to ask for so that Jittor runs its lazy graph."""
        return [*self.params.values(), *self.flat.values()]

    def arrays(self, what: str) -> dict[str, NDArray[np.float32]]:
        """A copy of "exp_avg", "exp_avg_sq" or "ema" by parameter name; waits for the device."""
        parts = np.split(self.flat[what].numpy(), self.ends[:-1])
        return {name: part.reshape(self.shapes[name]).copy() for name, part in zip(self.params, parts, strict=True)}

    def load_arrays(self, arrays: Mapping[str, Mapping[str, NDArray[np.float32]]], steps: int) -> None:
        """Go on from `arrays`["exp_avg" | "exp_avg_sq" | "ema"][name] after `steps` updates."""
        for what, var in self.flat.items():
            var.update(jt.array(self.flatten(arrays[what])).stop_grad())
        # See `Network.load`.
        jt.sync(list(self.flat.values()))
        self.steps = steps

    def flatten(self, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The arrays of all parameters in one."""
        return np.concatenate([np.asarray(arrays[name], np.float32).reshape(-1) for name in self.params])
