"""DDPM training (Ho et al. 2020, algorithm 1): Adam, linear warm-up, global-norm clipping, averaged weights."""

from __future__ import annotations

from dataclasses import replace

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.backend import Arrays, BackendInfo
from impls.jittor import onednn
from impls.jittor.data import batches, start_generator, to_device, to_numpy
from impls.jittor.diffusion import add_noise, noise_scales
from impls.jittor.group import Group
from impls.jittor.network import Network, OnDevice
from impls.jittor.ops import Operators
from impls.jittor.optimizer import Adam
from impls.jittor.profile import profiled
from impls.jittor.trace import trace
from impls.recipe.config import ExperimentConfig
from impls.recipe.profile import Profile
from impls.recipe.schedule import Schedule
from impls.recipe.trace import Call, Feed, Sink, Twin
from impls.trainer import BaseTrainer


class Trainer(OnDevice, BaseTrainer):
    """See `impls.trainer.BaseTrainer`; here is what Jittor's variables do."""

    network: Network

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8],
                 info: BackendInfo, options: frozenset[str], operators: Operators,
                 group: Group | None = None) -> None:
        super().__init__(config, info, group)
        self.seed_generator(0)
        self.network = Network(config.model, options, operators, training=True)
        self.info = self.network.told(info, len(self.share))
        if group is not None:
            group.unite(self.network)
        if options & {onednn.WHOLE, onednn.OPTIMISER}:
            from impls.jittor.onednn.adam import OneDNNAdam

            self.optimizer = OneDNNAdam(self.network.params, config.train.grad_clip, config.train.ema_decay)
        else:
            self.optimizer = Adam(self.network.params, config.train.grad_clip, config.train.ema_decay,
                                  scaled="amp" in options)
        self.optimizer.group = group
        self.info = replace(self.info, operators={**self.info.operators, "optimizer": self.optimizer.name})
        self.scales = noise_scales(Schedule.from_config(config.diffusion), jt.empty((0,)))
        self.batches = batches(config, images, self.share)

    def step(self) -> None:
        """Enqueue one optimisation step on the next batch."""
        super().step()
        # Launches the step's work. Left to itself it would start during the next step's backward(), one step late,
        # and the averaged weights would keep every step's graph alive.
        jt.sync(self.outputs())

    def loss(self, x0: Var) -> Var:
        """The mean squared error of the predicted noise (Ho et al. 2020, equation 14) for this step's draws."""
        t, noise = self.draw(x0)
        x_t = add_noise(self.scales, x0, t, noise)
        # Map by map: one sum over a batch of 128, which Jittor's kernels add to few float32, was seen to be 1e-4 off.
        return (self.network(x_t, t) - noise).sqr().mean((2, 3)).mean()

    def draw(self, x0: Var) -> tuple[Var, Var]:
        """Timesteps (B,) and noise shaped as x0 for this step; where they are keyed, so are dropout's masks."""
        if self.config.train.randomness == "matched":
            t, noise = self.keyed_draws(tuple(x0.shape))
            return to_device(t), to_device(noise)
        return jt.randint(0, self.config.diffusion.T, (len(x0),)), jt.randn(x0.shape)

    def set_seed(self, seed: int) -> None:
        """Start Jittor's own generator from `seed`."""
        start_generator(seed)

    def losses(self) -> list[float]:
        """Losses of the steps since the last call, oldest first; waits for the device."""
        unread, self.unread_losses = self.unread_losses, []
        return self.of_whole_batch([float(loss.item()) for loss in unread])

    def outputs(self) -> list[Var]:
        """Everything that a step computes: what must be asked for so that Jittor's lazy graph is run."""
        return [*self.optimizer.outputs(), *self.unread_losses[-1:]]

    def predict(self, x: NDArray[np.float32], t: NDArray[np.int64]) -> NDArray[np.float32]:
        """The network's eps for x (N, C, H, W) at timesteps t (N,), dropout off, no gradient."""
        self.network.switch_dropout(False)
        with jt.no_grad():
            eps = self.network(to_device(x), to_device(t)).numpy().copy()
        self.network.switch_dropout(True)
        return eps

    def differentiate(self, x0: Var, scale: float) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch x0; changes nothing."""
        params = self.network.params
        loss = self.loss(x0)
        grads = jt.grad(loss if scale == 1 else loss * scale, list(params.values()), retain_graph=False)
        arrays = to_numpy(dict(zip(params, grads, strict=True)))
        return loss.item(), {name: grad / np.float32(scale) for name, grad in arrays.items()}

    def profile(self, steps: int) -> Profile:
        """What so many steps launch; see `impls.backend.Profiling`."""
        return profiled(self.step_in_phases, steps, self.info.device == "cuda")

    def update(self, gradients: Arrays) -> None:
        """What a step does with these gradients, by name."""
        scaler = self.optimizer.scaler
        held = [jt.array(np.array(gradients[name])) for name in self.network.params]
        jt.sync(held)
        self.optimizer.update(held if scaler is None else list(map(scaler.scaled, held)), self.learning_rate())

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
        jt.gc()
