"""The network as a tree, with the first difference marked; what agrees as a whole is one line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.record.events import AlignedLayer, Alignment
from messages import marked, plural, shown, tell
from reports.page.blocks import Branch, Prose, Section, Tree, present
from reports.text import number, semicolons, sentence
from reports.view.run import RunView

FIRST, TOO, AFTER = marked("<- FIRST DIFFERENCE"), marked("differs too when fed"), marked("differs behind it")
AGREES, ALONE = marked("agrees"), marked("not compared")
MOST = 300


def section(seen: RunView, one: Alignment, anchor: str, names: str) -> Section | None:
    """The sentence, the tree, the hints."""
    lines = tuple(drawn(of(seen, one), one))
    said = [Prose(sentence(tell("What the arrays bear out: {hint}", hint=shown(hint)))) for hint in one.hints]
    calls = semicolons(map(shown, one.unmatched[:20]))
    alone = Prose(sentence(tell("Calls that one arm alone made: {calls}", calls=calls))) if calls else None
    if len(lines) > MOST:
        lines = (*lines[:MOST], Branch(0, f"... {plural(len(lines) - MOST, 'more line')}"))
    tree = Tree(lines, tell("Calls of modules in order, {arm}'s as the reference; behind each the largest relative "
                            "difference of its outputs when fed", arm=seen.label(one.reference))) if lines else None
    notes = [Prose(sentence(tell("No fault, but known: {note}", note=shown(note)))) for note in one.notes]
    kinks = one.excused(len(one.kinks))
    return Section(anchor, tell("Layers") + names, present(
        Prose(words(seen, one)), tree, *said, *notes,
        Prose(sentence(tell("No fault: {kink}", kink=kinks))) if kinks else None, alone))


def words(seen: RunView, one: Alignment) -> str:
    """The sentence."""
    a, b = seen.label(one.arm_a), seen.label(one.arm_b)
    if one.word == "not-traced":
        return sentence(tell("Layers of {a} and {b} were not compared: {reason}", a=a, b=b,
                             reason=shown(str(one.reason))))
    if one.culprit is None:
        text = tell("All layers of {a} and {b} agree: {calls}, forward, backward, optimiser and whole steps", a=a, b=b,
                    calls=plural(one.compared, "call"))
        return sentence(text if one.compared != 1 else tell(
            "{agree}; it was seen from outside alone, since an arm does not call its modules one by one", agree=text))
    return sentence(tell("{a} and {b} part first in {where}: {place}", a=a, b=b, where=shown(one.culprit.where),
                         place=place_of(one.culprit.place)))


def of(seen: RunView, one: Alignment) -> list[AlignedLayer]:
    """The layers of a pair, in the order in which their calls begin."""
    found = [line for line in seen.run.of(AlignedLayer) if (line.arm_a, line.arm_b) == (one.arm_a, one.arm_b)]
    return sorted(found, key=lambda line: line.number)


def drawn(layers: list[AlignedLayer], one: Alignment) -> Iterator[Branch]:
    """Its lines."""
    within: dict[int | None, list[AlignedLayer]] = {}
    names = {layer.number: layer.name for layer in layers}
    for layer in layers:
        within.setdefault(layer.within, []).append(layer)

    def plain(layer: AlignedLayer) -> bool:
        return state(layer, one) in (AGREES, "") and all(map(plain, within.get(layer.number, ())))

    def visit(layer: AlignedLayer, depth: int) -> Iterator[Branch]:
        inner = within.get(layer.number, [])
        folded = bool(inner) and plain(layer) and (layer.within is not None or one.culprit is not None)
        more = tell(" [{calls} inside, all agree]", calls=plural(count(layer), "call")) if folded else ""
        again = f" #{layer.nth + 1}" if layer.nth else ""
        # Less the name of the call around it; lists of modules are never called, so theirs stays.
        around = f"{names[layer.within]}." if layer.within is not None and names[layer.within] else ""
        name = layer.name.removeprefix(around) or tell("network")
        said = state(layer, one)
        mark = {FIRST: "bad", TOO: "warn", AFTER: "warn"}.get(said, "")
        place = f" ({place_of(one.culprit.place)})" if said == FIRST and one.culprit is not None else ""
        yield Branch(depth, f"{name} ({layer.kind}){again}  {worst(layer)}{tell(said)}{place}{more}", mark)
        if not folded:
            for child in inner:
                yield from visit(child, depth + 1)

    def count(layer: AlignedLayer) -> int:
        return sum(1 + count(child) for child in within.get(layer.number, ()))

    for layer in within.get(None, []):
        yield from visit(layer, 0)


def state(layer: AlignedLayer, one: Alignment) -> str:
    """What is said of a call."""
    if one.culprit is not None and one.culprit.number == layer.number:
        return FIRST
    if not layer.differences:
        return ALONE
    # A call around the culprit differs with it.
    if any(not entry.agrees and entry.fed for entry in layer.differences):
        return TOO
    return AFTER if any(not entry.agrees for entry in layer.differences) else AGREES


def worst(layer: AlignedLayer) -> str:
    """Of its outputs when fed."""
    found = [entry.max_rel for entry in layer.differences
             if entry.fed and entry.place.startswith("output") and entry.max_rel is not None]
    return f"{number(max(found), 2)} " if found else ""


def place_of(place: str) -> str:
    """An array's name for people."""
    known = re.fullmatch(r"(gradient of )?(input|output) (\d+)", place)
    if known is None:
        kept = place.removesuffix(" afterwards")
        return tell("{array} afterwards", array=kept) if kept != place else shown(place)
    if known[1]:
        return (tell("gradient of input {number}", number=known[3]) if known[2] == "input" else
                tell("gradient of output {number}", number=known[3]))
    return tell("input {number}", number=known[3]) if known[2] == "input" else tell("output {number}", number=known[3])
