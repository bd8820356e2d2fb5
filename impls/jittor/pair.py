"""The user's own model in Jittor: trained and run forward instead of the U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var, nn
from numpy.typing import NDArray

from impls.backend import Arrays, BackendInfo
from impls.errors import UsageError
from impls.jittor.backend import Backend
from impls.jittor.data import start_generator, to_device, to_numpy
from impls.jittor.network import OnDevice
from impls.jittor.optimizer import Adam
from impls.jittor.trace import Traced
from impls.jittor.trainer import Trainer
from impls.pair.loaded import Pair
from impls.pair.rule import Rule
from impls.pair.trainer import PairTraining
from impls.pair.weights import told
from impls.recipe.config import ExperimentConfig
from impls.recipe.trace import Twin
from messages import recorded, tell


class PairModel:
    """The user's model with its weights and buffers by name.

    Args:
        pair: the user's functions.
        training: with gradients, in training mode; or neither.
        dropout: whether its dropout layers drop.

    Attributes:
        module: what `jittor_model()` gave.
        values: parameters and buffers of floating numbers, each once.
        params: those that are trained.
        told: name in this model -> name in a trace, of every weight; empty where they are the same.

    Raises:
        UsageError: it is no module, or has nothing to train.
    """

    def __init__(self, pair: Pair, training: bool = True, dropout: bool = True) -> None:
        self.pair, self.module, self.told = pair, pair.model(), dict[str, str]()
        if not isinstance(self.module, nn.Module):
            raise UsageError(tell("{name}: jittor_model() gave {kind}, not a jittor.nn.Module", name=pair.path.name,
                                  kind=type(self.module).__name__))
        # A buffer is a parameter whose gradient was stopped; names with an underscore are neither.
        self.values = {name: value for name, value in self.module.named_parameters() if "float" in str(value.dtype)}
        self.params = {name: value for name, value in self.values.items() if not value.is_stop_grad()}
        if not self.params:
            raise UsageError(tell("{name}: jittor_model() has no parameters to train", name=pair.path.name))
        if training:
            # Without this, dropout in a new module is off.
            self.module.train()
        else:
            # Also stops every parameter's gradient for good.
            self.module.eval()
        if not dropout:
            for layer in self.module.modules():
                if isinstance(layer, (nn.Dropout, nn.Dropout2d, nn.DropPath)):
                    layer.p = 0.0
                elif isinstance(layer, (nn.RNNBase, jt.attention.MultiheadAttention)):
                    layer.dropout = 0.0
        # Else the first weights would be drawn at their first use, after whatever else is drawn until then.
        jt.sync(list(self.values.values()))

    @property
    def parameter_count(self) -> int:
        """Trainable scalars."""
        return sum(p.numel() for p in self.params.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of parameters and buffers by name."""
        return {name: tuple(value.shape) for name, value in self.values.items()}

    def load(self, arrays: Arrays) -> None:
        """Take over values that fit, by name."""
        for name, value in arrays.items():
            self.values[name].update(jt.array(value).cast(self.values[name].dtype))
        # A lazy array of one element would be written into the kernel that uses it, which then does not compile.
        jt.sync(list(self.values.values()))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the values by name."""
        return to_numpy(self.values)

    def traced(self, _twin: Twin) -> Traced:
        """The model as it is looked into."""
        modules = [name for name, _ in self.module.named_modules()]
        return Traced(self.module, told=told(self.told, modules))

    def outputs(self, batch: Mapping[str, Var]) -> list[Var]:
        """What the model puts out for a batch, without gradients."""
        with jt.no_grad():
            return self.pair.outputs(self.module, batch, Var)

    def evaluated(self, batch: Mapping[str, Var]) -> list[Var]:
        """The same in evaluation mode, whatever the mode is."""
        # Not Module.eval(): it would also stop every parameter's gradient.
        modes = [(layer, layer.is_training()) for layer in self.module.modules()]
        for layer, _ in modes:
            layer.is_train = False
        try:
            return self.outputs(batch)
        finally:
            for layer, training in modes:
                layer.is_train = training


class PairOptimizer(Adam):
    """The file's `optimizer` by PyTorch's formulas in Jittor's operators, over one flat array.

    Args:
        params: parameters by name; updated in place.
        rule: what the file says.
    """

    def __init__(self, params: Mapping[str, Var], rule: Rule) -> None:
        super().__init__(params, rule.grad_clip, rule.ema_decay)
        self.rule, self.betas, self.eps = rule, rule.betas, rule.eps
        self.name = recorded("torch.optim.{name}'s formula in Jittor's operators, over one flat array", name=rule.name)
        if rule.name == "SGD":
            # It would lie in memory beside what PyTorch does without.
            del self.flat["exp_avg_sq"]
            if not rule.momentum:
                del self.flat["exp_avg"]

    def arrays(self, what: str) -> dict[str, NDArray[np.float32]]:
        """A copy of "exp_avg", "exp_avg_sq" or "ema" by parameter name; SGD's momentum is its first moment."""
        if what in self.flat:
            return super().arrays(what)
        return {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}

    def moved(self, grad: Var, lr: float, correction1: Var | float, correction2: Var | float) -> list[tuple[Var, Var]]:
        """What a step changes, each as it is and as it will be: the moments and the weights."""
        rule, decay = self.rule, self.rule.weight_decay
        if rule.name == "AdamW":
            *moments, (weights, new) = super().moved(grad, lr, correction1, correction2)
            return [*moments, (weights, new - lr * decay * weights if decay else new)]
        if decay:
            grad = grad + decay * self.weights
        if rule.name == "Adam":
            return super().moved(grad, lr, correction1, correction2)
        if not rule.momentum:
            return [(self.weights, self.weights - lr * grad)]
        first = rule.momentum * self.flat["exp_avg"] + grad
        direction = grad + rule.momentum * first if rule.nesterov else first
        return [(self.flat["exp_avg"], first), (self.weights, self.weights - lr * direction)]


