"""An alignment of curves as a report: the verdict, the figures, the windows, the files, the method."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from functools import partial

from harness.stats.curves import ALONE, FLOOR, LEVEL, Window
from messages import plural
from reports.curves.aligned import Aligned
from reports.curves.figure import difference, overlay, relative
from reports.page.blocks import Code, Note, Part, Prose, Report, Section, Table, VerdictCard, head
from reports.page.figures import FigureMaker
from reports.page.forest import Forest, Row, on_one_scale
from reports.text import Value, missing, number, one_line, percent, signed_percent, with_interval

LEVEL_WORDS = f"{percent(1 - ALONE * LEVEL)} in all at once"
TONES = {"same": "even", "differs": "refused", "cannot be told": "open"}
FIGURES = {"same": "=", "differs": "\N{NOT EQUAL TO}", "cannot be told": "?"}
FOREST, FOREST_STEPS = "Loss of B / loss of A", "steps {first} to {last}"
FOREST_LEFT, FOREST_RIGHT = "\N{LEFTWARDS ARROW} B's loss is lower", "B's loss is higher \N{RIGHTWARDS ARROW}"
METHOD = (
    "A run is one observation, because its steps are not independent. Its curve becomes the means of {what} over "
    "windows, each twice as long as the one before, so that early and late differences count alike. Under one recipe "
    "all runs have the same distribution. Two tests share the level, so that the chance of any false difference is at "
    "most 5 %: Student's t in each window under Bonferroni, and one of all windows together (Laeuter's standardised "
    "sum), which finds what is small and lasts. A difference of up to {floor} is taken for rounding. Differs from "
    "step n: the windows up to the one that begins at n tell the recipes apart. Same: all intervals lie inside the "
    "margin."
)
PAIRS = (
    "Runs are paired in the order in which they were given where their noise goes together from step to step, as it "
    "does when both train on the same batches; what a pair has in common then cancels. Otherwise they count as "
    "independent."
)


def report(found: Aligned, command: Sequence[str], figures: FigureMaker) -> Report:
    """The whole page.

    Args:
        found: what was judged.
        command: what repeats it.
        figures: draws the curves and how far they are apart.
    """
    drawn = [figures.make("curves", partial(overlay, found)), figures.make("difference", partial(difference, found))]
    what = "the logarithm of the loss" if found.outcome.logarithm else "the loss over its typical size"
    return Report(
        found.sentence,
        found.seeds,
        f"{listed(found.a)} against {listed(found.b)}",
        found.outcome.word,
        (card(found),),
        tuple(notes(found)),
        (
            Section("curves", "Curves", tuple(drawn)),
            Section("windows", "Windows", (windows(found),)),
            Section("files", "Logs", (files(found),)),
            Section("method", "How this is judged",
                    (Prose(METHOD.format(what=what, floor=percent(FLOOR))), Prose(PAIRS),
                     Code(shlex.join(command), "This page again"))),
        ),
        word_label="verdict",
        footer="Built by ddpm-bench from the logs that it names.",
        forests=on_one_scale([forest(found)]),
    )  # fmt: skip


def forest(found: Aligned) -> Forest:
    """All windows in one picture."""
    rows = tuple(forest_row(one, found) for one in found.outcome.windows if math.isfinite(one.difference))
    return Forest(FOREST, FOREST_LEFT, FOREST_RIGHT, rows, relative(found.outcome.margin, found))


def forest_row(one: Window, found: Aligned) -> Row:
    """One window of it."""
    low, ratio, high = (1 + relative(one.difference + by, found) for by in (-one.half_width, 0.0, one.half_width))
    known = math.isfinite(one.half_width)
    word = "differs" if one.differs else inside(one, found)
    tone = {"differs": "decided", "same": "even"}.get(word, "open")
    label = FOREST_STEPS.format(first=one.first, last=one.last)
    text = with_interval(ratio, low if known else None, high if known else None)
    return Row(label, text, word, tone, ratio, low if known else None, high if known else None)


def listed(logs: Sequence[object]) -> str:
    """The logs of a recipe in few words."""
    names = [one_line(getattr(log, "name", "")) for log in logs]
    return names[0] if len(names) == 1 else f"{names[0]} and {plural(len(names) - 1, 'more', 'more')}"


def card(found: Aligned) -> VerdictCard:
    """The verdict."""
    outcome = found.outcome
    known = [one for one in outcome.windows if math.isfinite(one.difference)]
    worst = max(known, key=lambda one: abs(one.difference), default=None)
    facts = [
        None if worst is None else
        f"Largest difference, in steps {worst.first} to {worst.last}: {interval(worst, found)}",
        f"{found.seeds}; {plural(int(found.steps.size), 'step')} in common, {found.steps[0]} to {found.steps[-1]}",
        f"Judged pair by pair: the noise of paired runs goes together (correlation {number(outcome.shared)})"
        if outcome.paired else "Judged as independent runs",
        f"Steps of B are counted {found.shift:+d}" if found.shift else None,
    ]  # fmt: skip
    return VerdictCard(FIGURES[outcome.word], (Part(found.sentence),), tuple(f"{fact}." for fact in facts if fact),
                       f"{found.advice}." if found.advice else None, outcome.word, TONES[outcome.word])


def notes(found: Aligned) -> list[Note]:
    """What to distrust."""
    told = []
    if min(len(found.a), len(found.b)) < 2:
        told.append(Note("warning", "One of the recipes has a single run: what its own seeds scatter is unknown",
                         "run it again with other seeds, or from weights changed by 1e-7 (a perturbed twin)"))
    gone = [one for one in found.outcome.windows if not math.isfinite(one.difference)]
    if gone:
        told.append(Note("warning", f"Losses are not finite in {plural(len(gone), 'window')}",
                         "a recipe of which every run diverges there, and none of the other, differs"))
    told += [Note("warning", f"{one_line(log.name)}: {one}", "see that it is what you meant to compare")
             for log in (*found.a, *found.b) for one in log.remarks]
    kinds = {log.column for log in (*found.a, *found.b)}
    if len(kinds) > 1:
        told.append(Note("info", f"The losses have different names: {', '.join(map(one_line, sorted(kinds)))}",
                         "see that they are averages over the same, and give --column"))
    return told


def windows(found: Aligned) -> Table:
    """Every window."""
    rows = [(Value(f"{one.first} to {one.last}"),
             Value(interval(one, found)) if math.isfinite(one.difference) else missing("not finite in every run"),
             Value(signed_percent(relative(one.spread, found))) if math.isfinite(one.spread)
             else missing("one run has no spread"),
             Value("differs", mark="bad") if one.differs else Value(inside(one, found)))
            for one in found.outcome.windows]
    spread = "spread of pairs" if found.outcome.paired else "spread of runs"
    return Table("B against A", head("steps", f"difference [{LEVEL_WORDS}]", spread, "by itself"), tuple(rows))


def interval(one: Window, found: Aligned) -> str:
    """A difference with its limits."""
    low, high = (relative(one.difference + sign * one.half_width, found) for sign in (-1, 1))
    limits = f"[{signed_percent(low)}, {signed_percent(high)}]" if math.isfinite(one.half_width) else "(no interval)"
    return f"{signed_percent(relative(one.difference, found))} {limits}"


def inside(one: Window, found: Aligned) -> str:
    """What can be said of a window that is not told apart."""
    return "same" if abs(one.difference) + one.half_width <= found.outcome.margin else "open"


def files(found: Aligned) -> Table:
    """The logs, as they were read."""
    rows = [(Value(log.name, slot=slot), Value(log.kind), Value(log.column), Value(str(log.curve.steps.size)),
             Value(f"{log.curve.steps[0]} to {log.curve.steps[-1]}"))
            for slot, logs in (("A", found.a), ("B", found.b)) for log in logs]  # fmt: skip
    return Table("Logs", head("file", "kind", "loss", "points", "steps"), tuple(rows))
