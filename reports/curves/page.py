"""An alignment of curves as a report: the verdict, the figures, the windows, the files, the method."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from functools import partial

from harness.stats.curves import ALONE, FLOOR, LEVEL, Window
from messages import choice, count, marked, plural, tell, words
from reports.curves.aligned import SAID, Aligned
from reports.curves.figure import difference, overlay, relative
from reports.page.blocks import Code, Note, Part, Prose, Report, Section, Table, VerdictCard, head
from reports.page.figures import FigureMaker
from reports.page.forest import Forest, Row, on_one_scale
from reports.text import Value, missing, number, one_line, percent, signed_percent, with_interval

TONES = {"same": "even", "differs": "refused", "cannot be told": "open"}  # English
FIGURES = {"same": "=", "differs": "\N{NOT EQUAL TO}", "cannot be told": "?"}  # English
FOREST, FOREST_STEPS = marked("Loss of B / loss of A"), marked("steps {first} to {last}")
FOREST_LEFT = marked("\N{LEFTWARDS ARROW} B's loss is lower")
FOREST_RIGHT = marked("B's loss is higher \N{RIGHTWARDS ARROW}")
METHOD = marked(
    "A run is one observation, because its steps are not independent. Its curve becomes the means of {what} over "
    "windows, each twice as long as the one before, so that early and late differences count alike. Under one recipe "
    "all runs have the same distribution. Two tests share the level, so that the chance of any false difference is at "
    "most 5 %: Student's t in each window under Bonferroni, and one of all windows together (Laeuter's standardised "
    "sum), which finds what is small and lasts. A difference of up to {floor} is taken for rounding. Differs from "
    "step n: the windows up to the one that begins at n tell the recipes apart. Same: all intervals lie inside the "
    "margin."
)
PAIRS = marked(
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
    what = tell("the logarithm of the loss") if found.outcome.logarithm else tell("the loss over its typical size")
    return Report(
        found.sentence,
        found.seeds,
        tell("{one} against {other}", one=listed(found.a), other=listed(found.b)),
        found.outcome.word,
        (card(found),),
        tuple(notes(found)),
        (
            Section("curves", tell("Curves"), tuple(drawn)),
            Section("windows", tell("Windows"), (windows(found),)),
            Section("files", tell("Logs"), (files(found),)),
            Section("method", tell("How this is judged"),
                    (Prose(tell(METHOD, what=what, floor=percent(FLOOR))), Prose(tell(PAIRS)),
                     Code(shlex.join(command), tell("This page again")))),
        ),
        word_label=tell("verdict"),
        footer=tell("Built by ddpm-bench from the logs that it names."),
        forests=on_one_scale([forest(found)]),
    )  # fmt: skip


def forest(found: Aligned) -> Forest:
    """All windows in one picture."""
    rows = tuple(forest_row(one, found) for one in found.outcome.windows if math.isfinite(one.difference))
    return Forest(tell(FOREST), tell(FOREST_LEFT), tell(FOREST_RIGHT), rows, relative(found.outcome.margin, found))


def forest_row(one: Window, found: Aligned) -> Row:
    """One window of it."""
    low, ratio, high = (1 + relative(one.difference + by, found) for by in (-one.half_width, 0.0, one.half_width))
    known = math.isfinite(one.half_width)
    word = "differs" if one.differs else inside(one, found)
    tone = {"differs": "decided", "same": "even"}.get(word, "open")
    label = tell(FOREST_STEPS, first=one.first, last=one.last)
    text = with_interval(ratio, low if known else None, high if known else None)
    return Row(label, text, tell(SAID[word]), tone, ratio, low if known else None, high if known else None)


def listed(logs: Sequence[object]) -> str:
    """The logs of a recipe in few words."""
    names = [one_line(getattr(log, "name", "")) for log in logs]
    return names[0] if len(names) == 1 else tell("{name} and {n} more", name=names[0], n=count(len(names) - 1))


def card(found: Aligned) -> VerdictCard:
    """The verdict."""
    outcome = found.outcome
    known = [one for one in outcome.windows if math.isfinite(one.difference)]
    worst = max(known, key=lambda one: abs(one.difference), default=None)
    facts = [
        None if worst is None else
        tell("Largest difference, in steps {first} to {last}: {difference}", first=worst.first, last=worst.last,
             difference=interval(worst, found)),
        tell("{runs}; {steps} in common, {first} to {last}", runs=found.seeds,
             steps=plural(int(found.steps.size), "step"), first=found.steps[0], last=found.steps[-1]),
        tell("Judged pair by pair: the noise of paired runs goes together (correlation {correlation})",
             correlation=number(outcome.shared))
        if outcome.paired else tell("Judged as independent runs"),
        tell("Steps of B are counted {shift}", shift=f"{found.shift:+d}") if found.shift else None,
    ]  # fmt: skip
    advice = found.advice
    return VerdictCard(FIGURES[outcome.word], (Part(found.sentence),),
                       tuple(tell("{text}.", text=fact) for fact in facts if fact),
                       tell("{text}.", text=advice) if advice else None, tell(SAID[outcome.word]),
                       TONES[outcome.word])


def notes(found: Aligned) -> list[Note]:
    """What to distrust."""
    told = []
    if min(len(found.a), len(found.b)) < 2:
        told.append(Note(
            "warning", tell("One of the recipes has a single run: what its own seeds scatter is unknown"),
            tell("run it again with other seeds, or from weights changed by 1e-7 (a perturbed twin)")))
    gone = [one for one in found.outcome.windows if not math.isfinite(one.difference)]
    if gone:
        told.append(Note(
            "warning",
            choice(len(gone), "Losses are not finite in {n} window", "Losses are not finite in {n} windows"),
            tell("a recipe of which every run diverges there, and none of the other, differs")))
    told += [Note("warning", tell("{name}: {value}", name=one_line(log.name), value=one),
                  tell("see that it is what you meant to compare"))
             for log in (*found.a, *found.b) for one in log.remarks]
    kinds = {log.column for log in (*found.a, *found.b)}
    if len(kinds) > 1:
        told.append(Note("info", tell("The losses have different names: {names}",
                                      names=", ".join(map(one_line, sorted(kinds)))),
                         tell("see that they are averages over the same, and give --column")))
    return told


def windows(found: Aligned) -> Table:
    """Every window."""
    rows = [(Value(tell("{first} to {last}", first=one.first, last=one.last)),
             Value(interval(one, found)) if math.isfinite(one.difference) else missing(tell("not finite in every run")),
             Value(signed_percent(relative(one.spread, found))) if math.isfinite(one.spread)
             else missing(tell("one run has no spread")),
             Value(tell("differs"), mark="bad") if one.differs else Value(tell(SAID[inside(one, found)])))
            for one in found.outcome.windows]
    between = tell("difference [{level} in all at once]", level=percent(1 - ALONE * LEVEL))
    spread = tell("spread of pairs") if found.outcome.paired else tell("spread of runs")
    return Table(tell("B against A"), head(tell("steps"), between, spread, tell("by itself")), tuple(rows))


def interval(one: Window, found: Aligned) -> str:
    """A difference with its limits."""
    low, high = (relative(one.difference + sign * one.half_width, found) for sign in (-1, 1))
    middle = signed_percent(relative(one.difference, found))
    if not math.isfinite(one.half_width):
        return tell("{ratio} (no interval)", ratio=middle)
    return f"{middle} [{signed_percent(low)}, {signed_percent(high)}]"


def inside(one: Window, found: Aligned) -> str:
    """What can be said of a window that is not told apart."""
    return "same" if abs(one.difference) + one.half_width <= found.outcome.margin else "open"


def files(found: Aligned) -> Table:
    """The logs, as they were read."""
    rows = [(Value(log.name, slot=slot), Value(tell(log.kind)), Value(log.column), Value(str(log.curve.steps.size)),
             Value(tell("{first} to {last}", first=log.curve.steps[0], last=log.curve.steps[-1])))
            for slot, logs in (("A", found.a), ("B", found.b)) for log in logs]  # fmt: skip
    return Table(tell("Logs"), head(*words("file", "kind", "loss", "points", "steps")), tuple(rows))
