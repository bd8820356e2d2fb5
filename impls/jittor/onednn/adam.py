"""Clipping, Adam and the averaged weights of the option `onednn`: one C++ operator for all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jittor as jt
import numpy as np
from numpy.typing import NDArray

from impls.jittor.onednn.operators import load

# One kernel for any number of tensors: Jittor gives a code operator its inputs and outputs as vectors.
HEADER = """#include <vector>
extern "C" float ddpm_adam(long, float* const*, const float* const*, const long*, float*, float*, float*,
                           float, float, float, float, float, float, float, float);"""
SOURCE = """
const long count = data["count"];
std::vector<float*> params;
std::vector<const float*> grads;
std::vector<long> sizes;
for (long i = 0; i < count; i++) {
    params.push_back(_outputs[i]->ptr<float>());
    grads.push_back(_inputs[count + i]->ptr<float>());
    sizes.push_back(_outputs[i]->num);
}
const bool averaged = (long)_outputs.size() == count + 4;
float* average = averaged ? _outputs[count + 2]->ptr<float>() : nullptr;
*_outputs.back()->ptr<float>() = ddpm_adam(
    count, params.data(), grads.data(), sizes.data(), _outputs[count]->ptr<float>(), _outputs[count + 1]->ptr<float>(),
    average, data["lr"], data["beta1"], data["beta2"], data["eps"], data["correction1"], data["correction2"],
    data["max_norm"], data["decay"]);
"""


class OneDNNAdam:
    """What `impls.jittor.optimizer.Adam` does, in one pass over all parameters.

    The moments and the average are flat arrays in the order of `params`.

    Args:
        params: parameters by state-dict name; updated in place.
        grad_clip: largest global gradient norm, or None.
        ema_decay: decay of the averaged weights, or None for no average.
        betas: decays of the two moments.
        eps: added to the root of the second moment.
    """

    name = "own C++ operator, torch.optim.Adam's formula, fused with clipping and averaging"
    # There is no float16 here, whose gradients want a scaled loss.
    scaler = None

    def __init__(self, params: Mapping[str, jt.Var], grad_clip: float | None, ema_decay: float | None,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        load()
        self.params = dict(params)
        self.shapes = {name: tuple(p.shape) for name, p in params.items()}
        self.ends = np.cumsum([p.numel() for p in params.values()])
        self.grad_clip, self.ema_decay, self.betas, self.eps = grad_clip, ema_decay, betas, eps
        self.steps = 0
        zeros = np.zeros(int(self.ends[-1]), np.float32)
        self.flat = {"exp_avg": jt.array(zeros), "exp_avg_sq": jt.array(zeros)}
        if ema_decay is not None:
            self.flat["ema"] = jt.array(self._flatten({name: p.numpy() for name, p in params.items()}))
        for var in self.flat.values():
            var.stop_grad()

    def step(self, loss: jt.Var, lr: float) -> None:
        """Enqueue backward pass and update of one training step."""
        self.update(self.backward(loss), lr)

    def backward(self, loss: jt.Var) -> list[jt.Var]:
        """Enqueue the backward pass; returns the gradients."""
        # Without the default of keeping the graph, which our operators would hold for good.
        return list(jt.grad(loss, list(self.params.values()), retain_graph=False))

    def update(self, grads: Sequence[jt.Var], lr: float) -> jt.Var:
        """Enqueue one update; returns the gradients' global norm before clipping, shape (1,).

        Args:
            grads: one gradient per parameter, in the same order. Every earlier reader of a parameter must be an
                ancestor of a gradient or already finished: the update overwrites the parameters.
            lr: learning rate of this step.
        """
        self.steps += 1
        held, norm, (beta1, beta2) = self.outputs(), jt.zeros(1), self.betas
        data = {
            "count": len(self.params), "lr": lr, "beta1": beta1, "beta2": beta2, "eps": self.eps,
            "correction1": 1 - beta1**self.steps, "correction2": 1 - beta2**self.steps,
            "max_norm": self.grad_clip or 0.0, "decay": self.ema_decay or 0.0,
        }
        inputs = [*self.params.values(), *grads, *self.flat.values(), norm]
        new = jt.code(inputs, [*held, norm], cpu_header=HEADER, cpu_src=SOURCE,
                      data={name: float(value) for name, value in data.items()})
        for var, out in zip(held, new, strict=False):
            var.assign(out)
        return new[-1]

    def outputs(self) -> list[jt.Var]:
        """Everything that a step updates: what to ask for so that Jittor runs its lazy graph."""
        return [*self.params.values(), *self.flat.values()]

    def arrays(self, what: str) -> dict[str, NDArray[np.float32]]:
        """A copy of "exp_avg", "exp_avg_sq" or "ema" by parameter name; waits for the device."""
        parts = np.split(self.flat[what].numpy(), self.ends[:-1])
        return {name: part.reshape(self.shapes[name]).copy() for name, part in zip(self.params, parts, strict=True)}

    def load_arrays(self, arrays: Mapping[str, Mapping[str, NDArray[np.float32]]], steps: int) -> None:
        """Go on from `arrays`["exp_avg" | "exp_avg_sq" | "ema"][name] after `steps` updates."""
        for what, var in self.flat.items():
            var.assign(jt.array(self._flatten(arrays[what])).stop_grad())
        self.steps = steps

    def _flatten(self, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate([np.asarray(arrays[name], np.float32).reshape(-1) for name in self.params])
