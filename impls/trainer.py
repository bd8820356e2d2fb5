"""The half of a training that knows no framework: what a step does, in which order, and what of it is kept."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.backend import Arrays, BackendInfo, Group, Mark, TrainerState
from impls.errors import UsageError
from impls.recipe import randomness
from impls.recipe.config import ExperimentConfig
from impls.recipe.scaling import BACKOFF, LossScale
from impls.recipe.validation import held_out_loss
from impls.store.diffusers import require_fit
from messages import tell

# The framework's own.
Tensor = Any


class BaseTrainer(ABC):
    """See `impls.backend.Trainer`: DDPM training (Ho et al. 2020, algorithm 1) over the parts of one framework.

    With matched randomness, batches, flips, timesteps and noise are keyed streams, the same in every framework.
    Dropout's masks come from the framework's own generator, which then starts anew from (seed, step) at every step: a
    resumed training repeats an uninterrupted one exactly, but two frameworks agree only with dropout 0. So do two
    numbers of ranks: each rank draws the masks of its own share of the batch.

    Attributes:
        share: positions of the whole batch that this process computes.
        network: what is trained: the framework's own `network.Network`.
        optimizer: what moves its weights: the framework's own `optimizer.Adam`.
        batches: where its images come from: the framework's own `data.batches`.
        steps_done: optimisation steps.
    """

    network: Any
    optimizer: Any
    batches: Any

    def __init__(self, config: ExperimentConfig, info: BackendInfo, group: Group | None = None) -> None:
        self.config, self.info, self.group = config, info, group
        if group is not None and config.train.randomness != "matched":
            raise UsageError(tell("several ranks need train.randomness matched: a framework's own generator does not "
                                  "tell their images apart"))
        self.share = range(config.train.batch_size) if group is None else group.ranks.share(config.train.batch_size)
        self.steps_done = 0
        # Of a training that this one goes on from: its steps left out are missing in Adam's count for good.
        self.earlier_scale: LossScale | None = None
        self.unread_losses: list[Tensor] = []
        self.waits_ns: list[int] = []

    @property
    def parameter_count(self) -> int:
        """Trainable scalars of the network."""
        return self.network.parameter_count

    def step(self) -> None:
        """Enqueue one optimisation step on the next batch."""
        loss = self.loss(self.next_batch())
        self.optimizer.step(loss, self.learning_rate())
        self.stepped(loss)

    def step_in_phases(self, mark: Mark) -> None:
        """One step as `step` does it, but waiting for the device at the end of each of its phases."""
        x0 = self.next_batch()
        self.finish([x0])
        mark("data")
        loss = self.loss(x0)
        self.finish([loss])
        mark("forward")
        grads = self.optimizer.backward(loss)
        self.finish(grads)
        mark("backward")
        self.optimizer.update(grads, self.learning_rate())
        self.stepped(loss)
        self.synchronize()
        mark("optimizer")

    def next_batch(self) -> Tensor:
        """Images (B, C, H, W) of this step."""
        started_ns = time.perf_counter_ns()
        x0 = self.batches.batch(self.steps_done)
        self.waits_ns.append(time.perf_counter_ns() - started_ns)
        return x0

    def stepped(self, loss: Tensor) -> None:
        """Count a step."""
        self.unread_losses.append(loss.detach())
        self.steps_done += 1

    @abstractmethod
    def synchronize(self) -> None:
        """Return only when all enqueued work is finished."""

    @abstractmethod
    def finish(self, tensors: Sequence[Tensor]) -> None:
        """Return only when these are computed."""

    @abstractmethod
    def loss(self, x0: Tensor) -> Tensor:
        """The mean squared error of the predicted noise (Ho et al. 2020, equation 14) for this step's draws."""

    def keyed_draws(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Timesteps (B,) and noise of `shape` for this step from the keyed streams; so are dropout's masks then."""
        T, seed, step, first = self.config.diffusion.T, self.config.seed, self.steps_done, self.share.start
        self.seed_generator(step)
        return randomness.timesteps(seed, step, shape[0], T, first), randomness.noise(seed, step, shape, first)

    def seed_generator(self, step: int) -> None:
        """Start the framework's own generator anew, so that what it draws at a step does not depend on earlier ones."""
        # The first share's is that of a process of its own.
        share = (self.share.start,) if self.share.start else ()
        self.set_seed(int(randomness.stream(self.config.seed, "framework", step, *share).integers(2**31)))

    @abstractmethod
    def set_seed(self, seed: int) -> None:
        """Start the framework's own generator from `seed`."""

    def learning_rate(self) -> float:
        """The rate of this step."""
        return self.config.train.learning_rate(self.steps_done)

    def of_whole_batch(self, losses: list[float]) -> list[float]:
        """Losses of this process's share as those of all ranks together, which must ask at the same step."""
        if self.group is None or not losses:
            return losses
        return (self.group.total(np.array(losses)) / self.group.ranks.size).tolist()

    def loader_wait_ns(self) -> list[int]:
        """For every step since the last call, nanoseconds spent waiting for its batch."""
        waits, self.waits_ns = self.waits_ns, []
        return waits

    def loss_scale(self) -> LossScale | None:
        """How the loss is scaled now; None where it is not; waits for the device."""
        if self.optimizer.scaler is None:
            return None
        now, earlier = self.optimizer.loss_scale(), self.earlier_scale or LossScale()
        return now.model_copy(update={"skipped": earlier.skipped + now.skipped})

    def state(self) -> TrainerState:
        """A copy of everything needed to go on exactly; waits for the device."""
        arrays = self.optimizer.arrays
        ema = None if self.config.train.ema_decay is None else arrays("ema")
        return TrainerState(self.steps_done, self.network.arrays(), ema, arrays("exp_avg"), arrays("exp_avg_sq"),
                            self.loss_scale() or self.earlier_scale)

    def load_state(self, state: TrainerState) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: names or shapes differ from the network's, or values are not finite.
        """
        require_fit(state, self.network.shapes, self.config.train.ema_decay is not None)
        self.network.load(state.params)
        arrays = {"exp_avg": state.exp_avg, "exp_avg_sq": state.exp_avg_sq, "ema": state.ema}
        scale = state.loss_scale or LossScale()
        self.optimizer.load_arrays(arrays, state.step - scale.skipped)
        if self.optimizer.scaler is not None:
            self.optimizer.load_loss_scale(scale)
        self.earlier_scale = state.loss_scale
        self.steps_done = state.step
        self.seed_generator(state.step)

    @abstractmethod
    def predict(self, x: NDArray[np.float32], t: NDArray[np.int64]) -> NDArray[np.float32]:
        """The network's eps for x (N, C, H, W) at timesteps t (N,), dropout off, no gradient."""

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
            UsageError: randomness is not matched, so that batch is not known before it is drawn; or this is a rank.
        """
        if self.group is not None:
            raise UsageError(tell("gradients are asked of one process, not of a rank"))
        if self.config.train.randomness != "matched":
            raise UsageError(tell("gradients need train.randomness matched: only then is the next batch known "
                                  "beforehand"))
        x0 = self.batches.batch(self.steps_done)
        scale = 1.0 if self.optimizer.scaler is None else self.optimizer.loss_scale().scale
        loss, grads = self.differentiate(x0, scale)
        # A training would leave this step out and try the next one with less.
        while scale > 1 and not all(np.isfinite(grad).all() for grad in grads.values()):
            scale *= BACKOFF
            loss, grads = self.differentiate(x0, scale)
        return loss, grads

    @abstractmethod
    def differentiate(self, x0: Tensor, scale: float) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch x0; changes nothing.

        Args:
            x0: the batch.
            scale: of the loss in the backward pass; the gradients are divided by it.
        """

    # What a trace needs, beside `update` and `one_step` of either framework: see `impls.recipe.trace.Training`.

    def loss_of_step(self) -> Tensor:
        """The loss on this step's batch, with its graph; changes no weight."""
        return self.loss(self.batches.batch(self.steps_done))

    def weights(self) -> Arrays:
        """A copy of every weight by name, and of what else the network keeps as fractions."""
        return self.network.arrays()

    def trained(self) -> list[str]:
        """The names of those that an update moves."""
        return list(self.network.params)

    def begin(self, weights: Arrays) -> None:
        """Go back to step 0 with these weights and a new optimiser."""
        zeros = {name: np.zeros_like(weights[name]) for name in self.trained()}
        self.load_state(TrainerState(0, weights, None if self.config.train.ema_decay is None else weights, zeros,
                                     dict(zeros)))

    def moments(self) -> dict[str, Arrays]:
        """What Adam keeps."""
        return {what: self.optimizer.arrays(what) for what in ("exp_avg", "exp_avg_sq")}

    def close(self) -> None:
        """Release loader workers and device memory."""
        self.batches.close()
        self.unread_losses.clear()
        del self.batches, self.optimizer, self.network
