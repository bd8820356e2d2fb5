"""The report in its order: what is said first, what supports it, what to distrust, how to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.record.events import Case, ParityResult, Verdict
from harness.record.run import RecordedRun
from reports.chapters import (
    findings as notes,
)
from reports.chapters import (
    key_figures as tables,
)
from reports.chapters import (
    machine as surroundings,
)
from reports.chapters import (
    method,
    starts,
    verdicts,
)
from reports.chapters import (
    trust as evidence,
)
from reports.page.blocks import Block, Code, Prose, Report, Section, Table
from reports.page.figures import FigureMaker, makers
from reports.suites.quality import cards as quality_cards
from reports.suites.quality import chapter as sections_quality
from reports.suites.quality import facts as quality
from reports.suites.sampling import chapter as sections_sampling
from reports.suites.sampling import tables as tables_sampling
from reports.suites.sampling.facts import part_of
from reports.text import Value, missing, utc, with_interval
from reports.view import recorded
from reports.view.parts import halves, whole
from reports.view.run import RunView, is_self_check
from reports.view.timeline import epoch_boundary
from reports.view.words import SAMPLING

MOST_BOUNDARIES = 2


def build(run: RecordedRun, maker: FigureMaker | None = None) -> Report:
    """The whole report of a run; `maker` draws its figures."""
    seen = whole(run)
    maker = maker or FigureMaker(seen)
    draw = makers(maker)
    started = run.started
    names = title_names(seen) or "no arm recorded"
    suite = started.suite if started else "unknown suite"
    when = utc(started.started_utc) if started else "start time n/a: the journal's first line cannot be read"
    parts = halves(seen)
    # Two halves would give their figures and sections the same names.
    own = [replace(maker, view=half, prefix=f"{half.unit.doing}-" if len(parts) > 1 else "") for half in parts]
    sections = [
        *(told for half in own for told in named(own_sections(half.view, half), half)),
        *sections_quality.sections(seen, maker),
        *(shared(seen, maker, draw) if len(parts) > 1 else ()),
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
        Section("reference", "Reference: published elsewhere", (Prose(reference(seen)), surroundings.reference(seen))),
        method.reproduce(seen),
    ]
    present = [one for one in sections if one is not None]
    only_quality = quality.alone(run)
    return Report(
        f"{names}: {suite}",
        when,
        run.path.name,
        run.status,
        (*(card for half in parts for card in verdicts.cards(half)), *quality_cards.cards(seen)),
        notes.notes(seen),
        tuple(recorded.told(present, run) if only_quality else present),
    )


def named(sections: Sequence[Section | None], half: FigureMaker) -> list[Section]:
    """The sections of one half of a run; where there are two halves, named after theirs."""
    present = [one for one in sections if one is not None]
    if not half.prefix:
        return present
    what = half.view.unit.doing.capitalize()
    return [replace(one, anchor=f"{half.prefix}{one.anchor}", title=f"{what}: {lowered(one.title)}") for one in present]


def lowered(title: str) -> str:
    """A title inside a sentence."""
    return title[:1].lower() + title[1:]


def own_sections(seen: RunView, maker: FigureMaker) -> list[Section | None]:
    """What a run tells of its training or of its sampling."""
    draw, step = makers(maker), seen.unit.step
    samples = seen.unit is SAMPLING
    suspects = tables_sampling.where_time_goes(seen) if samples else tables.where_time_goes(seen)
    figures = sections_sampling.key_figures(seen) if samples else (tables.key_figures(seen),)
    # Halves have one timeline and one memory, shown once for both.
    alone = not maker.prefix
    timeline = load(seen, maker, draw) if alone else ()
    return [
        Section("key-figures", "Key figures", figures) if seen.arms else None,
        ratios(seen, maker),
        *(sections_sampling.sections(seen, draw) if samples else ()),
        Section("steps", f"{step.capitalize()}s and warm-up", (draw["step-times"](), draw["distribution"]())),
        *(() if samples else training(seen, draw)),
        Section("why", "Where the time goes", (suspects, *timeline)) if seen.arms else None,
        Section("memory", "Memory", (draw["memory"](),)) if alone else None,
        Section("cold-start", "Cold start", (draw["cold-start"](), starts.cold_start(seen), *break_even(seen))),
        None if samples else Section("losses", "Loss curves", (draw["losses"](),)),
        parity(seen, maker),
    ]


def shared(seen: RunView, maker: FigureMaker, draw: Mapping[str, Callable[[], Block]]) -> tuple[Section, ...]:
    """What two halves of a run have in common."""
    return (
        Section("timeline", "Timeline", load(seen, maker, draw)),
        Section("memory", "Memory", (draw["memory"](),)),
    )


def training(seen: RunView, draw: Mapping[str, Callable[[], Block]]) -> tuple[Section | None, ...]:
    """Throughput and epochs, which sampling has not."""
    return (
        Section("throughput", "Stepwise and free-running", (draw["throughput"](), tables.throughputs(seen))),
        section("epochs", "Epochs", draw["epochs"](), surroundings.epochs(seen)),
    )


REFERENCE = (
    "The comparison that this project grew from printed these figures. They come from other hardware, other versions "
    "and another network (201 million parameters), and no figure of this run is compared with them"
)


def reference(seen: RunView) -> str:
    """What the published figures are worth."""
    if seen.unit is SAMPLING:
        return f"{REFERENCE}; the times per network call are its times divided by the number of calls."
    return f"{REFERENCE}; its FIDs rest on 1000 images."


def title_names(seen: RunView) -> str:
    """The arms for the title; the copies that a self-check adds are left out."""
    checks = {verdict.arm_b for verdict in seen.run.of(Verdict) if is_self_check(verdict)}
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
    cells = seen.unit is SAMPLING
    recorded = Table(
        "Verdicts as recorded, time A / time B",
        evidence.head("metric", *(("cell",) if cells else ()), "A", "B", "ratio", "ratio of means", "blocks", "word"),
        tuple(recorded_row(seen, one) for one in found),
    )
    by_block = (maker.forest(verdict, number) for number, verdict in enumerate(found) if worth_drawing(verdict, found))
    return Section(
        "ratio",
        "The ratio, cell by cell" if cells else "The ratio, block by block",
        (*(sections_sampling.cell_ratios(maker, found) if cells else ()), *by_block, recorded),
    )


def worth_drawing(verdict: Verdict, found: Sequence[Verdict]) -> bool:
    """All comparisons but those of cells, and of the self-checks the one that the main metric needs."""
    if cells_drawn(found) and part_of(verdict) in ("mean", "cell"):
        return False
    return not is_self_check(verdict) or "free" not in verdict.metric


def cells_drawn(found: Sequence[Verdict]) -> bool:
    """Whether a figure over cells shows the blocks too, so that cells need none of their own."""
    return any(part_of(verdict) == "cell" for verdict in found)


def recorded_row(seen: RunView, verdict: Verdict) -> tuple[Value, ...]:
    """A verdict exactly as the journal holds it."""
    ratio = with_interval(verdict.ratio, verdict.ci_low, verdict.ci_high)
    reason = verdict.reason or "none recorded"
    mean = Value(f"{verdict.mean_ratio:.3f}") if verdict.mean_ratio is not None else missing("none recorded")
    return (
        Value(verdict.metric),
        *((Value(verdict.cell or "all"),) if seen.unit is SAMPLING else ()),
        Value(seen.label(verdict.arm_a), slot=verdict.arm_a),
        Value(seen.label(verdict.arm_b), slot=verdict.arm_b),
        Value(ratio) if verdict.ratio is not None else missing(reason),
        mean,
        Value(str(verdict.blocks)),
        Value(verdict.word, verdict.reason),
    )


def load(seen: RunView, maker: FigureMaker, draw: Mapping[str, Callable[[], Block]]) -> tuple[Block, ...]:
    """Timeline, what was going on in the troughs, closer looks at windows and at epoch boundaries."""
    timed = maker.on_one_clock
    boundaries = [timed.boundary(arm) for arm in timed.view.arms if epoch_boundary(arm)]
    blocks = (
        draw["timeline"](),
        surroundings.low_load(timed.view),
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
        if len(seen.arms) < 2 or seen.unit is SAMPLING:
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
