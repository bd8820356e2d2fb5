"""The report in its order: what is said first, what supports it, what to distrust, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from harness.events import Case, ParityResult, Verdict
from harness.store import RecordedRun
from reports import evidence, notes, starts, surroundings, tables, verdicts
from reports.figures import FigureMaker, makers
from reports.model import RunView, view
from reports.page import Block, Code, Prose, Report, Section, Table
from reports.text import Value, missing, utc, with_interval
from reports.timeline import epoch_boundary

RESIDENT = (
    "Every block starts a fresh process of each arm. They stay resident while measured windows alternate "
    "between them, in "
    "an order drawn from a recorded seed, so that what disturbs the machine disturbs all of them."
)
SEQUENTIAL = (
    "Every block starts a fresh process of each arm, one after another, in an order that changes from "
    "block to block. They "
    "were not resident together, so noise of the machine cancels less than with alternating windows."
)
METHOD = (
    "A window ends when all enqueued work is done. A block gives one number, the median of its paired log-ratios; the "
    "verdict is a t interval over blocks, held against the margin declared before the run. Warm-up lasts until a "
    "change-point search calls the step time steady. All steps are kept, outliers too. GFLOP/s are the "
    "analytic cost of "
    "the network, the same count for every arm, over measured time."
)
ORIGIN = "The report is built from the run's journal alone and adds no measurement: verdicts stand as recorded."
MOST_BOUNDARIES = 2


def build(run: RecordedRun, maker: FigureMaker | None = None) -> Report:
    """The whole report of a run; `maker` draws its figures."""
    seen = view(run)
    maker = maker or FigureMaker(seen)
    draw = makers(maker)
    started = run.started
    names = title_names(seen) or "no arm recorded"
    suite = started.suite if started else "unknown suite"
    when = utc(started.started_utc) if started else "start time n/a: the journal's first line cannot be read"
    sections = [
        Section("key-figures", "Key figures", (tables.key_figures(seen),)) if seen.arms else None,
        ratios(seen, maker),
        Section("steps", "Steps and warm-up", (draw["step-times"](), draw["distribution"]())),
        Section("throughput", "Stepwise and free-running", (draw["throughput"](), tables.throughputs(seen))),
        section("epochs", "Epochs", draw["epochs"](), surroundings.epochs(seen)),
        Section("why", "Where the time goes", (tables.where_time_goes(seen), *load(seen, maker, draw)))
        if seen.arms
        else None,
        Section("memory", "Memory", (draw["memory"](),)),
        Section("cold-start", "Cold start", (draw["cold-start"](), starts.cold_start(seen), *break_even(seen))),
        Section("losses", "Loss curves", (draw["losses"](),)),
        parity(seen, maker),
        Section("trust", "Overhead and synchronisation", (evidence.overheads(seen), evidence.sync_proofs(seen))),
        failed(seen),
        section("blocks", "Blocks", surroundings.blocks(seen), folded=True),
        Section("arms", "What differs between the arms", (surroundings.differences(seen),)),
        Section(
            "environment",
            "Environment",
            (surroundings.environment(seen), surroundings.data_and_settings(seen)),
            folded=True,
        ),
        Section("reference", "Reference: published elsewhere", (Prose(REFERENCE), surroundings.reference(seen))),
        reproduce(seen),
    ]
    return Report(
        f"{names}: {suite}",
        when,
        run.path.name,
        run.status,
        verdicts.cards(seen),
        notes.notes(seen),
        tuple(one for one in sections if one is not None),
    )


REFERENCE = (
    "The comparison that this project grew from printed these figures. They come from other hardware, "
    "other versions and "
    "another network (201 million parameters), and no figure of this run is compared with them; its FIDs rest on 1000 "
    "images."
)


def title_names(seen: RunView) -> str:
    """The arms for the title; the copies that a self-check adds are left out."""
    checks = {verdict.arm_b for verdict in seen.run.of(Verdict) if verdicts.is_self_check(verdict)}
    arms = [arm for arm in seen.arms if arm.slot not in checks]
    return " against ".join(arm.name if checks else arm.label for arm in arms)


def section(anchor: str, title: str, *blocks: Block | None, folded: bool = False) -> Section | None:
    """A section of the blocks that exist; None when there are none."""
    present = tuple(block for block in blocks if block is not None)
    return Section(anchor, title, present, folded) if present else None


def ratios(seen: RunView, maker: FigureMaker) -> Section | None:
    """A forest plot per recorded verdict."""
    found = seen.run.of(Verdict)
    if not found:
        return None
    recorded = Table(
        "Verdicts as recorded, time A / time B",
        evidence.head("metric", "A", "B", "ratio", "ratio of means", "blocks", "word"),
        tuple(recorded_row(seen, one) for one in found),
    )
    return Section(
        "ratio",
        "The ratio, block by block",
        (*(maker.forest(verdict, number) for number, verdict in enumerate(found) if worth_drawing(verdict)), recorded),
    )


def worth_drawing(verdict: Verdict) -> bool:
    """All comparisons, and of the self-checks the one that the main metric needs."""
    return not verdicts.is_self_check(verdict) or "free" not in verdict.metric


def recorded_row(seen: RunView, verdict: Verdict) -> tuple[Value, ...]:
    """A verdict exactly as the journal holds it."""
    ratio = with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high)
    reason = verdict.reason or "none recorded"
    mean = Value(f"{verdict.mean_ratio:.3f}") if verdict.mean_ratio is not None else missing("none recorded")
    return (
        Value(verdict.metric),
        Value(seen.label(verdict.arm_a), slot=verdict.arm_a),
        Value(seen.label(verdict.arm_b), slot=verdict.arm_b),
        Value(ratio) if verdict.ratio is not None else missing(reason),
        mean,
        Value(str(verdict.blocks)),
        Value(verdict.word, verdict.reason),
    )


def load(seen: RunView, maker: FigureMaker, draw: Mapping[str, Callable[[], Block]]) -> tuple[Block, ...]:
    """Timeline, what was going on in the troughs, closer looks at windows and at epoch boundaries."""
    boundaries = [maker.boundary(arm) for arm in seen.arms if epoch_boundary(arm)]
    blocks = (
        draw["timeline"](),
        surroundings.low_load(seen),
        draw["timeline-windows"](),
        *boundaries[:MOST_BOUNDARIES],
        surroundings.telemetry_sources(seen),
    )
    return tuple(block for block in blocks if block is not None)


def break_even(seen: RunView) -> tuple[Block, ...]:
    """Only where there are two arms to compare."""
    table = starts.break_even(seen)
    return (table,) if table.rows else ()


def parity(seen: RunView, maker: FigureMaker) -> Section | None:
    """All parity checks, or why there is none."""
    found = seen.run.of(ParityResult)
    if not found:
        if len(seen.arms) < 2:
            return None
        return Section("parity", "Parity", (Prose("Parity: n/a, no check was recorded in this run."),))
    blocks: list[Block] = [
        Prose(
            "Both arms start from the same weights and get the same batches, timesteps and noise, dropout "
            "off. If a figure lies outside its tolerance, no speed verdict is given."
        )
    ]
    for number, result in enumerate(found):
        blocks.append(evidence.parity(seen, result))
        if not result.passed and result.reason:
            blocks.append(Prose(f"Failed: {result.reason}"))
        blocks.append(maker.parity(result, number))
    return Section("parity", "Parity: do both compute the same thing?", tuple(blocks))


def failed(seen: RunView) -> Section | None:
    """Cases that failed or were skipped, each with the end of its log."""
    table = surroundings.failures(seen)
    if table is None:
        return None
    newest = {case.case_id: case for case in seen.run.of(Case)}
    tails = tuple(
        Code("\n".join(case.log_tail), f"Last lines of {case.log or case.case_id}")
        for case in newest.values()
        if case.status == "failed" and case.log_tail
    )
    return Section("failed", "What was not measured", (table, *tails))


def reproduce(seen: RunView) -> Section:
    """The command, the method in brief, and the limits."""
    started = seen.run.started
    blocks: list[Block] = []
    if started:
        blocks.append(Code(shlex.join(started.command), "The command of this run"))
        blocks.append(
            Code(
                shlex.join(["python", "-m", "reports", "build", f"{notes.out(seen)}/{seen.run.path.name}"]),
                "This report again, from its journal",
            )
        )
    else:
        blocks.append(Prose("Command: n/a, the journal's first line cannot be read."))
    order = SEQUENTIAL if seen.bench("schedule") == "sequential" else RESIDENT
    blocks += [Prose(f"{order} {METHOD}"), Prose(ORIGIN)]
    return Section("reproduce", "How to reproduce, method, limits", (*blocks, *(Prose(text) for text in limits(seen))))


def limits(seen: RunView) -> tuple[str, ...]:
    """What this run says nothing about."""
    found = []
    devices = seen.devices
    if devices == ["cpu"]:
        found.append("Not run on hardware here: CUDA. This run measured on the CPU and says nothing about a GPU.")
    elif not devices:
        found.append("No worker proved a device, so this run says nothing about any.")
    found.append("Absolute times belong to this machine and its load; quote ratios with their intervals.")
    if seen.setting("preset") == "tiny":
        found.append(
            "The preset tiny is sized for CPUs: fixed costs per operator weigh more in it than in the paper's network."
        )
    return ("Limits. " + " ".join(found),)
