"""Clipping, Adam and the averaged weights of the option `onednn`: one C++ operator for all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jittor as jt

from impls.jittor.moments import Moments
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


class OneDNNAdam(Moments):
    """What `impls.jittor.optimizer.Adam` does, in one pass over all parameters, which stay apart."""

    name = "own C++ operator, torch.optim.Adam's formula, fused with clipping and averaging"

    def __init__(self, params: Mapping[str, jt.Var], grad_clip: float | None, ema_decay: float | None) -> None:
        load()
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
