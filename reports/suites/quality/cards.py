"""What a run says about image quality, in sentences: each with its interval, and none that the interval won't carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.record.events import Quality, QualityDifference
from messages import choice, marked, plural, shown, tell
from reports.page.blocks import Note, Part, VerdictCard
from reports.page.told import FIRST, SECOND, headline
from reports.suites.quality import facts as quality
from reports.suites.quality.facts import (
    Estimate,
    ImageSet,
    apart,
    away_from_zero,
    parts,
    told,
    training_words,
)
from reports.text import commas, semicolons, sentence
from reports.view.run import ArmView, RunView
from reports.view.words import short_cell

SAME = marked("The same weights in both arms: a difference comes from drawing alone")
OWN = marked(
    "Each arm's own weights, one training each: the interval covers the choice of images, not the luck of a training, "
    "so it doesn't say which framework trains better"
)


def cards(view: RunView) -> tuple[VerdictCard, ...]:
    """Per distance: one card for every arm, then one for every pair of arms."""
    found: list[VerdictCard] = []
    for label in quality.labels(view.run):
        everything = quality.image_sets(view, label)
        sets = quality.final(everything)
        arms = dict.fromkeys(one.arm.slot for one in sets)
        found += [card for slot in arms if (card := arm_card(view, label, slot, sets, everything))]
        found += pair_cards(view, label, quality.final_steps(everything))
    return tuple(found)


def arm_card(
    view: RunView, label: str, slot: str, sets: Sequence[ImageSet], everything: Sequence[ImageSet]
) -> VerdictCard | None:
    """How one arm's distance changes with the network calls; None where it has no distance."""
    known = [one for one in sets if one.arm.slot == slot and one.figure("fd").value is not None]
    if not known:
        return None
    arm = known[0].arm
    curve = [one for one in known if one.is_ddim] or known
    few, many = curve[0], curve[-1]
    whose = tell("{label} of {arm}", label=label, arm=FIRST)
    if few is many:
        tone, said = "even", tell("{what} is {value} ({cell})", what=whose, value=told(many.figure("fd")),
                                  cell=short_cell(many.cell))  # fmt: skip
    else:
        tone, said = change(whose, few.figure("fd"), many.figure("fd"), short_cell(few.cell), short_cell(many.cell))
    others = [one for one in known if one not in (few, many)]
    facts = [
        None if few is many else listed([few, many]),
        tell("Also {sets}", sets=listed(others)) if others else None,
        over_training(arm, many, everything),
        protocol(many),
        warned(known),
    ]
    return VerdictCard(parts(many.figure("fd"))[0], headline(said, Part(arm.label, slot)), whole(facts), None, "", tone)


def listed(sets: Sequence[ImageSet]) -> str:
    """The distance of each of these sets."""
    return each((one.cell, one.figure("fd")) for one in sets)


def each(figures: Iterable[tuple[str, Estimate]]) -> str:
    """Figures with their cells."""
    return commas(tell("{name}: {value}", name=short_cell(cell), value=told(one)) for cell, one in figures)


def change(what: str, one: Estimate, other: Estimate, before: str, after: str) -> tuple[str, str]:
    """Tone and words for a change of something from one figure to another, if their intervals carry one."""
    first, last = parts(one)[0], parts(other)[0]
    separate = apart(one, other)
    if separate is None:
        return "open", tell(
            "{what} is {first} ({before}) and {last} ({after}); without intervals, no change is claimed",
            what=what, first=first, before=before, last=last, after=after,
        )  # fmt: skip
    if not separate:
        return "open", tell(
            "{what} cannot be told apart between {before} and {after}: {first} and {last}, the intervals overlap",
            what=what, before=before, after=after, first=first, last=last,
        )  # fmt: skip
    if (other.value or 0.0) < (one.value or 0.0):
        return "decided", tell("{what} falls from {first} ({before}) to {last} ({after})", what=what, first=first,
                               before=before, last=last, after=after)  # fmt: skip
    return "decided", tell("{what} rises from {first} ({before}) to {last} ({after})", what=what, first=first,
                           before=before, last=last, after=after)  # fmt: skip


def over_training(arm: ArmView, last: ImageSet, everything: Sequence[ImageSet]) -> str | None:
    """The same over the length of training, where there are several."""
    steps = [
        one for one in everything
        if one.arm.slot == arm.slot and one.cell == last.cell and one.figure("fd").value is not None
    ]  # fmt: skip
    if len(steps) < 2:
        return None
    first = steps[0]
    begin, end = training_words(first.train_steps), training_words(last.train_steps)
    what = tell("Over training, {cell}:", cell=short_cell(last.cell))
    return change(what, first.figure("fd"), last.figure("fd"), begin, end)[1]


