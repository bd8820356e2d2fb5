"""One update of the weights: clipping by the global norm, Adam (Kingma & Ba 2015), averaged weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.pytorch.data import to_numpy


class Adam:
    """Adam over named parameters, with the average of the weights that DDPM samples from.

    Args:
        params: parameters by state-dict name; updated in place.
        grad_clip: largest global gradient norm, or None.
        ema_decay: decay of the averaged weights, or None for no average.
    """

    def __init__(self, params: Mapping[str, Tensor], grad_clip: float | None, ema_decay: float | None) -> None:
        self.params, self.grad_clip, self.ema_decay = dict(params), grad_clip, ema_decay
        self.optimizer = torch.optim.Adam(self.params.values(), fused=True)
        self.ema: dict[str, Tensor] = {}
        if ema_decay is not None:
            self.ema = {name: p.detach().clone() for name, p in self.params.items()}

    def step(self, loss: Tensor, lr: float) -> None:
        """Enqueue backward pass and update of one training step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.params.values(), self.grad_clip, foreach=True)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        if self.ema_decay is not None:
            update_average(self.ema, self.params, self.ema_decay)

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
def update_average(average: Mapping[str, Tensor], params: Mapping[str, Tensor], decay: float) -> None:
    """Set average to decay average + (1 - decay) params, in place."""
    torch._foreach_lerp_(list(average.values()), list(params.values()), 1 - decay)
