"""One update of the weights: loss scaling, clipping by the global norm, Adam (Kingma & Ba 2015), averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.jittor.data import to_numpy
from impls.recipe.scaling import BACKOFF, GROWTH, GROWTH_INTERVAL, LossScale

# The smallest normal float32; far below what epsilon, added to the root, lets count.
_LEAST = 2.0**-126
# No scale from here on can be doubled in float32.
_LARGEST = 2.0**127


class _GradScaler:
    """What torch.amp.GradScaler does, which Jittor lacks: on the device, so that nobody waits for it.

    Attributes:
        scale: of the loss, (1,), float32.
        good_steps: in a row since it last changed, (1,), int32.
        skipped: steps left out since `load`, (1,), int32.
    """

    def __init__(self) -> None:
        self.load(LossScale())

    def scaled(self, loss: Var) -> Var:
        """The loss for the backward pass."""
        return loss * self.scale

    def unscale(self, grads: Sequence[Var]) -> Var:
        """Divide the gradients, in place; returns whether one of them is infinite or NaN, (1,), bool."""
        finite = jt.isfinite(jt.concat([grad.flatten() for grad in grads])).all()
        inverse = 1 / self.scale
        for grad in grads:
            grad.update(grad * inverse)
        return jt.logical_not(finite)

    def update(self, overflow: Var) -> None:
        """Count a step, and change the scale if it is time."""
        good = self.good_steps + 1
        full = good == GROWTH_INTERVAL
        grown = jt.ternary(jt.logical_and(full, self.scale < _LARGEST), self.scale * GROWTH, self.scale)
        ended = jt.logical_or(overflow, full)
        self.scale.update(jt.ternary(overflow, self.scale * BACKOFF, grown))
        self.good_steps.update(jt.ternary(ended, good - good, good))
        self.skipped.update(self.skipped + overflow.int32())

    def state(self) -> LossScale:
        """The numbers on the host; waits for the device."""
        scale, good_steps, skipped = (var.item() for var in self.outputs())
        return LossScale(scale=scale, good_steps=good_steps, skipped=skipped)

    def load(self, state: LossScale) -> None:
        """Go on from `state`, counting the steps that are left out from 0."""
        self.scale = jt.array(np.array([state.scale], np.float32)).stop_grad()
        self.good_steps, self.skipped = (jt.array(np.array([count], np.int32)).stop_grad()
                                         for count in (state.good_steps, 0))
        # See `Network.load`.
        jt.sync(self.outputs())

    def outputs(self) -> list[Var]:
        """What a step changes."""
        return [self.scale, self.good_steps, self.skipped]


class _AdamW(jt.optim.AdamW):
    """Jittor's AdamW without decay, with a root that is safe.

    Jittor compiles with -Ofast, where the root of a subnormal number is NaN on vectors of eight floats: everywhere on a
    CPU without AVX-512, else where a tensor's size is no multiple of 16. The first steps have such second moments.
    """

    def step(self, overflow: Var | None = None, skipped: Var | None = None) -> None:
        """Move every parameter by the gradients of `backward`; jittor.optim.AdamW.step but for `maximum`.

        Args:
            overflow: (1,): whether all stays as it is.
            skipped: (1,): in how many of the steps before it stayed.
        """
        self.pre_step(None)
        group, (beta1, beta2), n = self.param_groups[0], self.betas, float(self.n_step)
        if skipped is None:
            correction1, correction2 = 1 - beta1**n, 1 - beta2**n
        else:
            counted = (self.n_step - skipped).float64()
            correction1, correction2 = ((1 - jt.exp(counted * math.log(beta))).float32() for beta in (beta1, beta2))

        def kept(old: Var, new: Var) -> Var:
            return new if overflow is None else jt.ternary(overflow, old, new)

        for p, g, v, m in zip(group["params"], group["grads"], group["values"], group["m"], strict=True):
            m.update(kept(m, beta1 * m + (1 - beta1) * g))
            v.update(kept(v, beta2 * v + (1 - beta2) * g * g))
            root = jt.sqrt(jt.maximum(v, _LEAST)) / jt.sqrt(correction2) + self.eps
            p.update(kept(p, p - self.lr / correction1 * m / root))
        self.post_step()


class Adam:
    """Adam over named parameters, with the average of the weights that DDPM samples from.

    Args:
        params: parameters by state-dict name; updated in place.
        grad_clip: largest global gradient norm, or None.
        ema_decay: decay of the averaged weights, or None for no average.
        scaled: the loss is scaled, and a step whose gradients overflow is left out: see `impls.recipe.scaling`.

    Attributes:
        name: what runs, for the report.
        scaler: what scales the loss; None where nothing does.
    """

    name = "jittor.optim.AdamW with weight_decay 0, which is torch.optim.Adam, with a safe root"

    def __init__(self, params: Mapping[str, Var], grad_clip: float | None, ema_decay: float | None,
                 scaled: bool = False) -> None:
        self.params, self.grad_clip, self.ema_decay = dict(params), grad_clip, ema_decay
        # Jittor's Adam puts epsilon inside the bias correction; its AdamW without decay is what others call Adam.
        self.optimizer = _AdamW(list(self.params.values()), lr=0.0, weight_decay=0)
        self.scaler: _GradScaler | None = _GradScaler() if scaled else None
        self.ema: dict[str, Var] = {}
        if ema_decay is not None:
            self.ema = {name: p.detach().copy().stop_grad() for name, p in self.params.items()}

    def step(self, loss: Var, lr: float) -> None:
        """Enqueue backward pass and update of one training step."""
        self.update(self.backward(loss), lr)

    def backward(self, loss: Var) -> list[Var]:
        """Enqueue the backward pass; returns the gradients, which also stand beside the parameters."""
        self.optimizer.zero_grad()
        if self.scaler is None:
            self.optimizer.backward(loss)
        else:
            self.optimizer.backward(self.scaler.scaled(loss))
        return list(self.optimizer.param_groups[0]["grads"])

    def update(self, _grads: Sequence[Var], lr: float) -> None:
        """Enqueue the update by the gradients of `backward`."""
        overflow = None
        if self.scaler is not None:
            overflow = self.scaler.unscale(self.optimizer.param_groups[0]["grads"])
        if self.grad_clip is not None:
            self.optimizer.clip_grad_norm(self.grad_clip)
        self.optimizer.lr = lr
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.optimizer.step(overflow, self.scaler.skipped)
            self.scaler.update(overflow)
        if self.ema_decay is not None:
            update_average(self.ema, self.params, self.ema_decay, overflow)

    def loss_scale(self) -> LossScale | None:
        """How the loss is scaled, with the steps left out since `load_loss_scale`; waits for the device."""
        return None if self.scaler is None else self.scaler.state()

    def load_loss_scale(self, state: LossScale) -> None:
        """Go on from `state`, counting the steps that are left out from 0; where nothing is scaled, do nothing."""
        if self.scaler is not None:
            self.scaler.load(state)

    def outputs(self) -> list[Var]:
        """Everything that a step updates: what to ask for so that Jittor runs its lazy graph."""
        group = self.optimizer.param_groups[0]
        scaler = [] if self.scaler is None else self.scaler.outputs()
        return [*self.params.values(), *group["m"], *group["values"], *self.ema.values(), *scaler]

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


def update_average(average: Mapping[str, Var], params: Mapping[str, Var], decay: float,
                   overflow: Var | None = None) -> None:
    """Set average to decay average + (1 - decay) params, in place; where `overflow` is true, leave it."""
    for name, mean in average.items():
        new = mean + (params[name].detach() - mean) * (1 - decay)
        mean.update(new if overflow is None else jt.ternary(overflow, mean, new))