def protocol(one: ImageSet) -> str:
    """N, training and weights of a set in one line."""
    kind = quality.weights_words(one.sampled) if one.sampled else None
    facts = [plural(one.images, "image") if one.images else None, training_words(one.train_steps), kind]
    return tell("Lower is nearer to the reference images; {facts}", facts=commas(filter(None, facts)))


def warned(sets: Sequence[ImageSet]) -> str | None:
    """All warnings about these sets, each once."""
    found = quality.warnings(sets)
    return tell("Warning: {warnings}", warnings=semicolons(map(shown, found))) if found else None


def pair_cards(view: RunView, label: str, steps: int | None) -> list[VerdictCard]:
    """One card per pair of arms at the longest training: the cell of most network calls, the others below it."""
    pairs: dict[tuple[str, str], list[QualityDifference]] = {}
    for one in quality.differences(view, label):
        if one.train_steps == steps and quality.sound(one.value):
            pairs.setdefault((one.arm_a, one.arm_b), []).append(one)
    calls = {one.cell: (one.is_ddim, one.calls or 0) for one in quality.image_sets(view, label)}
    return [
        pair_card(view, label, sorted(group, key=lambda one: calls.get(one.cell, (False, 0)))[::-1])
        for group in pairs.values()
    ]


def pair_card(view: RunView, label: str, group: Sequence[QualityDifference]) -> VerdictCard:
    """Two arms: do their distances differ?"""
    main, *others = group
    found, where = difference(main), short_cell(main.cell)
    one, other = Part(view.label(main.arm_a), main.arm_a), Part(view.label(main.arm_b), main.arm_b)
    separate = away_from_zero(found)
    if separate:
        low, high = (one, other) if main.value < 0 else (other, one)
        size = told(found if main.value > 0 else flipped(found))
        tone, in_words = "decided", headline(tell(
            "{label} of {low} is lower than that of {high} by {size} at {cell}", label=label, low=FIRST,
            high=SECOND, size=size, cell=where), low, high)  # fmt: skip
    else:
        arms = {"one": FIRST, "other": SECOND}
        tone, in_words = "open", headline(
            tell("{one} and {other} differ by {size} in {label} at {cell} and cannot be told apart: the interval "
                 "holds 0", **arms, size=told(found), label=label, cell=where)
            if separate is False else
            tell("{one} and {other} differ by {size} in {label} at {cell}: no interval was recorded, so no difference "
                 "is claimed", **arms, size=told(found), label=label, cell=where),
            one, other,
        )  # fmt: skip
    facts = [
        tell("Differences are {one} less {other}, image i of both from the same noise; {images}, {training}",
             one=view.label(main.arm_a), other=view.label(main.arm_b), images=plural(main.images, "image"),
             training=training_words(main.train_steps)),
        tell("Also {sets}", sets=each((one.cell, difference(one)) for one in others)) if others else None,
        tell(SAME if main.matched_weights else OWN),
    ]  # fmt: skip
    figure = parts(found)[0] if separate else "\N{ALMOST EQUAL TO}" if separate is False else "?"
    return VerdictCard(figure, in_words, whole(facts), None, "", tone)


def difference(one: QualityDifference) -> Estimate:
    """A recorded difference."""
    return quality.estimate(one.value, one.ci_low, one.ci_high)


def flipped(found: Estimate) -> Estimate:
    """The difference the other way round."""
    low, high = found.bounds or (None, None)
    value = None if found.value is None else -found.value
    return Estimate(value, None if high is None else -high, None if low is None else -low)


def whole(facts: Sequence[str | None]) -> tuple[str, ...]:
    """The facts that there are, as sentences."""
    return tuple(sentence(fact) for fact in facts if fact)


def notes(view: RunView) -> list[Note]:
    """Warnings about sets of images, each once with the number of sets."""
    lines = view.run.of(Quality)
    counted: dict[str, list[Quality]] = {}
    for line in lines:
        for warning in dict.fromkeys(line.warnings):
            counted.setdefault(warning, []).append(line)
    return [Note("warning", shown(warning), where=place(view, group, len(lines)))
            for warning, group in counted.items()]  # fmt: skip


def place(view: RunView, group: Sequence[Quality], of: int) -> str:
    """Which sets a warning is about."""
    if len(group) > 1:
        return choice(of, "{some} of {n} set of images", "{some} of {n} sets of images", some=len(group))
    steps = [training_words(group[0].train_steps)] if group[0].train_steps is not None else []
    return commas([view.label(group[0].arm), short_cell(group[0].cell), *steps])
