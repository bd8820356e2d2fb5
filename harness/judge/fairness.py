"""Whether two arms of a run may be compared at all; where not, the field in which they are unlike is named."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.synchronisation import fault_of
from harness.part import Timed
from harness.plan import Comparison
from harness.record.events import ArmSlot, BlockState, ParityResult, SampleAgreement, WorkerStarted
from harness.record.run import RecordedRun, machines
from impls.backend import BackendInfo
from impls.recipe.precision import ORDER, Precision, coarsest
from messages import marked, recorded

Gate = ParityResult | SampleAgreement
# What every process of one arm must prove alike, in whatever block it runs.
CONSTANT = {"framework": marked("framework"), "version": marked("version"), "device": marked("device"),
            "device_uuid": marked("device uuid"), "device_name": marked("device name"), "dtype": "dtype",
            "tf32": "tf32", "threads": marked("threads")}


def refusal(run: RecordedRun, comparison: Comparison, part: Timed) -> str | None:
    """Why the two arms must not be compared in a part of a run; None when they may."""
    workers = {w.arm: w for w in run.of(WorkerStarted) if w.role == "measure"}
    a, b = workers.get(comparison.a), workers.get(comparison.b)
    if a is None or b is None:
        return None
    fault = unfair(BackendInfo(**a.info), BackendInfo(**b.info), a.parameter_count, b.parameter_count)
    for slot in (comparison.a, comparison.b):
        fault = fault or varied(run, slot)
    for slot in (comparison.a, comparison.b):
        why = fault_of(run, slot, part)
        if why and not fault:
            fault = recorded("synchronisation of {arm}: {why}", arm=run.arms.get(slot, slot), why=why)
    return fault if fault or comparison.selfcheck else part.fair(run, comparison)


def varied(run: RecordedRun, slot: ArmSlot) -> str | None:
    """What one arm's processes ran in one block and not in another of the same environment; None when nothing.

    The harness records its own surroundings; what another interpreter runs, only the workers can tell.
    """
    groups = [set(one.blocks) for one in machines(run.events)] or [{state.block for state in run.of(BlockState)}]
    for blocks in groups:
        first: WorkerStarted | None = None
        for worker in run.of(WorkerStarted):
            if worker.arm != slot or worker.role != "measure" or worker.block not in blocks:
                continue
            first = first or worker
            for name, told in CONSTANT.items():
                before, now = first.info.get(name), worker.info.get(name)
                if before != now:
                    return recorded("{what} of {arm}: {before} in block {first}, {now} in block {second}", what=told,
                                    arm=run.arms.get(slot, slot), before=before, first=first.block, now=now,
                                    second=worker.block)
    return None


def unfair(info_a: BackendInfo, info_b: BackendInfo, count_a: int, count_b: int) -> str | None:
    """The first thing that makes two arms incomparable, named with both values; None when they are alike.

    Args:
        info_a: what arm A proved to run.
        info_b: what arm B proved to run.
        count_a: trainable scalars of arm A's network.
        count_b: trainable scalars of arm B's network.
    """
    fields: list[tuple[str, object, object]] = [(marked("device: {a} against {b}"), info_a.device, info_b.device)]
    if info_a.device_uuid is not None and info_b.device_uuid is not None:
        fields.append((marked("device UUID: {a} against {b}"), plain_uuid(info_a.device_uuid),
                       plain_uuid(info_b.device_uuid)))
    else:
        fields.append((marked("device name: {a} against {b}"), info_a.device_name, info_b.device_name))
    fields.append((marked("dtype: {a} against {b}"), info_a.dtype, info_b.dtype))
    if info_a.device == "cuda":
        # The CPU has no TF32, whatever the switch says.
        fields.append((marked("TF32: {a} against {b}"), info_a.tf32, info_b.tf32))
    fields += [(marked("threads: {a} against {b}"), info_a.threads, info_b.threads),
               (marked("parameter count: {a} against {b}"), count_a, count_b)]
    return next((recorded(told, a=a, b=b) for told, a, b in fields if a != b), None)


def precision(info: BackendInfo) -> Precision:
    """The number format of an arm's products and convolutions, as its worker proved it; a finer one is float32's."""
    dtype: Precision = next((name for name in ORDER if name == info.dtype), "float32")
    return coarsest(dtype, "tf32" if info.tf32 else "float32")


def common_precision(run: RecordedRun, comparison: Comparison) -> Precision | None:
    """The number format of both arms; None where they differ or are not known, and for float32 on the CPU.

    There nothing else is usual, so that it need not be told.
    """
    workers = {w.arm: BackendInfo(**w.info) for w in run.of(WorkerStarted) if w.role == "measure"}
    infos = [workers[slot] for slot in (comparison.a, comparison.b) if slot in workers]
    found = {precision(info) for info in infos}
    if len(infos) < 2 or len(found) > 1 or (found == {"float32"} and infos[0].device == "cpu"):
        return None
    return found.pop()


def exact_pairs(run: RecordedRun, pair: Comparison) -> list[Comparison]:
    """The declared float32 comparisons of the same two implementations, where a pair is of a coarser format; else none.

    Where those do not compute the same, a coarser format only hides it: they stand as a gate before this pair too.
    """
    declared = run.started.declared.get("comparisons", []) if run.started else []
    formats = {Comparison(one["a"], one["b"]): one.get("precision") for one in declared if not one["selfcheck"]}

    def implementations(one: Comparison) -> set[str]:
        return {run.arms.get(slot, slot).partition(":")[0] for slot in (one.a, one.b)}

    if formats.get(pair) in (None, "float32"):
        return []
    return [one for one, precision in formats.items()
            if precision == "float32" and implementations(one) == implementations(pair)]


def gate_fault(run: RecordedRun, pair: Comparison, results: Sequence[Gate], what: str, both: str, none: str
               ) -> str | None:
    """Why a gate keeps a pair from being compared; None where it lets it pass.

    A pair of a coarser number format needs that of the same implementations in float32 too: its own tolerances are so
    wide that a fault of an implementation may lie within them.

    Args:
        run: what was recorded.
        pair: whose times.
        results: of the gate, oldest first.
        what: it checks, in a word.
        both: the same of arms {a} and {b}.
        none: why there is no result.
    """
    found = {(result.arm_a, result.arm_b): result for result in results}
    for one in (*exact_pairs(run, pair), pair):
        result = found.get((one.a, one.b))
        where = what if one == pair else recorded(both, a=run.arms[one.a], b=run.arms[one.b])
        if result is None or not result.passed:
            return f"{where}: {none if result is None else result.reason}"
    return None


def plain_uuid(uuid: str) -> str:
    """A GPU's UUID without the prefix that some frameworks leave out."""
    return uuid.lower().removeprefix("gpu-")