class PairBatches:
    """A pair's batches on the device, taken in turn."""

    def __init__(self, pair: Pair, seed: int) -> None:
        made = pair.batches(seed)
        self.images = pair.images(made[0])
        # Jittor has no integers of 64 bits unless it is told to, and its operators expect those of 32.
        self.resident = [{name: to_device(value) for name, value in batch.items()} for batch in made]
        jt.sync([value for batch in self.resident for value in batch.values()])

    def batch(self, step: int) -> dict[str, Var]:
        """The batch of a step, by name."""
        return self.resident[step % len(self.resident)]

    def double(self, step: int) -> dict[str, Var]:
        """The same in float64."""
        return {name: value.float64() if "float" in str(value.dtype) else value
                for name, value in self.batch(step).items()}

    def close(self) -> None:
        """Nothing to stop; the mirror of other sources of batches."""


class PairTrainer(PairTraining, Trainer):
    """See `impls.pair.trainer.PairTraining`; here is what Jittor's variables do."""

    network: PairModel  # type: ignore[assignment]

    def __init__(self, pair: Pair, config: ExperimentConfig, info: BackendInfo) -> None:
        PairTraining.__init__(self, pair, config, info)
        self.network = PairModel(pair, dropout=config.train.randomness != "matched")
        self.optimizer = PairOptimizer(self.network.params, pair.rule)
        self.info = replace(info, operators={"optimizer": self.optimizer.name})
        self.batches = PairBatches(pair, config.seed)
        self.images_per_step = self.batches.images
        self.named()

    def loss(self, x0: Any) -> Var:
        """The user's loss of a batch.

        Raises:
            UsageError: it is no scalar.
        """
        loss = self.pair.loss(self.network.module, x0)
        if not isinstance(loss, Var) or loss.numel() != 1:
            raise UsageError(tell("{name} gave {found}, not one number: reduce it, e.g. by .mean()",
                                  name=self.pair.loss_name, found=_said(loss)))
        return loss

    def outputs(self) -> list[Var]:
        """Everything that a step computes, the user's buffers among it."""
        return [*super().outputs(), *self.network.values.values()]

    def differentiate(self, x0: Any, scale: float) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch x0; changes nothing, also not the buffers."""
        params = self.network.params
        kept = to_numpy({name: value for name, value in self.network.values.items() if name not in params})
        loss = self.loss(x0)
        grads = jt.grad(loss, list(params.values()), retain_graph=False)
        arrays, number = to_numpy(dict(zip(params, grads, strict=True))), float(loss.item())
        self.network.load(kept)
        return number, arrays

    def probe(self) -> dict[str, NDArray[np.float32]]:
        """What the model puts out for the first batch, by number: evaluation mode, no gradient; changes nothing."""
        return to_numpy({str(number): one for number, one in enumerate(self.network.evaluated(self.batches.batch(0)))})


class Forwards(OnDevice):
    """Forward passes of the user's model without gradients; see `impls.backend.Stepper`."""

    def __init__(self, pair: Pair, config: ExperimentConfig, info: BackendInfo) -> None:
        start_generator(config.seed)
        self.info = replace(info, operators={})
        self.network = PairModel(pair, training=False)
        self.batches = PairBatches(pair, config.seed)
        self.images_per_step, self.steps_done = self.batches.images, 0
        self.latest: list[Var] = []

    @property
    def parameter_count(self) -> int:
        """Trainable scalars of the model."""
        return self.network.parameter_count

    def step(self) -> None:
        """Enqueue one forward pass on the next batch."""
        self.latest = self.network.outputs(self.batches.batch(self.steps_done))
        self.steps_done += 1
        # Launches the work: left to itself, the lazy graph would grow over all steps.
        jt.sync(self.latest)

    def outputs(self) -> list[Var]:
        """What the newest pass puts out."""
        return self.latest

    def close(self) -> None:
        """Release device memory."""
        del self.latest, self.batches, self.network
        jt.gc()


class PairBackend:
    """See `impls.backend.Backend`: Jittor with the user's model in place of the U-Net.

    Args:
        plain: Jittor on its device with the arm's options.
        file: the pair's file, which is executed here.
    """

    def __init__(self, plain: Backend, file: str) -> None:
        self.plain, self.pair = plain, Pair(Path(file), "jittor")
        self.info = replace(plain.info, operators={}, flags={**plain.info.flags, **self.pair.proof})

    def trainer(self, config: ExperimentConfig, images: NDArray[np.uint8]) -> PairTrainer:
        """A training of the user's model over its own batches; `images` are not used."""
        return PairTrainer(self.pair, config, self.info)

    def forwards(self, config: ExperimentConfig) -> Forwards:
        """Forward passes of the user's model."""
        return Forwards(self.pair, config, self.info)

    def matmul_flops(self, n: int, repeats: int) -> float:
        """See `impls.backend.Backend`."""
        return self.plain.matmul_flops(n, repeats)


def _said(value: Any) -> str:
    return (tell("a variable of shape {shape}", shape=tuple(value.shape)) if isinstance(value, Var)
            else type(value).__name__)
