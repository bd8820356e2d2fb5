"""DDPM training (Ho et al. 2020, algorithm 1): Adam, linear warm-up, global-norm clipping, averaged weights."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.backend import BackendInfo, MemoryReading, TrainerState
from impls.errors import UsageError
from impls.pytorch.data import batches, start_generator, to_device, to_numpy
from impls.pytorch.diffusion import add_noise, noise_scales
from impls.pytorch.network import Network, device_memory
from impls.pytorch.ops import Operators
from impls.pytorch.optimizer import Adam
from impls.recipe import randomness
from impls.recipe.config import ExperimentConfig
from impls.recipe.schedule import Schedule
from impls.recipe.validation import held_out_loss
from impls.store.diffusers import require_fit


class Trainer:
    """See `impls.backend.Trainer`.

    With matched randomness, batches, flips, timesteps and noise are keyed streams, the same in every framework.
    Dropout's masks come from the framework's own generator, which then starts anew from (seed, step) at every step: a
    resumed training repeats an uninterrupted one exactly, but two frameworks agree only with dropout 0.
    """

    def __init__(self, config: ExperimentConfig, images: NDArray[np.uint8], device: torch.device,
                 info: BackendInfo, options: frozenset[str], operators: Operators) -> None:
        self.config, self.info, self.device = config, info, device
        self.seed_generator(0)
        self.network = Network(config.model, device, options, operators, training=True)
        self.params = self.network.params
        self.optimizer = Adam(self.params, config.train.grad_clip, config.train.ema_decay)
        self.scales = noise_scales(Schedule.from_config(config.diffusion), torch.empty(0, device=device))
        self.batches = batches(config, images, device)
        self.steps_done = 0
        self.unread_losses: list[Tensor] = []
        self.waits_ns: list[int] = []

    @property
    def parameter_count(self) -> int:
        """Trainable scalars of the network."""
        return self.network.parameter_count

    def step(self) -> None:
        """Enqueue one optimisation step on the next batch."""
        started_ns = time.perf_counter_ns()
        x0 = self.batches.batch(self.steps_done)
        self.waits_ns.append(time.perf_counter_ns() - started_ns)

        loss = self.loss(x0)
        self.optimizer.step(loss, self.learning_rate())
        self.unread_losses.append(loss.detach())
        self.steps_done += 1

    def loss(self, x0: Tensor) -> Tensor:
        """The mean squared error of the predicted noise (Ho et al. 2020, equation 14) for this step's draws."""
        t, noise = self.draw(x0)
        x_t = add_noise(self.scales, x0, t, noise)
        return nn.functional.mse_loss(self.network(x_t, t), noise)

    def draw(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps (B,) and noise shaped as x0 for this step; where they are keyed, so are dropout's masks."""
        T, seed, step = self.config.diffusion.T, self.config.seed, self.steps_done
        if self.config.train.randomness == "matched":
            self.seed_generator(step)
            return (to_device(randomness.timesteps(seed, step, len(x0), T), self.device),
                    to_device(randomness.noise(seed, step, tuple(x0.shape)), self.device))
        return torch.randint(T, (len(x0),), device=self.device), torch.randn_like(x0)

    def learning_rate(self) -> float:
        """The rate of this step."""
        return self.config.train.learning_rate(self.steps_done)

    def losses(self) -> list[float]:
        """Losses of the steps since the last call, oldest first; waits for the device."""
        unread, self.unread_losses = self.unread_losses, []
        return torch.stack(unread).tolist() if unread else []

    def synchronize(self) -> None:
        """Return only when all enqueued work is finished; on the CPU it always is."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def pending_work(self) -> int | None:
        """None: PyTorch does not tell how much is enqueued on CUDA, and enqueues nothing on the CPU."""
        return None

    def loader_wait_ns(self) -> list[int]:
        """For every step since the last call, nanoseconds spent waiting for its batch."""
        waits, self.waits_ns = self.waits_ns, []
        return waits

    def memory(self) -> MemoryReading:
        """Device memory as PyTorch's CUDA allocator reports it."""
        return device_memory(self.device)

    def state(self) -> TrainerState:
        """A copy of everything needed to go on exactly; waits for the device."""
        arrays = self.optimizer.arrays
        ema = None if self.config.train.ema_decay is None else arrays("ema")
        return TrainerState(self.steps_done, self.network.arrays(), ema, arrays("exp_avg"), arrays("exp_avg_sq"))

    def load_state(self, state: TrainerState) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: names or shapes differ from the network's, or values are not finite.
        """
        require_fit(state, self.network.shapes, self.config.train.ema_decay is not None)
        self.network.load(state.params)
        arrays = {"exp_avg": state.exp_avg, "exp_avg_sq": state.exp_avg_sq, "ema": state.ema}
        self.optimizer.load_arrays(arrays, state.step)
        self.steps_done = state.step
        self.seed_generator(state.step)

    def seed_generator(self, step: int) -> None:
        """Start the framework's own generator anew, so that what it draws at a step does not depend on earlier ones."""
        start_generator(int(randomness.stream(self.config.seed, "framework", step).integers(2**31)))

    def predict(self, x: NDArray[np.float32], t: NDArray[np.int64]) -> NDArray[np.float32]:
        """The network's eps for x (N, C, H, W) at timesteps t (N,), dropout off, no gradient."""
        self.network.switch_dropout(False)
        with torch.no_grad():
            eps = self.network(to_device(x, self.device), to_device(t, self.device))
        self.network.switch_dropout(True)
        return eps.cpu().numpy()

    def validation_loss(self, images: NDArray[np.uint8], use_ema: bool) -> float:
        """The mean loss over `images` (N, H, W, C) at keyed timesteps and noise, dropout off, no gradient."""
        if not use_ema or self.config.train.ema_decay is None:
            return held_out_loss(self.predict, images, self.config)
        kept = self.network.arrays()
        self.network.load(self.optimizer.arrays("ema"))
        try:
            return held_out_loss(self.predict, images, self.config)
        finally:
            self.network.load(kept)

    def gradients(self) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch that the next `step()` would use; changes nothing.

        Raises:
            UsageError: randomness is not matched, so that batch is not known before it is drawn.
        """
        if self.config.train.randomness != "matched":
            raise UsageError("gradients need train.randomness matched: only then is the next batch known beforehand")
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            loss = self.loss(self.batches.batch(self.steps_done))
            grads = torch.autograd.grad(loss, list(self.params.values()))
        return loss.item(), to_numpy(dict(zip(self.params, grads, strict=True)))

    def close(self) -> None:
        """Release loader workers and device memory."""
        self.batches.close()
        del self.batches, self.optimizer, self.network, self.params
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
