"""Every module of any network looked into, as it runs and fed with what another network's modules were given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from impls.recipe.trace import SMALL, Arrays, Call, Feed, Sink, Training, Twin, exchanged, leaves, perturbed, train

DROPOUTS = (_DropoutNd,)


@dataclass(frozen=True)
class Traced:
    """A network as it is traced.

    Attributes:
        network: its modules.
        places: by a module's name, the object and the attribute that are called for it; all modules, where empty.
        around: entered around each call that is made here.
        told: by a module's or a weight's name, the one that it has in the trace, where that is another.
    """

    network: nn.Module
    places: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    told: Mapping[str, str] = field(default_factory=dict)

    def modules(self) -> dict[str, nn.Module]:
        """Each module by its first name."""
        return dict(self.network.named_modules())

    def called(self) -> dict[str, tuple[Any, str]]:
        """The object and the attribute that are called for each module."""
        return dict(self.places) or {name: (module, "forward") for name, module in self.modules().items()}

    def word(self, name: str) -> str:
        """What a module or a weight is called in the trace."""
        return self.told.get(name, name)

    def part(self, module: str, name: str) -> str:
        """What a weight of a module is called in the trace, as seen from the module."""
        whole, around = self.word(f"{module}.{name}".lstrip(".")), self.word(module)
        if not around:
            return whole
        return whole.removeprefix(f"{around}.") if whole.startswith(f"{around}.") else name


def trace(of: Traced, training: Training, twin: Twin, sink: Sink, feed: Feed | None, steps: int) -> list[Call]:
    """Trace a network, as it runs or fed; see `impls.recipe.trace`. The training is at step 0 afterwards.

    Args:
        of: the network.
        training: around it.
        twin: which of its twins.
        sink: takes the arrays.
        feed: what the calls are fed with; None for the network as it runs.
        steps: fed only: whole training steps behind all else.

    Returns:
        Every call.
    """
    weights = begun = training.weights()
    if twin == "perturbed":
        begun = {name: perturbed(value, seed) for seed, (name, value) in enumerate(weights.items())}
        training.begin(begun)
    if twin == "double":
        of.network.double()
        # What code between modules makes of integers, such as the frequencies of a sinusoid, is float64 then, too.
        torch.set_default_dtype(torch.float64)
    try:
        recorder = _Recorder(of, twin, sink if feed is None else _nowhere)
        with recorder:
            loss = training.loss_of_step()
        if feed is None:
            recorder.differentiate(loss)
        del loss
        if feed is not None:
            recorder.replay(feed, sink)
    finally:
        if twin == "double":
            torch.set_default_dtype(torch.float32)
            of.network.float()
    if feed is not None and twin != "double":
        train(training, weights, begun, twin, sink, feed, steps)
    training.begin(weights)
    return recorder.calls


class _Recorder:
    """Stands in for every module's `forward` for as long as it is entered."""

    def __init__(self, of: Traced, twin: Twin, sink: Sink) -> None:
        self.of, self.twin, self.sink = of, twin, sink
        self.modules = of.modules()
        self.calls: list[Call] = []
        self.given: list[tuple[str, Any, Callable[..., Any]]] = []
        self.within: list[int] = []
        self.counts: dict[str, int] = {}
        self.gradients: dict[int, dict[str, NDArray[Any]]] = {}
        self.states: dict[str, Tensor] = {}
        self.replaced: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> _Recorder:
        self.states = {name: value.detach().clone() for name, value in self.of.network.named_buffers()}
        for name, (owner, attribute) in self.of.called().items():
            original = getattr(owner, attribute)
            self.replaced.append((owner, attribute, owner.__dict__.get(attribute)))
            owner.__dict__[attribute] = self.standing_in(name, type(self.modules[name]).__name__, original,
                                                         isinstance(owner, DROPOUTS))
        return self

    def __exit__(self, *error: object) -> None:
        for owner, attribute, own in self.replaced:
            _put_back(owner, attribute, own)
        self.restore()

    def standing_in(self, name: str, kind: str, original: Callable[..., Any], random: bool) -> Callable[..., Any]:
        """A function that calls `original` and tells of it; of a dropout, nothing is dropped."""

        def call(*args: Any, **options: Any) -> Any:
            number, nth = len(self.calls), self.counts.get(name, 0)
            self.counts[name] = nth + 1
            self.calls.append(Call(number, self.of.word(name), kind, nth, self.within[-1] if self.within else None))
            self.within.append(number)
            if self.twin == "perturbed" and number == 0:
                args, options = exchanged((args, options), Tensor, self.off)
            if self.twin == "double":
                args, options = exchanged((args, options), Tensor, _as_double)
            shapes = exchanged((args, options), Tensor, _Like)
            self.given.append((name, shapes, original))
            self.sink(f"run {number}", _named("input", leaves((args, options), Tensor)) | self.small(name))  # English
            made = args[0].clone() if random else original(*args, **options)
            given = [id(value) for value in leaves((args, options), Tensor)]
            # What a call only hands on gets a gradient of its own, whoever else uses it. A view loses the hook on its
            # gradient when somebody writes into it, as `y += x` behind a layer does.
            made = exchanged(made, Tensor, lambda value: value.view_as(value) if id(value) in given
                             else value.clone() if value._is_view() else value)
            self.within.pop()
            self.told(number, made)
            return made

        return call

    def small(self, name: str) -> dict[str, NDArray[Any]]:
        """What the module itself keeps, where it is small: a norm's scales, say, which explain its output."""
        module = self.modules[name]
        kept = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        return {f"own {self.of.part(name, key)}": _host(value)  # English
                for key, value in kept if value.numel() <= SMALL}

    def told(self, number: int, made: Any) -> None:
        """Keep what a call has given, and its gradient when there is one."""
        self.sink(f"out {number}", _named("output", leaves(made, Tensor)))  # English
        for place, one in enumerate(leaves(made, Tensor)):
            if one.requires_grad:
                # The gradient of the tensor as it is now, whatever is later written into it.
                one.register_hook(self.catching(number, f"gradient of output {place}"))  # English

    def catching(self, number: int, name: str) -> Callable[[Tensor], None]:
        """A hook that keeps a gradient."""

        def catch(gradient: Tensor) -> None:
            self.gradients.setdefault(number, {})[name] = _host(gradient)

        return catch

    def off(self, value: Tensor) -> Tensor:
        """A tensor off by a little."""
        return torch.from_numpy(perturbed(_host(value), 1)).to(value.device, value.dtype)

    def differentiate(self, loss: Tensor) -> None:
        """The backward pass: gradients of outputs, then of weights."""
        self.sink("loss", {"loss": _host(loss)})
        params = {name: p for name, p in self.of.network.named_parameters() if p.requires_grad}
        found: Sequence[Tensor | None] = []
        if loss.requires_grad and params:
            found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        for number, arrays in self.gradients.items():
            self.sink(f"back {number}", arrays)  # English
        self.sink("gradients", {self.of.word(name): _host(one) for name, one in zip(params, found, strict=False)
                                if one is not None})

    def replay(self, feed: Feed, sink: Sink) -> None:
        """Every call once more, alone, and what dropout drops."""
        for call, (name, shapes, original) in zip(self.calls, self.given, strict=True):
            fed = feed.of(call.name, call.nth)
            arrays = None if fed is None else self.alone(name, shapes, original, fed)
            if arrays is not None:
                sink(f"fed {call.number}", arrays)  # English
            self.restore()
        sink("dropped", {self.of.word(name): _dropped(module) for name, module in self.modules.items()
                         if isinstance(module, DROPOUTS)})

    def alone(self, name: str, shapes: Any, original: Callable[..., Any], fed: Arrays
              ) -> dict[str, NDArray[Any]] | None:
        """One call with what it is fed; None where that does not go into it."""
        places = iter(range(len(list(leaves(shapes, _Like)))))
        if any(not like.takes(fed.get(f"input {place}"))  # English
               for place, like in enumerate(leaves(shapes, _Like))):
            return None
        inputs: list[Tensor] = []

        def filled(like: _Like) -> Tensor:
            value = fed[f"input {next(places)}"]  # English
            inputs.append(like.filled(perturbed(value, 1) if self.twin == "perturbed" else value))
            # What is written in place must be no leaf of the graph.
            return inputs[-1].clone() if inputs[-1].requires_grad else inputs[-1]

        args, options = exchanged(shapes, _Like, filled)
        module = self.modules[name]
        own = self.own(name, module)
        random = isinstance(module, DROPOUTS)
        with torch.enable_grad(), self.of.around(), _Alone(self.modules.values(), self.twin == "double"):
            made = list(leaves(args[0] if random else original(*args, **options), Tensor))
        arrays = _named("output", made)
        above = {place: fed[f"gradient of output {place}"] for place, one in enumerate(made)  # English
                 if one.requires_grad and f"gradient of output {place}" in fed  # English
                 and fed[f"gradient of output {place}"].size == one.numel()}  # English
        wanted = {f"gradient of input {place}": one for place, one in enumerate(inputs) if one.requires_grad}  # English
        wanted |= {f"gradient of {self.of.part(name, key)}": p for key, p in own.items() if p.requires_grad}  # English
        if above and wanted:
            starts = [_Like(made[place]).filled(perturbed(value, 2) if self.twin == "perturbed" else value).detach()
                      for place, value in above.items()]
            found = torch.autograd.grad([made[place] for place in above], list(wanted.values()), starts,
                                        allow_unused=True)
            arrays |= {place: _host(one) for place, one in zip(wanted, found, strict=True) if one is not None}
        return arrays | {f"{self.of.part(name, key)} afterwards": _host(value)  # English
                         for key, value in module.named_buffers(recurse=False) if value.is_floating_point()}

    def own(self, name: str, module: nn.Module) -> dict[str, nn.Parameter]:
        """The weights of a call: the module's own, and those of modules in it that nobody calls."""
        found: dict[str, nn.Parameter] = {}
        for inner, one in module.named_modules():
            if not inner or f"{name}.{inner}".lstrip(".") not in self.counts:
                prefix = f"{inner}." if inner else ""
                found |= {prefix + key: p for key, p in one.named_parameters(recurse=False)}
        return found

    def restore(self) -> None:
        """What calls have changed in the network, back as it was."""
        for name, value in self.of.network.named_buffers():
            value.data.copy_(self.states[name])


