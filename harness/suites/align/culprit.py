"""Which of all differences comes first: going in, forward, loss, backwards, optimiser, whole steps; pure.

A call that differs when it is fed, while none of the calls within it does, is at fault itself: its inputs agree, its
outputs do not. Where it has modules within it, what it does beside them is at fault, and how the network ran says
between which of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.record.events import Culprit, Difference
from harness.suites.align.compare import DROPPING, Layer, title
from messages import recorded

FORWARD = ("output", DROPPING)
GRADIENT = "gradient of "  # English
# What goes into a call backwards.
ABOVE = f"{GRADIENT}output"


class Tree:
    """Calls within one another.

    Attributes:
        layers: by number.
        within: the numbers of the calls directly within each.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = {layer.call.number: layer for layer in layers}
        self.within: dict[int | None, list[int]] = {}
        for layer in layers:
            self.within.setdefault(layer.call.within, []).append(layer.call.number)

    def ends(self) -> list[Layer]:
        """In the order in which the calls end."""
        found: list[Layer] = []

        def visit(number: int) -> None:
            for inner in self.within.get(number, ()):
                visit(inner)
            found.append(self.layers[number])

        for number in self.within.get(None, ()):
            visit(number)
        return found

    def around(self, layer: Layer) -> Iterator[int]:
        """The numbers of the calls that hold this one, from within."""
        above = layer.call.within
        while above is not None:
            yield above
            above = self.layers[above].call.within

    def innermost(self, fails: Callable[[Layer], Difference | None]) -> list[tuple[Layer, Difference]]:
        """Calls that fail while none within them does, in the order in which they end."""
        failing = {layer.call.number: one for layer in self.ends() if (one := fails(layer)) is not None}
        inside = {above for number in failing for above in self.around(self.layers[number])}
        return [(self.layers[number], one) for number, one in failing.items() if number not in inside]


def first(layers: Sequence[Layer], training: Sequence[Difference]) -> tuple[Culprit | None, list[str]]:
    """The first culprit, None where all agree; and what else differs when it is fed, in words."""
    tree = Tree(layers)
    forward = tree.innermost(_forward)
    backward = tree.innermost(_backward)[::-1]
    culprit = (_given(tree) or _went_wrong(tree, forward) or _loss(tree, training) or _backwards(tree, backward)
               or _trained(training))
    further = [recorded("{module}: {place}", module=title(layer.call), place=one.place)
               for layer, one in [*forward, *backward]
               if culprit is None or layer.call.number != culprit.number]
    return culprit, list(dict.fromkeys(further))


def _forward(layer: Layer) -> Difference | None:
    return layer.failing(*FORWARD, fed=True) or next(
        (one for one in layer.differences if one.fed and not one.agrees and one.place.endswith(" afterwards")), None)


def _backward(layer: Layer) -> Difference | None:
    return layer.failing("gradient", fed=True)


def _given(tree: Tree) -> Culprit | None:
    """What goes into the network."""
    for number in tree.within.get(None, ())[:1]:
        layer = tree.layers[number]
        one = layer.failing("input", fed=False)
        if one is not None:
            return Culprit(stage="input", number=number, name=layer.call.name, kind=layer.call.kind, place=one.place,
                           where=recorded("what goes into the network: other batches, or other types"))
    return None


def _went_wrong(tree: Tree, fed: Sequence[tuple[Layer, Difference]]) -> Culprit | None:
    """A module whose inputs agree and whose outputs do not; else the code between two modules."""
    between, at = _between(tree) or (None, 0)
    if not fed:
        return between
    layer, one = fed[0]
    alone = not tree.within.get(layer.call.number)
    # It parts before that call began, or within it.
    if between is not None and (at <= layer.call.number if alone else between.number == layer.call.number):
        return between
    where = title(layer.call) if alone else beside(layer)
    return _culprit("forward", layer, one, where)


def _between(tree: Tree) -> tuple[Culprit, int] | None:
    """The first event at which the network, as it ran, parts, and the number of the call that begins or ends there."""

    def visit(number: int, before: Layer | None) -> tuple[Culprit, int] | None:
        layer = tree.layers[number]
        one = layer.failing("input", fed=False)
        around = tree.layers.get(layer.call.within) if layer.call.within is not None else None
        if one is not None and around is not None:
            module, after = title(around.call), layer.call.name
            where = (recorded("{module}: its own code, before {later}", module=module, later=after)
                     if before is None else
                     recorded("{module}: its own code behind {earlier}, before {later}", module=module,
                              earlier=before.call.name, later=after))
            return _culprit("forward", around, one, where), number
        last: Layer | None = None
        for inner in tree.within.get(number, ()):
            found = visit(inner, last)
            if found is not None:
                return found
            last = tree.layers[inner]
        one = layer.failing("output", fed=False)
        if one is None:
            return None
        return _culprit("forward", layer, one, title(layer.call) if last is None else behind(layer, last)), number

    for number in tree.within.get(None, ()):
        found = visit(number, None)
        if found is not None:
            return found
    return None


def _loss(tree: Tree, training: Sequence[Difference]) -> Culprit | None:
    """The loss, where what comes out of the network agrees."""
    one = next((one for one in training if one.place == "loss" and not one.agrees), None)
    layer = tree.layers[tree.within[None][-1]] if tree.within.get(None) else None
    if one is None and layer is not None:
        one = layer.failing(ABOVE, fed=False)
    return None if one is None else Culprit(stage="loss", number=None, name="", kind="",
                                            where=recorded("the loss"), place=one.place)


def _backwards(tree: Tree, fed: Sequence[tuple[Layer, Difference]]) -> Culprit | None:
    """A module whose gradients differ though the same comes from above; else the code behind a module."""
    if fed and not tree.within.get(fed[0][0].call.number):
        layer, one = fed[0]
        return _culprit("backward", layer, one, title(layer.call))
    for layer in reversed(tree.ends()):
        ran = layer.failing(ABOVE, fed=False)
        around = tree.layers.get(layer.call.within) if layer.call.within is not None else None
        if ran is not None and around is not None:
            return _culprit("backward", around, ran, behind(around, layer))
    if fed:
        layer, one = fed[0]
        return _culprit("backward", layer, one, beside(layer))
    return None


def beside(layer: Layer) -> str:
    """A module's own code, in words."""
    return recorded("{module}: its own code, beside the modules in it", module=title(layer.call))


def behind(layer: Layer, inner: Layer) -> str:
    """The same behind one of the modules in it."""
    return recorded("{module}: its own code behind {earlier}", module=title(layer.call),
                    earlier=inner.call.name)


def _trained(training: Sequence[Difference]) -> Culprit | None:
    """The optimiser, fed with the same gradients; else whole steps."""
    for one in training:
        if not one.agrees and one.place.startswith(GRADIENT):
            return Culprit(stage="backward", number=None, name="", kind="", place=one.place, where=recorded(
                "the gradient of the weight {weight}", weight=one.place.removeprefix(GRADIENT)))
        if not one.agrees and one.place != "loss":
            where = (recorded("the optimiser, fed with the same gradients") if one.fed else
                     recorded("the training step"))
            return Culprit(stage="optimizer" if one.fed else "steps", number=None, name="", kind="", where=where,
                           place=one.place)
    return None


def _culprit(stage: str, layer: Layer, one: Difference, where: str) -> Culprit:
    return Culprit.model_validate({"stage": stage, "number": layer.call.number, "name": layer.call.name,
                                   "kind": layer.call.kind, "where": where, "place": one.place})
