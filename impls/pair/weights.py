"""Which weight of one model is which of the other: by name, by the user's own rule, by shape and order; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from impls.errors import UsageError
from messages import tell

Shapes = Mapping[str, tuple[int, ...]]
MOST_SHOWN = 6


def matched(theirs: Shapes, ours: Shapes, names: Callable[[str], object] | None = None) -> dict[str, str]:
    """Name in `theirs` -> name in `ours`, one to one and nothing left over.

    What the user's rule names comes first, then equal names, then shapes that are left equally often on both sides, in
    the order in which both models have them.

    Args:
        theirs: PyTorch's parameters and buffers by name, in order.
        ours: the other model's.
        names: the user's rule; for None, and for what it answers by None or by an unknown name, the others hold.

    Raises:
        UsageError: what is left over, both sides of it; or two shapes of one name that differ.
    """
    found = _named(theirs, ours, names)
    for name in theirs:
        if name not in found and name in ours and name not in found.values():
            found[name] = name
    differing = [tell("{name} {size} against {other}", name=name, size=_size(theirs[name]),
                      other=_named_size(found[name], ours)) for name in found
                 if _shape(theirs[name]) != _shape(ours[found[name]])]
    if differing:
        raise UsageError(tell("shapes differ: {names}: make both models alike", names=_listed(differing)))
    left, free = _by_shape(theirs, found.keys()), _by_shape(ours, found.values())
    for shape, some in left.items():
        if len(some) == len(free.get(shape, ())):
            found.update(zip(some, free.pop(shape), strict=True))
    lost = [f"{name} {_size(theirs[name])}" for name in theirs if name not in found]
    unmet = [f"{name} {_size(ours[name])}" for name in ours if name not in found.values()]
    if lost or unmet:
        raise UsageError(tell("weights do not map: PyTorch alone has {torch}; Jittor alone has {jittor}: make both "
                              "models alike, or define names(torch_name) -> jittor_name", torch=_listed(lost),
                              jittor=_listed(unmet)))
    return {name: found[name] for name in theirs}


def told(weights: Mapping[str, str], modules: Collection[str]) -> dict[str, str]:
    """Own name -> the other model's, of every weight, and of every module whose other name its weights tell.

    A module without weights stands where it stands in the nearest module around it that is known.

    Args:
        weights: own name of a weight -> the other model's.
        modules: own names of all modules, "" for the model.
    """
    votes: dict[str, set[str]] = {}
    for own, other in weights.items():
        for mine, theirs in _around(own.split("."), other.split(".")):
            votes.setdefault(".".join(mine), set()).add(".".join(theirs))
    known = {mine: next(iter(theirs)) for mine, theirs in votes.items() if len(theirs) == 1}
    taken = [*known.values()]
    known = {mine: theirs for mine, theirs in known.items() if taken.count(theirs) == 1}
    known[""], used = "", {*known.values(), ""}
    found: dict[str, str] = dict(weights)
    for name in modules:
        if name in known:
            found[name] = known[name]
            continue
        around = name
        while around not in known:
            around = around.rpartition(".")[0]
        rest = name.removeprefix(around).lstrip(".")
        guess = f"{known[around]}.{rest}".lstrip(".")
        # The other model has something else in that place.
        found[name] = guess if guess not in used else f"{guess} (own)"
    return found


def _around(mine: list[str], theirs: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The modules around a weight in both models, as far as its two names show which is which."""
    if len(mine) == len(theirs):
        yield from ((mine[:depth], theirs[:depth]) for depth in range(1, len(mine)))
        return
    mine, theirs = mine[:-1], theirs[:-1]
    while mine and theirs:
        yield mine, theirs
        if mine[-1] != theirs[-1]:
            return
        mine, theirs = mine[:-1], theirs[:-1]


def _named(theirs: Shapes, ours: Shapes, names: Callable[[str], object] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if names is None:
        return found
    for name in theirs:
        own = names(name)
        if own is not None and not isinstance(own, str):
            raise UsageError(tell("names({name}) gave {kind}, not a name or None", name=repr(name),
                                  kind=type(own).__name__))
        if own in found.values():
            raise UsageError(tell("names() gave {own} twice, for {name} too", own=repr(own), name=repr(name)))
        if own in ours:
            found[name] = str(own)
    return found


def _by_shape(shapes: Shapes, taken: Collection[str]) -> dict[tuple[int, ...], list[str]]:
    found: dict[tuple[int, ...], list[str]] = {}
    used = set(taken)
    for name, shape in shapes.items():
        if name not in used:
            found.setdefault(_shape(shape), []).append(name)
    return found


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Jittor has no shape (): a single number there is one element."""
    return tuple(shape) or (1,)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _named_size(name: str, shapes: Shapes) -> str:
    return f"{name} {_size(shapes[name])}"


def _listed(some: list[str]) -> str:
    more = tell(" and {count} more", count=len(some) - MOST_SHOWN) if len(some) > MOST_SHOWN else ""
    return ", ".join(some[:MOST_SHOWN]) + more if some else "nothing"