class _Alone:
    """While a call is made alone: dropout drops nothing, since what is compared is no matter of chance.

    Of a twin in float64, each module also takes what code between modules makes in float32.
    """

    def __init__(self, modules: Iterable[nn.Module], double: bool) -> None:
        self.layers = [one for one in modules if double or isinstance(one, DROPOUTS)]
        self.double = double
        self.replaced: list[Any] = []

    def __enter__(self) -> None:
        for layer in self.layers:
            self.replaced.append(layer.__dict__.get("forward"))
            original = _unchanged if isinstance(layer, DROPOUTS) else layer.forward
            layer.__dict__["forward"] = partial(_in_double, original) if self.double else original

    def __exit__(self, *error: object) -> None:
        for layer, own in zip(self.layers, self.replaced, strict=True):
            _put_back(layer, "forward", own)


class _Like:
    """What a tensor was like: stands for it where a call is kept."""

    def __init__(self, value: Tensor) -> None:
        self.shape, self.dtype, self.device = tuple(value.shape), value.dtype, value.device
        channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
        self.last = channels_last and not value.is_contiguous()

    def takes(self, value: NDArray[Any] | None) -> bool:
        """Whether an array can stand in its place."""
        return value is not None and value.size == int(np.prod(self.shape))

    def filled(self, value: NDArray[Any]) -> Tensor:
        """A tensor like it with these numbers, of which gradients can be asked."""
        made = torch.from_numpy(np.array(value)).reshape(self.shape).to(self.device, self.dtype)
        made = made.contiguous(memory_format=torch.channels_last) if self.last else made
        return made.requires_grad_(made.is_floating_point())


def _dropped(layer: nn.Module) -> NDArray[Any]:
    """The share of ones that a dropout makes zeros, and what it makes of the others."""
    with torch.no_grad():
        made = _host(layer(torch.ones(64, 64, 4, 4)))
    return np.array([np.mean(made == 0), made.max(initial=0)])


def _named(what: str, values: Any) -> dict[str, NDArray[Any]]:
    return {f"{what} {place}": _host(value) for place, value in enumerate(values)}


def _host(value: Tensor) -> NDArray[Any]:
    """A copy; of half precision in float32, which numpy has."""
    value = value.detach()
    value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    return np.array(value.cpu().numpy())


def _as_double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _in_double(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
    args, options = exchanged((args, options), Tensor, _as_double)
    return original(*args, **options)


def _put_back(owner: Any, attribute: str, own: Any) -> None:
    """What stood in the object itself; most have it of their class."""
    if own is None:
        del owner.__dict__[attribute]
    else:
        owner.__dict__[attribute] = own


def _unchanged(x: Tensor) -> Tensor:
    return x


def _nowhere(group: str, arrays: Arrays) -> None:
    """A sink for what was recorded before."""
