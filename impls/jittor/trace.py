"""Every module of any network looked into, as it runs and fed with what another network's modules were given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var, nn
from numpy.typing import NDArray

from impls.recipe.trace import SMALL, Arrays, Call, Feed, Sink, Training, Twin, exchanged, leaves, perturbed, train

DROPOUTS = (nn.Dropout, nn.Dropout2d)


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
        """Each module by its first name: Jittor lists one that stands in two places twice."""
        found: dict[int, tuple[str, nn.Module]] = {}
        for name, module in self.network.named_modules():
            found.setdefault(id(module), (name, module))
        return dict(found.values())

    def called(self) -> dict[str, tuple[Any, str]]:
        """The object and the attribute that are called for each module."""
        return dict(self.places) or {name: (module, "execute") for name, module in self.modules().items()}

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
        of.network.float64()
    try:
        recorder = _Recorder(of, twin, sink if feed is None else _nowhere)
        with recorder:
            loss = training.loss_of_step()
        if feed is None:
            recorder.differentiate(loss)
        del loss
        recorder.made.clear()
        if feed is not None:
            recorder.replay(feed, sink)
    finally:
        if twin == "double":
            of.network.float32()
    if feed is not None and twin != "double":
        train(training, weights, begun, twin, sink, feed, steps)
    training.begin(weights)
    return recorder.calls


class _Recorder:
    """Stands in for every module's `execute` for as long as it is entered."""

    def __init__(self, of: Traced, twin: Twin, sink: Sink) -> None:
        self.of, self.twin, self.sink = of, twin, sink
        self.modules = of.modules()
        self.calls: list[Call] = []
        self.given: list[tuple[str, Any, Callable[..., Any]]] = []
        self.within: list[int] = []
        self.counts: dict[str, int] = {}
        self.made: dict[tuple[int, int], Var] = {}
        self.states: dict[str, NDArray[Any]] = {}
        self.replaced: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> _Recorder:
        self.states = {name: _host(value) for name, value in self.buffers().items()}
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
                args, options = exchanged((args, options), Var, self.off)
            if self.twin == "double":
                args, options = exchanged((args, options), Var, _as_double)
            shapes = exchanged((args, options), Var, _Like)
            self.given.append((name, shapes, original))
            self.sink(f"run {number}", _named("input", leaves((args, options), Var)) | self.small(name))  # English
            made = args[0] if random else original(*args, **options)
            given = [id(value) for value in leaves((args, options), Var)]
            # What a call only hands on gets a gradient of its own, whoever else uses it.
            made = exchanged(made, Var, lambda value: value.clone() if id(value) in given else value)
            self.within.pop()
            self.told(number, made)
            return made

        return call

    def small(self, name: str) -> dict[str, NDArray[Any]]:
        """What the module itself keeps, where it is small: a norm's scales, say, which explain its output."""
        module = self.modules[name]
        return {f"own {self.of.part(name, key)}": _host(value) for key, value in _own(module).items()  # English
                if value.numel() <= SMALL}

    def told(self, number: int, made: Any) -> None:
        """Keep what a call has given, of which the gradient is asked for later."""
        self.sink(f"out {number}", _named("output", leaves(made, Var)))  # English
        for place, one in enumerate(leaves(made, Var)):
            if _has_gradient(one):
                self.made[number, place] = one

    def off(self, value: Var) -> Var:
        """A variable off by a little."""
        return jt.array(perturbed(_host(value), 1)).cast(value.dtype)

    def differentiate(self, loss: Var) -> None:
        """The backward pass: gradients of outputs, then of weights."""
        self.sink("loss", {"loss": _host(loss)})
        params = {name: p for name, p in self.of.network.named_parameters() if _has_gradient(p)}
        # One variable may be the output of several calls, one within the other; asked for twice it has no gradient.
        wanted = {id(one): one for one in (*self.made.values(), *params.values())}
        grads: Sequence[Var] = jt.grad(loss, list(wanted.values()), retain_graph=False) if wanted else []
        found = {key: _host(one) for key, one in zip(wanted, grads, strict=True)}
        gradients: dict[int, dict[str, NDArray[Any]]] = {}
        for (number, place), made in self.made.items():
            gradients.setdefault(number, {})[f"gradient of output {place}"] = found[id(made)]  # English
        for number, arrays in gradients.items():
            self.sink(f"back {number}", arrays)  # English
        self.sink("gradients", {self.of.word(name): found[id(one)] for name, one in params.items()})

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
        inputs: list[Var] = []

        def filled(like: _Like) -> Var:
            value = fed[f"input {next(places)}"]  # English
            inputs.append(like.filled(perturbed(value, 1) if self.twin == "perturbed" else value))
            return inputs[-1]

        args, options = exchanged(shapes, _Like, filled)
        module = self.modules[name]
        own = self.own(name, module)
        random = isinstance(module, DROPOUTS)
        with self.of.around(), _Alone(self.modules.values(), self.twin == "double"):
            made = list(leaves(args[0] if random else original(*args, **options), Var))
        arrays = _named("output", made)
        above = {place: fed[f"gradient of output {place}"] for place, one in enumerate(made)  # English
                 if _has_gradient(one) and f"gradient of output {place}" in fed  # English
                 and fed[f"gradient of output {place}"].size == one.numel()}  # English
        wanted = {f"gradient of input {place}": one  # English
                  for place, one in enumerate(inputs) if _has_gradient(one)}
        wanted |= {f"gradient of {self.of.part(name, key)}": p for key, p in own.items() if _has_gradient(p)}  # English
        if above and wanted:
            # The gradient of this sum is what is fed, exactly.
            start = sum((made[place] * _Like(made[place]).filled(
                perturbed(value, 2) if self.twin == "perturbed" else value)).sum() for place, value in above.items())
            found = jt.grad(start, list(wanted.values()), retain_graph=False)
            arrays |= {place: _host(one) for place, one in zip(wanted, found, strict=True)}
        return arrays | {f"{self.of.part(name, key)} afterwards": _host(value)  # English
                         for key, value in _own(module).items() if not _has_gradient(value)}

    def own(self, name: str, module: nn.Module) -> dict[str, Var]:
        """The weights of a call: the module's own, and those of modules in it that nobody calls."""
        found: dict[str, Var] = {}
        for inner, one in module.named_modules():
            if not inner or f"{name}.{inner}".lstrip(".") not in self.counts:
                prefix = f"{inner}." if inner else ""
                found |= {prefix + key: p for key, p in _own(one).items() if _has_gradient(p)}
        return found

    def buffers(self) -> dict[str, Var]:
        """What modules keep beside weights: variables whose gradient is stopped."""
        return {name: value for name, value in self.of.network.named_parameters() if not _has_gradient(value)}

    def restore(self) -> None:
        """What calls have changed in the network, back as it was."""
        for name, value in self.buffers().items():
            value.update(jt.array(self.states[name]).cast(value.dtype).stop_grad())
            value.sync()


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
            self.replaced.append(layer.__dict__.get("execute"))
            original = _unchanged if isinstance(layer, DROPOUTS) else layer.execute
            layer.__dict__["execute"] = partial(_in_double, original) if self.double else original

    def __exit__(self, *error: object) -> None:
        for layer, own in zip(self.layers, self.replaced, strict=True):
            _put_back(layer, "execute", own)


