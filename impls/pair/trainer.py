"""The half of a pair's training that knows no framework: whose weights are which, and what of them crosses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.backend import Arrays, BackendInfo, TrainerState
from impls.errors import UsageError
from impls.pair.loaded import Pair
from impls.pair.weights import matched
from impls.recipe.config import ExperimentConfig
from impls.recipe.trace import Call, Feed, Sink, Twin
from impls.trainer import BaseTrainer, Tensor
from messages import tell

Floats = NDArray[np.float32]


class PairTraining(BaseTrainer):
    """A training of the user's model; mixed into the framework's own `Trainer`, whose waiting and profiling it keeps.

    States and gradients are told by PyTorch's names, once one of PyTorch has been loaded.

    Args:
        pair: the user's functions.
        config: seed and randomness; "matched" switches dropout off.
        info: of the backend.

    Attributes:
        pair: the user's functions.
        theirs: name in the states that are exchanged -> name in this model.
        shapes: of the exchanged values by their names.
        images_per_step: how many images a batch counts.
    """

    images_per_step: int

    def __init__(self, pair: Pair, config: ExperimentConfig, info: BackendInfo) -> None:
        BaseTrainer.__init__(self, config, info)
        self.pair = pair
        self.seed_generator(0)
        self.theirs: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.told_losses = False
        # Whose numbers a step computes while the model is looked into.
        self.twin: Twin = "plain"

    def named(self) -> None:
        """Take the model's own names, until a state of the other model tells its."""
        self.shapes = dict(self.network.shapes)
        self.theirs = {name: name for name in self.shapes}

    def learning_rate(self) -> float:
        """The rate of this step."""
        return self.pair.rule.lr

    def state(self) -> TrainerState:
        """A copy of everything needed to go on; what is not trained (buffers, frozen weights) is a parameter too.

        Raises:
            UsageError: a value is not finite, as of a mask by infinity.
        """
        values = self.network.arrays()
        wrong = next((name for name, value in values.items() if not np.isfinite(value).all()), None)
        if wrong is not None:
            raise UsageError(tell("{name}: {framework}_model(): {names} holds NaN or infinity at step {step}: "
                                  "nothing can be compared with it; where it is a mask, take -1e9",
                                  name=self.pair.path.name, framework=self.pair.framework, names=wrong,
                                  step=self.steps_done))
        zeros = {name: np.zeros_like(value) for name, value in values.items()}
        first, second = ({**zeros, **self.optimizer.arrays(what)} for what in ("exp_avg", "exp_avg_sq"))
        ema = {**values, **self.optimizer.arrays("ema")} if self.pair.rule.ema_decay else None
        return TrainerState(self.steps_done, self._told(values), ema and self._told(ema), self._told(first),
                            self._told(second))

    def load_state(self, state: TrainerState) -> None:
        """Go on from a state of this model or of its twin.

        Raises:
            UsageError: the weights do not map, or shapes differ.
        """
        shapes = {name: value.shape for name, value in state.params.items()}
        try:
            self.theirs = matched(shapes, self.network.shapes, self.pair.names)
        except UsageError as error:
            raise UsageError(tell("{name}: torch_model() and jittor_model(): {error}", name=self.pair.path.name,
                                  error=error)) from error
        self.shapes = shapes
        self.network.told = {name: theirs for theirs, name in self.theirs.items()}
        own = {what: {name: np.asarray(arrays[theirs], np.float32).reshape(self.network.shapes[name])
                      for theirs, name in self.theirs.items()}
               for what, arrays in (("params", state.params), ("exp_avg", state.exp_avg),
                                    ("exp_avg_sq", state.exp_avg_sq), ("ema", state.ema or state.params))}
        self.network.load(own.pop("params"))
        self.optimizer.load_arrays(own, state.step)
        self.steps_done = state.step
        self.seed_generator(state.step)

    def gradients(self) -> tuple[float, dict[str, Floats]]:
        """Loss and every unclipped gradient for the batch that the next `step()` would use; changes nothing.

        Raises:
            UsageError: the loss is not finite.
        """
        loss, grads = self.differentiate(self.batches.batch(self.steps_done), 1.0)
        self._check_first(loss)
        return loss, self._told(grads)

    def losses(self) -> list[float]:
        """Losses of the steps since the last call, oldest first; waits for the device.

        Raises:
            UsageError: the very first one is not finite; later ones may diverge, as in any training.
        """
        found: list[float] = super().losses()  # type: ignore[misc]
        if found and not self.told_losses:
            self._check_first(found[0])
            self.told_losses = True
        return found

    def _check_first(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise UsageError(tell("{name} gave {loss} for the first batch: nothing can be compared with it",
                                  name=self.pair.loss_name, loss=loss))

    # What a trace needs, by the exchanged names: see `impls.recipe.trace.Training`.

    def trace(self, twin: Twin, sink: Sink, feed: Feed | None, steps: int) -> list[Call]:
        """Every module looked into; see `impls.backend.Tracing`."""
        self.twin = twin
        try:
            return super().trace(twin, sink, feed, steps)  # type: ignore[misc]
        finally:
            self.twin = "plain"

    def loss_of_step(self) -> Tensor:
        """The loss on this step's batch, with its graph; changes no weight."""
        batches = self.batches
        return self.loss((batches.double if self.twin == "double" else batches.batch)(self.steps_done))

    def weights(self) -> Arrays:
        """A copy of every weight and of every buffer of fractions."""
        return self._told(self.network.arrays())

    def trained(self) -> list[str]:
        """The names of those that an update moves."""
        return [theirs for theirs, name in self.theirs.items() if name in self.network.params]

    def begin(self, weights: Arrays) -> None:
        """Go back to step 0 with these weights and a new optimiser."""
        zeros = {name: np.zeros_like(value) for name, value in weights.items()}
        self.load_state(TrainerState(0, weights, weights if self.pair.rule.ema_decay else None, zeros, dict(zeros)))

    def update(self, gradients: Arrays) -> None:
        """What a step does with these gradients."""
        shapes = self.network.shapes
        super().update({name: np.asarray(gradients[theirs]).reshape(shapes[name])  # type: ignore[misc]
                        for theirs, name in self.theirs.items() if name in self.network.params})

    def moments(self) -> dict[str, Arrays]:
        """What the optimiser keeps."""
        return {what: self._told(arrays) for what, arrays in super().moments().items()}

    @abstractmethod
    def probe(self) -> dict[str, Floats]:
        """What the model puts out for the first batch, by number: evaluation mode, no gradient; changes nothing."""

    def predict(self, x: Floats, t: NDArray[np.int64]) -> Floats:
        """Not what a pair's model does.

        Raises:
            UsageError: always.
        """
        raise UsageError(tell("{name}: a model of your own predicts no noise of a diffusion", name=self.pair.path.name))

    def finish(self, tensors: Sequence[Tensor]) -> None:
        """Return only when these, and those in a batch among them, are computed."""
        flat: list[Any] = []
        for one in tensors:
            flat += one.values() if isinstance(one, dict) else [one]
        super().finish(flat)  # type: ignore[safe-super]

    def _told(self, own: Mapping[str, Floats]) -> dict[str, Floats]:
        """Arrays by the exchanged names, in their order and shape."""
        return {theirs: own[name].reshape(self.shapes[theirs]) for theirs, name in self.theirs.items() if name in own}
