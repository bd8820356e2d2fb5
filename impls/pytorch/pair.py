"""The user's own model in PyTorch: trained and run forward instead of the U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from impls.backend import Arrays, BackendInfo
from impls.errors import UsageError
from impls.pair.loaded import Pair
from impls.pair.rule import Rule
from impls.pair.trainer import PairTraining
from impls.pair.weights import told
from impls.pytorch.backend import Backend
from impls.pytorch.data import start_generator, to_device, to_numpy
from impls.pytorch.network import OnDevice
from impls.pytorch.optimizer import Adam
from impls.pytorch.trace import Traced
from impls.pytorch.trainer import Trainer
from impls.recipe.config import ExperimentConfig
from impls.recipe.trace import Twin
from messages import tell


class PairModel:
    """The user's model with its weights and buffers by name.

    Args:
        pair: the user's functions.
        device: where it computes.
        options: of the arm.
        training: with gradients, in training mode; or neither.
        dropout: whether its dropout layers drop.

    Attributes:
        module: what `torch_model()` gave.
        run: what the user's functions are called with: the module, compiled where that is asked for.
        params: those that are trained.
        told: name in this model -> name in a trace, of every weight; empty where they are the same.

    Raises:
        UsageError: it is no module, or has nothing to train.
    """

    def __init__(self, pair: Pair, device: torch.device, options: frozenset[str], training: bool = True,
                 dropout: bool = True) -> None:
        self.pair, self.module, self.told = pair, pair.model(), dict[str, str]()
        if not isinstance(self.module, nn.Module):
            raise UsageError(tell("{name}: torch_model() gave {kind}, not a torch.nn.Module", name=pair.path.name,
                                  kind=type(self.module).__name__))
        self.module.to(device).train(training)
        if "channels_last" in options:
            self.module.to(memory_format=torch.channels_last)
        if not dropout:
            for layer in self.module.modules():
                if isinstance(layer, nn.modules.dropout._DropoutNd):
                    layer.p = 0.0
                elif isinstance(layer, (nn.RNNBase, nn.MultiheadAttention)):
                    layer.dropout = 0.0
        self.run = torch.compile(self.module) if "compile" in options else self.module
        found: dict[str, Tensor] = {}
        for name, value in self.module.state_dict(keep_vars=True).items():
            # Shared weights have several names here.
            if value.is_floating_point() and not any(value is other for other in found.values()):
                found[name] = value
        self.names = list(found)
        self.params = {name: value for name, value in found.items() if value.requires_grad}
        if not self.params:
            raise UsageError(tell("{name}: torch_model() has no parameters to train", name=pair.path.name))

    @property
    def values(self) -> dict[str, Tensor]:
        """Parameters and buffers of floating numbers, each once."""
        # Looked up anew: a module that was cast has other buffers.
        held = self.module.state_dict(keep_vars=True)
        return {name: held[name] for name in self.names}

    @property
    def parameter_count(self) -> int:
        """Trainable scalars."""
        return sum(p.numel() for p in self.params.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of parameters and buffers by name."""
        return {name: tuple(value.shape) for name, value in self.values.items()}

    @torch.no_grad()
    def load(self, arrays: Arrays) -> None:
        """Take over values that fit, by name."""
        for name, value in self.values.items():
            value.copy_(torch.tensor(arrays[name]))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the values by name."""
        return to_numpy(self.values)

    def traced(self, twin: Twin) -> Traced:
        """The model as it is looked into."""
        # Compiled code is seen from outside; its twins, by which its rounding is known, are not compiled.
        outside = {"": (self.run, "forward")} if self.run is not self.module and twin == "plain" else {}
        modules = [name for name, _ in self.module.named_modules()]
        return Traced(self.module, outside, told=told(self.told, modules))

    def outputs(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """What the model puts out for a batch, without gradients."""
        with torch.no_grad():
            return self.pair.outputs(self.run, batch, Tensor)

    def evaluated(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The same in evaluation mode, whatever the mode is."""
        modes = [(layer, layer.training) for layer in self.module.modules()]
        self.module.eval()
        try:
            return self.outputs(batch)
        finally:
            for layer, training in modes:
                layer.training = training


class PairOptimizer(Adam):
    """The file's `optimizer` by PyTorch's own.

    Args:
        params: parameters by name; updated in place.
        rule: what the file says.
    """

    def __init__(self, params: Mapping[str, Tensor], rule: Rule) -> None:
        super().__init__(params, rule.grad_clip, rule.ema_decay)
        self.rule, self.name = rule, f"torch.optim.{rule.name}"
        weights = list(self.params.values())
        if rule.name == "SGD":
            self.optimizer: Any = torch.optim.SGD(weights, rule.lr, rule.momentum, weight_decay=rule.weight_decay,
                                                  nesterov=rule.nesterov, fused=True)
        else:
            made = torch.optim.AdamW if rule.name == "AdamW" else torch.optim.Adam
            self.optimizer = made(weights, rule.lr, rule.betas, rule.eps, rule.weight_decay, fused=True)

    def arrays(self, what: str) -> dict[str, NDArray[np.float32]]:
        """A copy of "exp_avg", "exp_avg_sq" or "ema" by parameter name; SGD's momentum is its first moment."""
        if self.rule.name != "SGD" or what == "ema":
            return super().arrays(what)
        state = self.optimizer.state if what == "exp_avg" else {}
        return to_numpy({name: state[p]["momentum_buffer"] if state.get(p, {}).get("momentum_buffer") is not None
                         else torch.zeros_like(p) for name, p in self.params.items()})

    @torch.no_grad()
    def load_arrays(self, arrays: Mapping[str, Mapping[str, NDArray[np.float32]]], steps: int) -> None:
        """Go on from `arrays`["exp_avg" | "exp_avg_sq" | "ema"][name] after `steps` updates."""
        super().load_arrays(arrays, steps)
        if self.rule.name == "SGD":
            for p in self.params.values():
                moments = self.optimizer.state.pop(p)
                if self.rule.momentum:
                    self.optimizer.state[p] = {"momentum_buffer": moments["exp_avg"]}