class _Like:
    """What a variable was like: stands for it where a call is kept."""

    def __init__(self, value: Var) -> None:
        self.shape, self.dtype = tuple(value.shape), str(value.dtype)

    def takes(self, value: NDArray[Any] | None) -> bool:
        """Whether an array can stand in its place."""
        return value is not None and value.size == int(np.prod(self.shape))

    def filled(self, value: NDArray[Any]) -> Var:
        """A variable like it with these numbers, of which gradients can be asked."""
        made = jt.array(np.array(value)).reshape(self.shape).cast(self.dtype)
        # What is only described would be folded into the operator, and a single number then does not compile.
        made.sync()
        return made


def _dropped(layer: nn.Module) -> NDArray[Any]:
    """The share of ones that a dropout makes zeros, and what it makes of the others."""
    with jt.no_grad():
        made = _host(layer(jt.ones((64, 64, 4, 4))))
    return np.array([np.mean(made == 0), made.max(initial=0)])


def _own(module: nn.Module) -> dict[str, Var]:
    """A module's own variables by name."""
    return dict(module.named_parameters(recurse=False))


def _has_gradient(value: Var) -> bool:
    return "float" in str(value.dtype) and not value.is_stop_grad()


def _named(what: str, values: Any) -> dict[str, NDArray[Any]]:
    return {f"{what} {place}": _host(value) for place, value in enumerate(values)}


def _host(value: Var) -> NDArray[Any]:
    """A copy; of half precision in float32, which numpy has."""
    value = value.float32() if str(value.dtype) in ("bfloat16", "float16") else value
    return value.numpy().copy()


def _as_double(value: Var) -> Var:
    return value.float64() if "float" in str(value.dtype) else value


def _in_double(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
    args, options = exchanged((args, options), Var, _as_double)
    return original(*args, **options)


def _put_back(owner: Any, attribute: str, own: Any) -> None:
    """What stood in the object itself; most have it of their class."""
    if own is None:
        del owner.__dict__[attribute]
    else:
        owner.__dict__[attribute] = own


def _unchanged(x: Var) -> Var:
    return x


def _nowhere(group: str, arrays: Arrays) -> None:
    """A sink for what was recorded before."""
