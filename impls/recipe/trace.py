"""What a trace of a network says, in the same words in every framework: each call of a module, and arrays by name.

A trace has two halves. *As it runs*: one forward and backward pass, with every module's inputs, outputs and gradients
of outputs. *Fed*: each call once more, alone, with the inputs and the gradients of outputs of a trace that was recorded
before, then the optimiser with that trace's gradients; so one fault does not hide the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
# The network as it is; in float64; or with weights, inputs and fed gradients off by `PERTURBATION` of themselves.
Twin = Literal["plain", "double", "perturbed"]
PERTURBATION = 1e-7
# Of each weight, as many changes by a step are kept: those with the smallest gradients, and as many spread evenly.
KEPT = 1024
# The optimiser is fed the gradients as they are, and so much smaller that no clip takes hold.
SCALES = (1.0, 1e-3)
# Of what a module keeps, so many numbers at most go into a trace.
SMALL = 4096
# Names the largest number of a weight before an update, among its changes.
SIZE = "size of"  # English


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        number: among all calls, in the order in which they begin.
        name: where the module stands in the network, as in its state dict; "" for the whole network.
        kind: its class.
        nth: which call of this module, from 0.
        within: the number of the call that it is a part of; None for the whole network.
    """

    number: int
    name: str
    kind: str
    nth: int
    within: int | None


class Sink(Protocol):
    """Takes what is traced: `run N`, `back N`, `fed N` of call number N, and what is no call's."""

    def __call__(self, group: str, arrays: Arrays) -> None:
        """Arrays by name of one group."""
        ...


class Feed(Protocol):
    """A trace that was recorded before."""

    def of(self, name: str, nth: int) -> Arrays | None:
        """What went into that call, and the gradients of what came out; None where there was no such call."""
        ...

    def gradients(self) -> Arrays:
        """The gradient of every weight, as it ran, by name."""
        ...


class Training(Protocol):
    """What a trace needs of a training beside its network."""

    def loss_of_step(self) -> Any:
        """The loss on this step's batch, with its graph; changes no weight."""
        ...

    def weights(self) -> Arrays:
        """A copy of every weight by name, and of what else the network keeps as fractions."""
        ...

    def trained(self) -> Collection[str]:
        """The names of those that an update moves."""
        ...

    def begin(self, weights: Arrays) -> None:
        """Go back to step 0 with these weights and a new optimiser."""
        ...

    def update(self, gradients: Arrays) -> None:
        """What a step does with these gradients, by name: clip, optimiser."""
        ...

    def moments(self) -> Mapping[str, Arrays]:
        """What the optimiser keeps, by its word for it and the weight's name."""
        ...

    def one_step(self) -> float:
        """One whole training step; its loss."""
        ...


def leaves(value: Any, kind: type) -> Iterator[Any]:
    """Every tensor of this class in nested tuples, lists and dicts, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from leaves(one, kind)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from leaves(one, kind)


def exchanged(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same nested tuples, lists and dicts with every tensor of this class changed, in order."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {name: exchanged(one, kind, change) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(exchanged(one, kind, change) for one in value) if type(value) in (tuple, list) else value
    return value


def kept(gradient: NDArray[Any]) -> NDArray[np.int64]:
    """Which elements of a weight are kept, as positions in its flat array: a function of its gradient alone."""
    flat = np.abs(gradient.reshape(-1))
    if flat.size <= 2 * KEPT:
        return np.arange(flat.size)
    spread = np.linspace(0, flat.size - 1, KEPT).astype(np.int64)
    # An exact zero says nothing of how small gradients are handled.
    smallest = np.argpartition(np.where(flat > 0, flat, np.inf), KEPT)[:KEPT]
    chosen: NDArray[np.int64] = np.unique(np.concatenate([spread, smallest]))
    return chosen


def perturbed(array: NDArray[Any], seed: int) -> NDArray[Any]:
    """An array of floats with every number off by `PERTURBATION` of itself; any other as it is."""
    if array.dtype.kind != "f":
        return array
    off: NDArray[Any] = np.random.default_rng(seed).standard_normal(array.shape, np.float32).astype(np.float64)
    # In place: of a network's weights each copy counts.
    off *= PERTURBATION
    off += 1
    off *= array
    return off.astype(array.dtype)


def train(training: Training, weights: Arrays, begun: Arrays, twin: Twin, sink: Sink, feed: Feed, steps: int) -> None:
    """End a fed trace: the optimiser with the fed gradients (`update N`), then whole steps (`step`, `losses`).

    Args:
        training: what is trained.
        weights: those that it has without a twin.
        begun: those of its twin.
        twin: which.
        sink: takes the arrays.
        feed: whose gradients.
        steps: how many whole steps.
    """
    gradients = feed.gradients()
    # Each is read once: together they are as large as the network.
    read = {name: np.asarray(gradients[name]) for name in weights if name in gradients}
    fed = {name: value.reshape(weights[name].shape) for name, value in read.items() if value.size == weights[name].size}
    chosen = {name: kept(value) for name, value in fed.items()}
    given = {name: perturbed(value, 2) for name, value in fed.items()} if twin == "perturbed" else fed
    # Only where every weight has a gradient can the optimiser be fed.
    for number, scale in enumerate(SCALES if fed.keys() >= set(training.trained()) else ()):
        training.begin(weights)
        training.update({name: value * np.float32(scale) for name, value in given.items()})
        sink(f"update {number}", _changes(training, weights, chosen))  # English
    training.begin(begun)
    losses = []
    for number in range(steps):
        losses.append(training.one_step())
        if number == 0:
            sink("step", _changes(training, begun, chosen))
    sink("losses", {"losses": np.array(losses)})


def _changes(training: Training, before: Arrays, chosen: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    """How an update has moved the weights, and what the optimiser keeps, at the chosen elements."""
    after = training.weights()
    found = {f"weight {name}":  # English
             after[name].reshape(-1)[places].astype(np.float64) - before[name].reshape(-1)[places]
             for name, places in chosen.items()}
    for what, arrays in training.moments().items():
        found |= {f"{what} {name}": arrays[name].reshape(-1)[places] for name, places in chosen.items()
                  if name in arrays}
    # What the weights are rounded to depends on their size.
    return found | {f"{SIZE} {name}": np.array(np.abs(before[name]).max(initial=0)) for name in chosen}
