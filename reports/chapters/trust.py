"""Why the numbers may be trusted, as tables: parity, overhead, synchronisation, differences, environment, failures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.record.events import Overhead, ParityResult, SyncProof
from reports.page.blocks import Table
from reports.text import DASH, Value, count, duration, missing, number, plural, signed_percent
from reports.view.run import ArmView, RunView

PARITY_ROWS = (
    ("forward_max_abs", "forward, largest absolute difference", "forward"),
    ("gradient_worst_rel", "gradients, worst relative difference", "gradient"),
    ("adam_max_abs", "one Adam step, largest absolute difference", "adam"),
)
LOSS = "loss"


def head(*names: str) -> tuple[Value, ...]:
    """A head row of plain words."""
    return tuple(Value(name) for name in names)


def parity(view: RunView, result: ParityResult) -> Table:
    """One parity check: each figure beside its tolerance."""
    rows: list[tuple[Value, ...]] = [
        (
            Value("same parameters (names and shapes)"),
            Value("yes" if result.parameters_equal else "no"),
            Value(DASH),
            verdict(result.parameters_equal),
        )
    ]
    for field, words, name in PARITY_ROWS:
        note = result.gradient_worst_name if field == "gradient_worst_rel" else None
        rows.append(parity_row(words, getattr(result, field), result.tolerances.get(name), note, result))
    worst, control = worst_of(result.loss_rel_diff), worst_of(result.control_rel_diff)
    note = f"control (weights off by 1e-7): {number(control, 2)}" if control is not None else "no control was run"
    words = f"losses of {plural(len(result.loss_rel_diff), 'matched step')}, worst relative difference"
    allowed = result.tolerances.get(LOSS)
    if result.passed and worst is not None and allowed is not None and worst > allowed:
        note += "; the tolerance holds the first steps only, rounding grows in later ones"
    rows.append(parity_row(words, worst, allowed, note, result))
    one, other = view.label(result.arm_a), view.label(result.arm_b)
    state = "passed" if result.passed else "failed"
    caption = f"{other} against {one}, preset {result.preset}, batch {result.batch_size}: {state}"
    return Table(caption, head("check", "found", "allowed", "result"), tuple(rows))


def worst_of(differences: Sequence[float]) -> float | None:
    """The largest difference, NaN when any is not a number, None when there are none."""
    return float(np.max(differences)) if len(differences) else None


def parity_row(
    words: str, found: float | None, allowed: float | None, note: str | None, result: ParityResult
) -> tuple[Value, ...]:
    """One figure of a parity check. A recorded pass stands; after a failure each figure is held to its tolerance."""
    if found is None:
        return Value(words), missing(result.reason or "not measured in this run"), shown(allowed), Value("not checked")
    figure = Value(number(found, 2) if np.isfinite(found) else "not a number", note)
    if allowed is None:
        return Value(words), figure, shown(allowed), Value("not held to one")
    # Written so that NaN is a fault.
    return Value(words), figure, shown(allowed), verdict(result.passed or bool(found <= allowed))


def shown(allowed: float | None) -> Value:
    """A tolerance."""
    return Value(number(allowed, 2)) if allowed is not None else missing("no tolerance recorded")


def verdict(passed: bool) -> Value:
    """Pass or fail, in words and by accent."""
    return Value("pass", mark="good") if passed else Value("fail", mark="bad")


def overheads(view: RunView) -> Table:
    """Harness against a bare loop, and monitors on against off."""
    rows = []
    for arm in view.arms:
        rows += [
            overhead_row(arm, what, group)
            for what in ("harness", "monitors")
            if (group := [overhead for overhead in arm.overheads if overhead.what == what])
        ]
        if not arm.overheads:
            reason = missing("the overhead was not measured in this run")
            rows.append((Value(arm.label, slot=arm.slot), reason, reason, Value(DASH)))
    return Table(
        f"What measuring costs: the same {view.unit.steps} with and without it, paired",
        head("arm", "what", "slower by (median)", "middle half of the pairs"),
        tuple(rows),
    )


def overhead_row(arm: ArmView, what: str, group: list[Overhead]) -> tuple[Value, ...]:
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
        return Value(arm.label, slot=arm.slot), Value(words), missing("no pairs were recorded"), Value(DASH)
    low, middle, high = (float(v) for v in np.percentile(ratios, (25, 50, 75)))
    return (
        Value(arm.label, slot=arm.slot),
        Value(words),
        Value(signed_percent(middle - 1), plural(ratios.size, "pair")),
        Value(f"{signed_percent(low - 1)} to {signed_percent(high - 1)}"),
    )


def sync_proofs(view: RunView) -> Table:
    """Evidence that a stamp was taken after the work."""
    rows = []
    for arm in view.arms:
        rows += [sync_row(arm, proof) for proof in arm.sync_proofs]
        if not arm.sync_proofs:
            reason = missing("not checked in this run")
            rows.append((Value(arm.label, slot=arm.slot), reason, reason, reason))
    return Table(
        f"Does the clock stop after the work? Pending operations fall to their base, and k times the "
        f"{view.unit.steps} take k times as long",
        head("arm", "pending before, after, base", view.unit.steps, "time"),
        tuple(rows),
    )


def sync_row(arm: ArmView, proof: SyncProof) -> tuple[Value, ...]:
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
        Value(arm.label, slot=arm.slot),
        counts,
        Value(f"{count(proof.steps_long)} against {count(proof.steps_short)}", f"{number(more)} times as many"),
        Value(f"{duration(proof.long_ns)} against {duration(proof.short_ns)}", f"{number(longer)} times as long"),
    )
