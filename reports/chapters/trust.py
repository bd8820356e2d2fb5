"""Why the times may be trusted: what measuring costs, and whether the clock stops after the work."""

from __future__ import annotations

import numpy as np

from harness.record.events import Overhead, SyncProof
from messages import count, plural
from reports.chapters.key_figures import arm_rows
from reports.page.blocks import Section, Table, head
from reports.text import DASH, Value, duration, missing, number, signed_percent
from reports.view.run import ArmView, RunView


def section(seen: RunView) -> Section:
    """Overhead and synchronisation."""
    return Section("trust", "Overhead and synchronisation", (overheads(seen), sync_proofs(seen)))


def overheads(view: RunView) -> Table:
    """Harness against a bare loop, and monitors on against off."""

    def rows(arm: ArmView) -> list[tuple[Value, ...]]:
        return [
            overhead_row(what, group)
            for what in ("harness", "monitors")
            if (group := [overhead for overhead in arm.of(Overhead) if overhead.what == what])
        ]

    reason = missing("the overhead was not measured in this run")
    return Table(
        f"What measuring costs: the same {view.unit.steps} with and without it, paired",
        head("arm", "what", "slower by (median)", "middle half of the pairs"),
        arm_rows(view, rows, reason, reason, Value(DASH)),
    )


def overhead_row(what: str, group: list[Overhead]) -> tuple[Value, ...]:
    """Paired ratios of one kind of overhead."""
    ratios = np.array(
        [
            with_it / bare
            for overhead in group
            for with_it, bare in zip(overhead.harness_ns, overhead.bare_ns, strict=False)
            if bare > 0
        ]
    )
    words = "harness windows" if what == "harness" else "telemetry"
    if not ratios.size:
        return Value(words), missing("no pairs were recorded"), Value(DASH)
    low, middle, high = (float(v) for v in np.percentile(ratios, (25, 50, 75)))
    return (
        Value(words),
        Value(signed_percent(middle - 1), plural(ratios.size, "pair")),
        Value(f"{signed_percent(low - 1)} to {signed_percent(high - 1)}"),
    )


def sync_proofs(view: RunView) -> Table:
    """Evidence that a stamp was taken after the work."""
    return Table(
        f"Does the clock stop after the work? Pending operations fall to their base, and k times the "
        f"{view.unit.steps} take k times as long",
        head("arm", "pending before, after, base", view.unit.steps, "time"),
        arm_rows(view, lambda arm: list(map(sync_row, arm.of(SyncProof))), *[missing("not checked in this run")] * 3),
    )


def sync_row(proof: SyncProof) -> tuple[Value, ...]:
    """One proof of synchronisation."""
    pending = (proof.pending_before, proof.pending_after, proof.pending_base)
    counts = (
        Value(", ".join(count(n) if n is not None else "n/a" for n in pending))
        if any(n is not None for n in pending)
        else missing("the framework does not tell")
    )
    more = proof.steps_long / proof.steps_short if proof.steps_short else None
    longer = proof.long_ns / proof.short_ns if proof.short_ns else None
    return (
        counts,
        Value(f"{count(proof.steps_long)} against {count(proof.steps_short)}", f"{number(more)} times as many"),
        Value(f"{duration(proof.long_ns)} against {duration(proof.short_ns)}", f"{number(longer)} times as long"),
    )
