"""One update of the weights: loss scaling, clipping by the global norm, Adam (Kingma & Ba 2015), averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.jittor.moments import Moments
from impls.recipe.scaling import BACKOFF, GROWTH, GROWTH_INTERVAL, LossScale
from messages import marked

# The smallest normal float32; far below what epsilon, added to the root, lets count.
_LEAST = 2.0**-126
# Numbers that are added up at once.
_ROW = 4096
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

    def unscaled(self, grads: Var) -> tuple[Var, Var]:
        """The gradients divided by the scale, and whether one of them is infinite or NaN, (1,), bool."""
        return grads * (1 / self.scale), jt.logical_not(jt.isfinite(grads).all())

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


class Adam(Moments):
    """Adam over named parameters, with the average of the weights that DDPM samples from.

    The parameters are views of one flat array, too: one kernel for all instead of eight for each, as `jittor.optim` has
    them, where a launch takes longer than most parameters' numbers.

    Args:
        params: parameters by state-dict name; updated in place.
        grad_clip: largest global gradient norm, or None.
        ema_decay: decay of the averaged weights, or None for no average.
        scaled: the loss is scaled, and a step whose gradients overflow is left out: see `impls.recipe.scaling`.

    Attributes:
        name: what runs, for the report.
        scaler: what scales the loss; None where nothing does.
        weights: what the parameters are views of after an update.
    """

    name = marked("torch.optim.Adam's formula in Jittor's operators, over one flat array, with a safe root")

    def __init__(self, params: Mapping[str, Var], grad_clip: float | None, ema_decay: float | None,
                 scaled: bool = False) -> None:
        super().__init__(params, grad_clip, ema_decay)
        self.scaler = _GradScaler() if scaled else None
        self.weights = _joined(self.params.values()).stop_grad()
        self.weights.sync()

    def backward(self, loss: Var) -> list[Var]:
        """Enqueue the backward pass; returns the gradients."""
        return super().backward(loss if self.scaler is None else self.scaler.scaled(loss))

    def update(self, grads: Sequence[Var], lr: float) -> None:
        """Enqueue the update by the gradients of `backward`."""
        self.steps += 1
        (beta1, beta2), overflow = self.betas, None
        grad = _joined(grads)
        if self.scaler is None:
            correction1, correction2 = 1 - beta1**self.steps, math.sqrt(1 - beta2**self.steps)
        else:
            grad, overflow = self.scaler.unscaled(grad)
            counted = (self.steps - self.scaler.skipped).float64()
            correction1, correction2 = ((1 - jt.exp(counted * math.log(beta))).float32() for beta in self.betas)
            correction2 = jt.sqrt(correction2)
        if self.grad_clip is not None:
            grad = grad * jt.minimum(self.grad_clip / (_norm(grad) + 1e-6), 1.0)
        moved = self.moved(grad, lr, correction1, correction2)
        for old, new in moved:
            old.update(new if overflow is None else jt.ternary(overflow, old, new))
        starts = [0, *self.ends[:-1].tolist()]
        for p, start, end in zip(self.params.values(), starts, self.ends.tolist(), strict=True):
            p.update(self.weights[start:end].reshape(p.shape))
        if self.scaler is not None:
            self.scaler.update(overflow)
        if self.ema_decay is not None:
            update_average([self.flat["ema"]], [self.weights], self.ema_decay, overflow)

    def moved(self, grad: Var, lr: float, correction1: Var | float, correction2: Var | float) -> list[tuple[Var, Var]]:
        """What a step changes, each as it is and as it will be: the moments and the weights.

        Args:
            grad: flat, clipped.
            lr: of this step.
            correction1: of the bias of the first moment.
            correction2: root of that of the second.
        """
        beta1, beta2 = self.betas
        exp_avg, exp_avg_sq = self.flat["exp_avg"], self.flat["exp_avg_sq"]
        first = beta1 * exp_avg + (1 - beta1) * grad
        second = beta2 * exp_avg_sq + (1 - beta2) * grad * grad
        # Jittor compiles with -Ofast, where the root of a subnormal number is NaN on vectors of eight floats:
        # everywhere on a CPU without AVX-512, else at the end of an array whose size is no multiple of 16. The first
        # steps have such second moments.
        root = jt.sqrt(jt.maximum(second, _LEAST)) / correction2 + self.eps
        new = self.weights - lr / correction1 * first / root
        return [(exp_avg, first), (exp_avg_sq, second), (self.weights, new)]

    def loss_scale(self) -> LossScale | None:
        """How the loss is scaled, with the steps left out since `load_loss_scale`; waits for the device."""
        return None if self.scaler is None else self.scaler.state()

    def load_loss_scale(self, state: LossScale) -> None:
        """Go on from `state`, counting the steps that are left out from 0; where nothing is scaled, do nothing."""
        if self.scaler is not None:
            self.scaler.load(state)

    def outputs(self) -> list[Var]:
        """Everything that a step updates: what to ask for so that Jittor runs its lazy graph."""
        scaler = [] if self.scaler is None else self.scaler.outputs()
        return [*super().outputs(), self.weights, *scaler]

    def load_arrays(self, arrays: Mapping[str, Mapping[str, NDArray[np.float32]]], steps: int) -> None:
        """Go on from `arrays`["exp_avg" | "exp_avg_sq" | "ema"][name] and the parameters after `steps` updates."""
        self.weights.update(_joined(self.params.values()))
        self.weights.sync()
        super().load_arrays(arrays, steps)


def _norm(flat: Var) -> Var:
    """Root of the sum of squares of a flat array.

    Row by row: one sum over 35.7 million numbers, which Jittor's kernels add to few float32, was seen to lack 9 %.
    """
    rows = -(-flat.numel() // _ROW)
    # What lies beyond the end is 0.
    return jt.sqrt(flat.reindex([rows, _ROW], [f"i0*{_ROW}+i1"]).sqr().sum(1).sum())


def _joined(arrays: Iterable[Var]) -> Var:
    """All of them in one flat array."""
    return jt.concat([one.flatten() for one in arrays])


def update_average(average: Sequence[Var], params: Sequence[Var], decay: float, overflow: Var | None = None) -> None:
    """Set average to decay average + (1 - decay) params, in place; where `overflow` is true, leave it."""
    for mean, p in zip(average, params, strict=True):
        new = mean + (p.detach() - mean) * (1 - decay)
        mean.update(new if overflow is None else jt.ternary(overflow, mean, new))
