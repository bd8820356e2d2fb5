"""Why the times may be trusted: what measuring costs, and whether the clock stops after the work."""

from __future__ import annotations

import numpy as np

from harness.record.events import Overhead, SyncProof
from messages import count, plural, tell, words
from reports.chapters.answer.key_figures import arm_rows
from reports.page.blocks import Section, Table, head
from reports.text import DASH, NA, Value, commas, duration, missing, number, signed_percent
from reports.view.run import ArmView, RunView


def section(seen: RunView) -> Section:
    """Overhead and synchronisation."""
    return Section("trust", tell("Overhead and synchronisation"), (overheads(seen), sync_proofs(seen)))


def overheads(view: RunView) -> Table:
    """Harness against a bare loop, and monitors on against off."""

    def rows(arm: ArmView) -> list[tuple[Value, ...]]:
        return [
            overhead_row(what, group)
            for what in ("harness", "monitors")
            if (group := [overhead for overhead in arm.of(Overhead) if overhead.what == what])
        ]

    reason = missing(tell("the overhead was not measured in this run"))
    return Table(
        tell("What measuring costs: the same {steps} with and without it, paired", steps=tell(view.unit.steps)),
        head(*words("arm", "what", "slower by (median)", "middle half of the pairs")),
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
    name = Value(tell("harness windows") if what == "harness" else tell("telemetry"))
    if not ratios.size:
        return name, missing(tell("no pairs were recorded")), Value(DASH)
    low, middle, high = (float(v) for v in np.percentile(ratios, (25, 50, 75)))
    return (
        name,
        Value(signed_percent(middle - 1), plural(ratios.size, "pair")),
        Value(tell("{low} to {high}", low=signed_percent(low - 1), high=signed_percent(high - 1))),
    )


def sync_proofs(view: RunView) -> Table:
    """Evidence that a stamp was taken after the work."""
    steps, reason = tell(view.unit.steps), missing(tell("not checked in this run"))
    return Table(
        tell("Does the clock stop after the work? Pending operations fall to their base, and k times the {steps} take "
             "k times as long", steps=steps),
        head(*words("arm", "pending before, after, base"), steps, tell("time")),
        arm_rows(view, lambda arm: list(map(sync_row, arm.of(SyncProof))), *[reason] * 3),
    )  # fmt: skip


def sync_row(proof: SyncProof) -> tuple[Value, ...]:
    """One proof of synchronisation."""
    pending = (proof.pending_before, proof.pending_after, proof.pending_base)
    counts = (
        Value(commas(count(n) if n is not None else NA for n in pending))
        if any(n is not None for n in pending)
        else missing(tell("the framework does not tell"))
    )
    more = proof.steps_long / proof.steps_short if proof.steps_short else None
    longer = proof.long_ns / proof.short_ns if proof.short_ns else None
    return (
        counts,
        Value(tell("{one} against {other}", one=count(proof.steps_long), other=count(proof.steps_short)),
              tell("{times} times as many", times=number(more))),
        Value(tell("{one} against {other}", one=duration(proof.long_ns), other=duration(proof.short_ns)),
              tell("{times} times as long", times=number(longer))),
    )  # fmt: skip