class PairBatches:
    """A pair's batches on the device, taken in turn."""

    def __init__(self, pair: Pair, seed: int, device: torch.device, options: frozenset[str]) -> None:
        made = pair.batches(seed)
        self.images = pair.images(made[0])
        self.resident = [{name: to_device(value, device) for name, value in batch.items()} for batch in made]
        if "channels_last" in options:
            self.resident = [{name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
                              for name, value in batch.items()} for batch in self.resident]

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, by name."""
        return self.resident[step % len(self.resident)]

    def double(self, step: int) -> dict[str, Tensor]:
        """The same in float64."""
        return {name: value.double() if value.is_floating_point() else value
                for name, value in self.batch(step).items()}

    def close(self) -> None:
        """Nothing to stop; the mirror of other sources of batches."""


class PairTrainer(PairTraining, Trainer):
    """See `impls.pair.trainer.PairTraining`; here is what PyTorch's tensors do."""

    network: PairModel  # type: ignore[assignment]

    def __init__(self, pair: Pair, config: ExperimentConfig, device: torch.device, info: BackendInfo,
                 options: frozenset[str]) -> None:
        PairTraining.__init__(self, pair, config, info)
        self.device, self.options = device, options
        self.network = PairModel(pair, device, options, dropout=config.train.randomness != "matched")
        self.optimizer = PairOptimizer(self.network.params, pair.rule)
        self.info = replace(info, operators={"optimizer": self.optimizer.name})
        self.batches = PairBatches(pair, config.seed, device, options)
        self.images_per_step = self.batches.images
        self.named()

    def loss(self, x0: Any) -> Tensor:
        """The user's loss of a batch.

        Raises:
            UsageError: it is no scalar.
        """
        loss = self.pair.loss(self.network.run if self.twin == "plain" else self.network.module, x0)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UsageError(tell("{name} gave {found}, not one number: reduce it, e.g. by .mean()",
                                  name=self.pair.loss_name, found=_said(loss)))
        return loss.reshape(()) if loss.ndim else loss

    def differentiate(self, x0: Any, scale: float) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Loss and every unclipped gradient for the batch x0; changes nothing, also not the buffers."""
        params, kept = self.network.params, [buffer.clone() for buffer in self.network.module.buffers()]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            loss = self.loss(x0)
            grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        with torch.no_grad():
            for buffer, before in zip(self.network.module.buffers(), kept, strict=True):
                buffer.copy_(before)
        return loss.item(), to_numpy({name: torch.zeros_like(p) if grad is None else grad
                                      for (name, p), grad in zip(params.items(), grads, strict=True)})

    def probe(self) -> dict[str, NDArray[np.float32]]:
        """What the model puts out for the first batch, by number: evaluation mode, no gradient; changes nothing."""
        return to_numpy({str(number): one for number, one in enumerate(self.network.evaluated(self.batches.batch(0)))})


class Forwards(OnDevice):
    """Forward passes of the user's model without gradients; see `impls.backend.Stepper`."""

    def __init__(self, pair: Pair, config: ExperimentConfig, device: torch.device, info: BackendInfo,
                 options: frozenset[str]) -> None:
        start_generator(config.seed)
        self.device, self.info = device, replace(info, operators={})
        self.network = PairModel(pair, device, options, training=False)
        self.batches = PairBatches(pair, config.seed, device, options)
        self.images_per_step, self.steps_done = self.batches.images, 0
        self.latest: list[Tensor] = []

    @property
    def parameter_count(self) -> int:
        """Trainable scalars of the model."""
        return self.network.parameter_count

    def step(self) -> None:
        """Enqueue one forward pass on the next batch."""
        self.latest = self.network.outputs(self.batches.batch(self.steps_done))
        self.steps_done += 1

    def close(self) -> None:
        """Release device memory."""
        del self.latest, self.batches, self.network
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class PairBackend:
    """See `impls.backend.Backend`: PyTorch with the user's model in place of the U-Net.

    Args:
        plain: PyTorch on its device with the arm's options.
        file: the pair's file, which is executed here.
    """

    def __init__(self, plain: Backend, file: str) -> None:
        self.plain, self.pair = plain, Pair(Path(file), "torch")
        self.info = replace(plain.info, operators={}, flags={**plain.info.flags, **self.pair.proof})

    def trainer(self, config: ExperimentConfig, images: NDArray[np.uint8]) -> PairTrainer:
        """A training of the user's model over its own batches; `images` are not used."""
        return PairTrainer(self.pair, config, self.plain.device, self.info, self.plain.options)

    def forwards(self, config: ExperimentConfig) -> Forwards:
        """Forward passes of the user's model."""
        return Forwards(self.pair, config, self.plain.device, self.info, self.plain.options)

    def matmul_flops(self, n: int, repeats: int) -> float:
        """See `impls.backend.Backend`."""
        return self.plain.matmul_flops(n, repeats)


def _said(value: Any) -> str:
    return (tell("a tensor of shape {shape}", shape=tuple(value.shape)) if isinstance(value, Tensor)
            else type(value).__name__)
