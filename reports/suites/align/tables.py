"""Every figure that was held against the reference."""

from __future__ import annotations

from collections.abc import Iterable

from harness.record.events import Alignment, Difference
from reports.page.blocks import Section, Table, head
from reports.page.blocks import section as section_of
from reports.suites.align import tree
from reports.text import Value, missing, number, passed
from reports.view.run import RunView

COLUMNS = ("array", "how", "largest difference", "relative", "cosine", "allowed", "result")
MOST = 1500


def training(one: Alignment, anchor: str, names: str) -> Section | None:
    """The loss, the optimiser and whole steps."""
    rows = tuple((Value(entry.place), *figures(entry)) for entry in one.training)
    table = Table("Loss, optimiser and whole steps", head(*COLUMNS), rows) if rows else None
    return section_of(anchor, f"Training{names}", table)


def layers(seen: RunView, one: Alignment, anchor: str, names: str) -> Section | None:
    """All layers, the longest table, folded; of a very large network, those that differ and the first ones."""
    rows = []
    for layer in tree.of(seen, one):
        title = f"{layer.name or 'the network'}" + (f", call {layer.nth + 1}" if layer.nth else "")
        rows += [(Value(title, layer.kind), Value(entry.place), *figures(entry)) for entry in layer.differences]
    left = f"; {len(rows) - MOST} further rows are in the journal" if len(rows) > MOST else ""
    table = Table(f"Every array of every call{left}", head("module", *COLUMNS), tuple(rows[:MOST])) if rows else None
    return section_of(anchor, f"Every layer{names}", table, folded=True)


def figures(entry: Difference) -> Iterable[Value]:
    """The cells behind an array's name."""
    reason = entry.reason or "not measured"
    yield Value("fed" if entry.fed else "as it runs")
    for value in (entry.max_abs, entry.max_rel):
        yield Value(number(value, 2)) if value is not None else missing(reason)
    yield Value(f"{entry.cosine:.8f}") if entry.cosine is not None else missing("a vector of zeros, or none")
    yield Value(number(entry.tolerance, 2)) if entry.tolerance is not None else missing(reason)
    yield passed(entry.agrees)
