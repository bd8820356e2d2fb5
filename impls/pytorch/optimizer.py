"""One update of the weights: loss scaling, clipping by the global norm, Adam (Kingma & Ba 2015), averaged weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp import GradScaler

from impls.pytorch.data import to_numpy
from impls.recipe.scaling import BACKOFF, GROWTH, GROWTH_INTERVAL, INITIAL, LossScale


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

    name = "torch.optim.Adam"

    def __init__(self, params: Mapping[str, Tensor], grad_clip: float | None, ema_decay: float | None,
                 scaled: bool = False) -> None:
        self.params, self.grad_clip, self.ema_decay = dict(params), grad_clip, ema_decay
        # Fused, it is told on the device whether a step counts, so that nobody waits for the answer.
        self.optimizer = torch.optim.Adam(self.params.values(), fused=True)
        self.scaler: GradScaler | None = None
        if scaled:
            device = next(iter(self.params.values())).device
            self.scaler = GradScaler(device.type, INITIAL, GROWTH, BACKOFF, GROWTH_INTERVAL)
            self.skipped = torch.zeros((), device=device)
        self.ema: dict[str, Tensor] = {}
        if ema_decay is not None:
            self.ema = {name: p.detach().clone() for name, p in self.params.items()}

    def step(self, loss: Tensor, lr: float) -> None:
        """Enqueue backward pass and update of one training step."""
        self.update(self.backward(loss), lr)

    def backward(self, loss: Tensor) -> list[Tensor]:
        """Enqueue the backward pass; returns the gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is None:
            loss.backward()
        else:
            self.scaler.scale(loss).backward()
        return [p.grad for p in self.params.values() if p.grad is not None]

    def update(self, _grads: Sequence[Tensor], lr: float) -> None:
        """Enqueue the update by the gradients of `backward`."""
        overflow: Any = None
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
            # The scaler itself only waits for it.
            overflow = next(iter(self.scaler._found_inf_per_device(self.optimizer).values()))
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.params.values(), self.grad_clip, foreach=True)
        self.optimizer.param_groups[0]["lr"] = lr
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.skipped += overflow
        if self.ema_decay is not None:
            update_average(list(self.ema.values()), list(self.params.values()), self.ema_decay, overflow)

    def loss_scale(self) -> LossScale | None:
        """How the loss is scaled, with the steps left out since `load_loss_scale`; waits for the device."""
        if self.scaler is None:
            return None
        state = self.scaler.state_dict()
        return LossScale(scale=state["scale"], good_steps=state["_growth_tracker"], skipped=int(self.skipped))

    def load_loss_scale(self, state: LossScale) -> None:
        """Go on from `state`, counting the steps that are left out from 0; where nothing is scaled, do nothing."""
        if self.scaler is None:
            return
        numbers = {"scale": state.scale, "_growth_tracker": state.good_steps}
        self.scaler.load_state_dict({**self.scaler.state_dict(), **numbers})
        self.skipped.zero_()

    def arrays(self, what: str) -> dict[str, NDArray[np.float32]]:
        """A copy of "exp_avg", "exp_avg_sq" or "ema" by parameter name; waits for the device."""
        if what == "ema":
            return to_numpy(self.ema)
        state = self.optimizer.state
        return to_numpy({name: state[p][what] if p in state else torch.zeros_like(p)
                         for name, p in self.params.items()})

    @torch.no_grad()
    def load_arrays(self, arrays: Mapping[str, Mapping[str, NDArray[np.float32]]], steps: int) -> None:
        """Go on from `arrays`["exp_avg" | "exp_avg_sq" | "ema"][name] after `steps` updates."""
        for name, p in self.params.items():
            moments = {what: torch.empty_like(p).copy_(torch.tensor(arrays[what][name]))
                       for what in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[p] = {"step": torch.tensor(float(steps), device=p.device), **moments}
            if self.ema:
                self.ema[name].copy_(torch.tensor(arrays["ema"][name]))


@torch.no_grad()
def update_average(average: list[Tensor], params: list[Tensor], decay: float,
                   overflow: Tensor | None = None) -> None:
    """Set average to decay average + (1 - decay) params, in place; where `overflow` is 1, leave it."""
    if overflow is None:
        torch._foreach_lerp_(average, params, 1 - decay)
        return
    changes = torch._foreach_sub(params, average)
    torch._foreach_mul_(changes, (1 - decay) * (1 - overflow))
    torch._foreach_add_(average, changes)
