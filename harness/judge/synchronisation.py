"""Did an arm's clock stop after its work? What the recorded proofs say, one fault being enough to refuse a proof."""

from __future__ import annotations

from collections.abc import Sequence

from harness.part import Timed
from harness.record.events import ArmSlot, Case, Finding, SyncProof
from harness.record.findings import UNSYNCHRONISED
from harness.record.run import RecordedRun
from messages import recorded

# Of the time that k times as many steps take longer: spikes of a busy machine stay below what a missing wait loses.
LEAST_GROWTH = 0.25
# Losses that are there are read in next to no time; those still being computed take as long as the steps.
MOST_RESIDUE = 0.25


def fault(proof: SyncProof) -> str | None:
    """Why one proof fails; None when it holds."""
    before, after, base = proof.pending_before, proof.pending_after, proof.pending_base
    if after is not None and base is not None and after > base:
        more = after - base
        if before is None:
            return recorded("{more} operations more than at rest were pending after a synchronisation", more=more)
        return recorded("{more} operations more than at rest were pending after a synchronisation ({before} before it)",
                        more=more, before=before)
    if proof.residue_ns is not None and proof.residue_ns > MOST_RESIDUE * max(proof.long_ns, 1):
        return recorded("reading the losses took {reading} ms after the synchronisation of {steps} steps, which had "
                        "taken {taken} ms", reading=f"{proof.residue_ns / 1e6:.3g}", steps=proof.steps_long,
                        taken=f"{proof.long_ns / 1e6:.3g}")
    growth = proof.long_ns / proof.short_ns if proof.short_ns > 0 else 0.0
    wanted = proof.steps_long / proof.steps_short
    if growth < 1 + LEAST_GROWTH * (wanted - 1):
        return recorded("{steps} times the steps took {growth} times as long", steps=f"{wanted:.3g}",
                        growth=f"{growth:.3g}")
    return None


def unsynchronised(proofs: Sequence[SyncProof]) -> str | None:
    """Why an arm's times cannot be trusted; None when one of its proofs holds, or when none was made.

    One that holds is enough, because a disturbance of the machine can spoil a proof but cannot make one.
    """
    faults = [fault(proof) for proof in proofs]
    return None if None in faults else faults[-1] if faults else None


def fault_of(run: RecordedRun, slot: ArmSlot, part: Timed) -> str | None:
    """Why the times of an arm cannot be trusted, from all that a part of the run recorded; None when they can."""
    return unsynchronised([proof for proof in run.of(SyncProof) if proof.arm == slot]) or part.early(run, slot)


def accusations(run: RecordedRun, part: Timed) -> list[Finding | Case]:
    """The findings on arms that do not wait for their work, each with its failed case; those known already left out."""
    known = {finding.arm for finding in run.of(Finding) if finding.code == UNSYNCHRONISED.code}
    found: list[Finding | Case] = []
    for entry in run.started.arms if run.started else []:
        why = None if entry.slot in known else fault_of(run, entry.slot, part)
        if why is not None:
            found += accusation(entry.name, entry.slot, why)
    return found


def accusation(name: str, slot: ArmSlot, why: str) -> tuple[Finding, Case]:
    """What is recorded about an arm that does not wait for its work."""
    message = recorded("{name} is not synchronised when its clock stops: {why}", name=name, why=why)
    return (UNSYNCHRONISED.found(message, arm=slot),
            Case(case_id=f"synchronisation-{slot}", arm=slot, block=None, status="failed", reason=message))


def figures(proof: SyncProof) -> str:
    """The figures of a proof, for people."""
    parts = []
    if proof.pending_after is not None:
        parts.append(recorded("pending operations {before} before, {after} after, {base} at rest",
                              before=_shown(proof.pending_before), after=_shown(proof.pending_after),
                              base=_shown(proof.pending_base)))
    steps = f"{proof.steps_long / proof.steps_short:.3g}"
    parts.append(
        recorded("{steps} times the steps took {growth} times as long", steps=steps,
                 growth=f"{proof.long_ns / proof.short_ns:.3g}") if proof.short_ns else
        recorded("{steps} times the steps took no number of times as long", steps=steps))
    if proof.residue_ns is not None and proof.long_ns:
        parts.append(recorded("reading the losses afterwards {share} of that",
                              share=f"{proof.residue_ns / proof.long_ns:.2%}"))
    return "; ".join(parts)


def _shown(count: int | None) -> str:
    return "n/a" if count is None else f"{count:,}"
