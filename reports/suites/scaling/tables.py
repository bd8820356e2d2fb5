"""Tables of ranks: speed-up, communication, the gate, the arms at every size, what the prediction rests on."""

from __future__ import annotations

import math

from harness.record.events import Estimate, GroupStarted, Predicted, Scaled, ScalingGate, Verdict
from messages import count, marked, shown, tell, words
from reports.page.blocks import Table, table_of
from reports.text import Value, duration, missing, number, passed, percent, size, with_interval
from reports.view.run import RunView

NOT_MEASURED = marked("not measured")
NOT_TOLD_APART = marked("all of it was divided")
NO_NUMBER = marked("a loss is no number")


def speedups(seen: RunView) -> Table | None:
    """A row for every arm, kind and size."""
    return table_of(tell("Speed-up over one process"), words(
        "arm", "batch", "ranks", "images a step", "step time", "speed-up", "efficiency"), (
        (named(seen, one), Value(shared(one)), Value(count(one.size)), Value(count(one.images)),
         Value(duration(one.step_ns)) if one.step_ns else missing(why(one)),
         estimated(one.speedup, one), percentage(one.efficiency, one)) for one in seen.run.of(Scaled)))


def communication(seen: RunView) -> Table | None:
    """What a step is made of, and which rank is slow."""
    return table_of(tell("Communication and stragglers"), words(
        "arm", "batch", "ranks", "exposed communication", "bus bandwidth", "slowest rank over median"), (
        (named(seen, one), Value(shared(one)), Value(count(one.size)), percentage(one.exposed, one),
         Value(f"{number(one.bus_bytes_per_s / 1e9)} GB/s") if one.bus_bytes_per_s else missing(why(one)),
         Value(f"{one.straggler:.3f}", tell("rank {rank} on {host}", rank=one.slowest_rank, host=one.slowest_host))
         if one.straggler else missing(why(one))) for one in seen.run.of(Scaled)))


def arms(seen: RunView) -> Table | None:
    """The verdicts, one a size and kind."""
    return table_of(tell("Time of the first arm over that of the second"), words("cell", "arms", "ratio", "verdict"), (
        (Value(verdict.cell or ""), Value(f"{seen.label(verdict.arm_a)} / {seen.label(verdict.arm_b)}"),
         Value(with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high)) if verdict.ratio is not None else missing(
             why(verdict)), Value(verdict.word, shown(verdict.reason) if verdict.reason else None))
        for verdict in seen.run.of(Verdict)))


def gate(seen: RunView) -> Table | None:
    """Losses and hashes."""
    return table_of(tell("Matched steps of ranks against one process"), words(
        "arm", "ranks", "largest difference of a loss", "allowed", "unequal between ranks", "result"), (
        (Value(seen.label(one.arm), slot=one.arm), Value(count(one.size)),
         largest(one), Value(number(one.tolerance, 1)),
         Value(", ".join(one.unequal) or tell("nothing")), passed(one.passed))
        for one in seen.run.of(ScalingGate)))


def largest(one: ScalingGate) -> Value:
    """The largest difference of a loss."""
    if not one.loss_rel_diff or not all(map(math.isfinite, one.loss_rel_diff)):
        return missing(tell(NO_NUMBER if one.loss_rel_diff else NOT_MEASURED))
    return Value(number(max(one.loss_rel_diff), 2))


def constants(seen: RunView) -> Table | None:
    """What the dashed lines rest on."""
    return table_of(tell("Constants of the prediction"), words(
        "arm", "fitted at", "part that stays", "part that is divided", "latency a", "bandwidth B", "gradients V"), (
        (Value(seen.label(one.arm), slot=one.arm), Value(tell("{ranks} ranks", ranks=one.fitted_at)),
         *(missing(tell(NOT_TOLD_APART)) if part is None else Value(duration(part))
           for part in (one.fixed_ns, one.divided_ns)), Value(duration(one.latency_ns)),
         Value(f"{number(one.bandwidth_bytes_per_s / 1e9)} GB/s"), Value(size(one.gradient_bytes)))
        for one in seen.run.of(Predicted)))


def groups(seen: RunView) -> Table | None:
    """What starting took."""
    return table_of(tell("Groups of ranks"), words(
        "arm", "block", "ranks", "launcher", "hosts", "launch", "import", "build"), (
        (Value(seen.label(one.arm), slot=one.arm), Value(tell("gate") if one.block < 0 else count(one.block)),
         Value(count(one.size)), Value(one.launcher), Value(", ".join(dict.fromkeys(one.hosts))),
         Value(duration(one.spawn_ns)), Value(duration(one.import_ns)), Value(duration(one.build_ns)))
        for one in seen.run.of(GroupStarted)))


def named(seen: RunView, one: Scaled) -> Value:
    """The arm."""
    return Value(seen.label(one.arm), slot=one.arm)


def shared(one: Scaled) -> str:
    """What happens to the batch."""
    return tell("shared (strong)") if one.mode == "strong" else tell("grows (weak)")


def why(one: Scaled | Verdict) -> str:
    """Why a figure is missing."""
    return shown(one.reason) if one.reason else tell(NOT_MEASURED)


def estimated(value: Estimate | None, one: Scaled) -> Value:
    """A factor with its interval."""
    if value is None:
        return missing(why(one))
    return Value(with_interval(value.value, value.ci_low, value.ci_high))


def percentage(value: Estimate | None, one: Scaled) -> Value:
    """A share with its interval."""
    if value is None:
        return missing(why(one))
    limits = None if value.ci_low is None or value.ci_high is None else (
        tell("{low} to {high}", low=percent(value.ci_low), high=percent(value.ci_high)))
    return Value(percent(value.value), limits)
