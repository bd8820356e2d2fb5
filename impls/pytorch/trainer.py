"""DDPM training (Ho et al. 2020, algorithm 1): Adam, linear warm-up, global-norm clipping, averaged weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.backend import Arrays, BackendInfo
from impls.pytorch.data import batches, start_generator, to_device, to_numpy
from impls.pytorch.diffusion import add_noise, noise_scales
from impls.pytorch.group import Group
from impls.pytorch.network import Network, OnDevice
from impls.pytorch.ops import Operators
from impls.pytorch.optimizer import Adam
from impls.pytorch.profile import profiled
from impls.pytorch.trace import trace
from impls.recipe.config import ExperimentConfig
from impls.recipe.profile import Profile
from impls.recipe.schedule import Schedule
from impls.recipe.trace import Call, Feed, Sink, Twin
from impls.trainer import BaseTrainer


class Trainer(OnDevice, BaseTrainer):
    """See `impls.trainer.BaseTrainer`; here is what PyTorch's tensors do."""

    network: Network

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8], device: torch.device,
                 info: BackendInfo, options: frozenset[str], operators: Operators,
                 group: Group | None = None) -> None:
        super().__init__(config, info, group)
        self.device, self.options = device, options
        self.seed_generator(0)
        self.network = Network(config.model, device, options, operators, training=True)
        self.info = self.network.told(info, len(self.share))
        if group is not None:
            group.unite(self.network)
        self.optimizer = Adam(self.network.params, config.train.grad_clip, config.train.ema_decay,
                              scaled="fp16" in options)
        self.info = replace(self.info, operators={**self.info.operators, "optimizer": self.optimizer.name})
        self.scales = noise_scales(Schedule.from_config(config.diffusion), torch.empty(0, device=device))
        self.batches = batches(config, images, device, self.share)

    def loss(self, x0: Tensor) -> Tensor:
        """The mean squared error of the predicted noise (Ho et al. 2020, equation 14) for this step's draws."""
        t, noise = self.draw(x0)
        x_t = add_noise(self.scales, x0, t, noise)
        return nn.functional.mse_loss(self.network(x_t, t), noise)

    def draw(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps (B,) and noise shaped as x0 for this step; where they are keyed, so are dropout's masks."""
        if self.config.train.randomness == "matched":
            t, noise = self.keyed_draws(tuple(x0.shape))
            return to_device(t, self.device), to_device(noise, self.device)
        return torch.randint(self.config.diffusion.T, (len(x0),), device=self.device), torch.randn_like(x0)

    def set_seed(self, seed: int) -> None:
        """Start PyTorch's own generators from `seed`."""
        start_generator(seed)

    def losses(self) -> list[float]:
        """Losses of the steps since the last call, oldest first; waits for the device."""
        unread, self.unread_losses = self.unread_losses, []
        return self.of_whole_batch(torch.stack(unread).tolist() if unread else [])

    def predict(self, x: NDArray[np.float32], t: NDArray[np.int64]) -> NDArray[np.float32]:
        """The network's eps for x (N, C, H, W) at timesteps t (N,), dropout off, no gradient."""
        self.network.switch_dropout(False)
        with torch.no_grad():
            eps = self.network(to_device(x, self.device), to_device(t, self.device))
        self.network.switch_dropout(True)
        return eps.cpu().numpy()

    def differentiate(self, x0: Tensor, scale: float) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch x0; changes nothing."""
        params = self.network.params
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            loss = self.loss(x0)
            grads = torch.autograd.grad(loss if scale == 1 else loss * scale, list(params.values()))
        arrays = to_numpy(dict(zip(params, grads, strict=True)))
        return loss.item(), {name: grad / np.float32(scale) for name, grad in arrays.items()}

    def profile(self, steps: int) -> Profile:
        """What so many steps launch; see `impls.backend.Profiling`."""
        return profiled(self.step_in_phases, steps, self.device.type == "cuda", "compile" in self.options)

    def update(self, gradients: Arrays) -> None:
        """What a step does with these gradients, by name."""
        scaler = self.optimizer.scaler
        for name, p in self.network.params.items():
            gradient = torch.empty_like(p).copy_(torch.from_numpy(np.array(gradients[name])))
            p.grad = gradient if scaler is None else scaler.scale(gradient)
        self.optimizer.update([], self.learning_rate())

    def one_step(self) -> float:
        """One whole training step; its loss."""
        self.step()
        return self.losses()[-1]

    def trace(self, twin: Twin, sink: Sink, feed: Feed | None, steps: int) -> list[Call]:
        """Every module looked into; see `impls.backend.Tracing`."""
        return trace(self.network.traced(twin), self, twin, sink, feed, steps)

    def close(self) -> None:
        """Release loader workers and device memory."""
        super().close()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
