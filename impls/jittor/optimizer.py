"""One update of the weights: clipping by the global norm, Adam (Kingma & Ba 2015), averaged weights."""

from __future__ import annotations

from collections.abc import Mapping

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.jittor.data import to_numpy

# The smallest normal float32; far below what epsilon, added to the root, lets count.
_LEAST = 2.0**-126


class _AdamW(jt.optim.AdamW):
    """Jittor's AdamW without decay, with a root that is safe.

    Jittor compiles with -Ofast, where the root of a subnormal number is NaN on vectors of eight floats: everywhere on a
    CPU without AVX-512, else where a tensor's size is no multiple of 16. The first steps have such second moments.
    """

    def step(self) -> None:
        """Move every parameter by the gradients of `backward`; jittor.optim.AdamW.step but for `maximum`."""
        self.pre_step(None)
        group, (beta1, beta2), n = self.param_groups[0], self.betas, float(self.n_step)
        for p, g, v, m in zip(group["params"], group["grads"], group["values"], group["m"], strict=True):
            m.update(beta1 * m + (1 - beta1) * g)
            v.update(beta2 * v + (1 - beta2) * g * g)
            root = jt.sqrt(jt.maximum(v, _LEAST)) / jt.sqrt(1 - beta2**n) + self.eps
            p.update(p - self.lr / (1 - beta1**n) * m / root)
        self.post_step()


class Adam:
    """Adam over named parameters, with the average of the weights that DDPM samples from.

    Args:
        params: parameters by state-dict name; updated in place.
        grad_clip: largest global gradient norm, or None.
        ema_decay: decay of the averaged weights, or None for no average.
        loss_scale: the loss is multiplied by it before the backward pass and the gradients divided after it.
    """

    def __init__(self, params: Mapping[str, Var], grad_clip: float | None, ema_decay: float | None,
                 loss_scale: float = 1.0) -> None:
        self.params, self.grad_clip, self.ema_decay = dict(params), grad_clip, ema_decay
        self.loss_scale = loss_scale
        # Jittor's Adam puts epsilon inside the bias correction; its AdamW without decay is what others call Adam.
        self.optimizer = _AdamW(list(self.params.values()), lr=0.0, weight_decay=0)
        self.ema: dict[str, Var] = {}
        if ema_decay is not None:
            self.ema = {name: p.detach().copy().stop_grad() for name, p in self.params.items()}

    def step(self, loss: Var, lr: float) -> None:
        """Enqueue backward pass and update of one training step."""
        self.optimizer.zero_grad()
        if self.loss_scale == 1:
            self.optimizer.backward(loss)
        else:
            self.optimizer.backward(loss * self.loss_scale)
            for grad in self.optimizer.param_groups[0]["grads"]:
                grad.update(grad.float32() / self.loss_scale)
        if self.grad_clip is not None:
            self.optimizer.clip_grad_norm(self.grad_clip)
        self.optimizer.lr = lr
        self.optimizer.step()
        if self.ema_decay is not None:
            update_average(self.ema, self.params, self.ema_decay)

    def outputs(self) -> list[Var]:
        """Everything that a step updates: what to ask for so that Jittor runs its lazy graph."""
        group = self.optimizer.param_groups[0]
        return [*self.params.values(), *group["m"], *group["values"], *self.ema.values()]

    def arrays(self, what: str) -> dict[str, NDArray[np.float32]]:
        """A copy of "exp_avg", "exp_avg_sq" or "ema" by parameter name; waits for the device."""
        if what == "ema":
            return to_numpy(self.ema)
        moments = self.optimizer.param_groups[0][{"exp_avg": "m", "exp_avg_sq": "values"}[what]]
        return to_numpy(dict(zip(self.params, moments, strict=True)))

    def load_arrays(self, arrays: Mapping[str, Mapping[str, NDArray[np.float32]]], steps: int) -> None:
        """Go on from `arrays`["exp_avg" | "exp_avg_sq" | "ema"][name] after `steps` updates."""
        group = self.optimizer.param_groups[0]
        for name, first, second in zip(self.params, group["m"], group["values"], strict=True):
            first.update(jt.array(arrays["exp_avg"][name]))
            second.update(jt.array(arrays["exp_avg_sq"][name]))
            if self.ema:
                self.ema[name].update(jt.array(arrays["ema"][name]))
        # See `Network.load`.
        jt.sync([*group["m"], *group["values"], *self.ema.values()])
        self.optimizer.n_step = steps


def update_average(average: Mapping[str, Var], params: Mapping[str, Var], decay: float) -> None:
    """Set average to decay average + (1 - decay) params, in place."""
    for name, mean in average.items():
        mean.update(mean + (params[name].detach() - mean) * (1 - decay))
