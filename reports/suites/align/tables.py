"""Every figure that was held against the reference."""

from __future__ import annotations

from collections.abc import Iterable

from harness.record.events import Alignment, Difference
from messages import shown, tell, words
from reports.page.blocks import Section, Table, head
from reports.page.blocks import section as section_of
from reports.suites.align import tree
from reports.text import Value, missing, number, passed
from reports.view.run import RunView

MOST = 1500


def columns() -> tuple[str, ...]:
    """What is told of an array."""
    return words("array", "how", "largest difference", "relative", "cosine", "allowed", "result")


def training(one: Alignment, anchor: str, names: str) -> Section | None:
    """The loss, the optimiser and whole steps."""
    rows = tuple((Value(tree.place_of(entry.place)), *figures(entry)) for entry in one.training)
    table = Table(tell("Loss, optimiser and whole steps"), head(*columns()), rows) if rows else None
    return section_of(anchor, tell("Training") + names, table)


def layers(seen: RunView, one: Alignment, anchor: str, names: str) -> Section | None:
    """All layers, the longest table, folded; of a very large network, those that differ and the first ones."""
    rows = []
    for layer in tree.of(seen, one):
        title = layer.name or tell("the network")
        title = tell("{module}, call {number}", module=title, number=layer.nth + 1) if layer.nth else title
        rows += [(Value(title, layer.kind), Value(tree.place_of(entry.place)), *figures(entry))
                 for entry in layer.differences]
    caption = tell("Every array of every call")
    if len(rows) > MOST:
        caption = tell("Every array of every call; {rows} further rows are in the journal", rows=len(rows) - MOST)
    table = Table(caption, head(tell("module"), *columns()), tuple(rows[:MOST])) if rows else None
    return section_of(anchor, tell("Every layer") + names, table, folded=True)


def figures(entry: Difference) -> Iterable[Value]:
    """The cells behind an array's name."""
    reason = shown(entry.reason) if entry.reason else tell("not measured")
    yield Value(tell("fed") if entry.fed else tell("as it runs"))
    for value in (entry.max_abs, entry.max_rel):
        yield Value(number(value, 2)) if value is not None else missing(reason)
    yield Value(f"{entry.cosine:.8f}") if entry.cosine is not None else missing(tell("a vector of zeros, or none"))
    yield Value(number(entry.tolerance, 2)) if entry.tolerance is not None else missing(reason)
    yield passed(entry.agrees)
