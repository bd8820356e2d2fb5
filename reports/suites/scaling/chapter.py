"""The chapter on ranks: what more of them bring, what that is made of, and what a model of the network expects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from harness.record.events import GroupStarted, PartName, Predicted, Scaled, Verdict
from messages import marked, plural, tell
from reports.chapters.answer import verdicts
from reports.chapters.chapter import TINY, Chapter, devices
from reports.page.blocks import Part, Prose, Section, VerdictCard
from reports.page.blocks import section as section_of
from reports.page.figures import FigureMaker
from reports.suites.scaling import tables
from reports.text import TIMES, number, percent, sentence, with_interval
from reports.view.run import RunView
from reports.view.words import Unit

UNIT = Unit(windows="scaled", per={"scaled": marked("per training step")},
            cell=marked("ranks, and whether the batch grows with them"))
# Stands for an arm's name in a sentence until it gets its colour.
HOLE = "\ue000"
METHOD = marked(
    "Every block starts fresh processes of every size and arm, which take turns in one window after another; those "
    "that wait sleep at a socket. Strong: the batch is that of all ranks together; weak: of each. On one host a "
    "group's time goes from its first start to its last end, on several it is the slowest rank's. Speed-up is images "
    "per second over those of one process in the same pair of windows; intervals are Student's t over blocks, of "
    "logarithms."
)
COMMUNICATION = marked(
    "Exposed communication is the share of a step that is gone where gradients are not averaged: in windows beside, in "
    "the same processes, each rank trains for itself. The slowest rank is told from these, since else all wait for it. "
    "Bus bandwidth is that of nccl-tests, V / t \N{MULTIPLICATION SIGN} 2 (N \N{MINUS SIGN} 1) / N, of a sum of as "
    "many numbers as there are gradients, with nothing else running."
)
GATE = marked(
    "Before anything is timed, 10 matched steps of every size must give one process's losses within 1e-5 and equal "
    "weights, averaged weights and moments on all ranks, by their hashes; dropout is off in them. No figure of a size "
    "that fails is shown."
)
PREDICTION = marked(
    "Dashed lines are a prediction, not a measurement: the part of a step that stays, plus the part divided among "
    "the ranks where the batch is shared, and behind them a sum over all ranks, of which nothing is hidden. Both parts "
    "are told from steps in which nothing is averaged, at the most ranks that were measured, of the whole batch on "
    "each rank and of its share: what these ranks take from one another is in them, and at that size the sum alone is "
    "predicted."
)
# Of runs that were judged before a step had two parts.
DIVIDED = marked(
    "Dashed lines are a prediction, not a measurement: one rank's time, divided among the ranks where the batch is "
    "shared, and behind it a sum over all of them, of which nothing is hidden. It leaves out what stays of a step "
    "however small a rank's share is, and what ranks on one machine take from one another, so that it may lie far "
    "above what is measured."
)
NETWORK = marked(
    "A sum costs a ring, 2 (N \N{MINUS SIGN} 1) (a + V / (N B)), or a tree, 2 log\N{SUBSCRIPT TWO} N a + 2 V / B, "
    "whichever is cheaper. Latency a and bandwidth B are fitted to sums of a short and of a long message at the most "
    "ranks that were measured; the prediction takes it that any number of ranks works and is joined as these."
)


@dataclass(frozen=True)
class Scaling(Chapter):
    """Groups of ranks."""

    part: PartName = marked("scaling")
    unit: Unit = UNIT

    def cards(self, seen: RunView) -> Iterable[VerdictCard]:
        """What the most ranks bring each arm, then the arms against each other there."""
        found = seen.run.of(Scaled)
        most = max((one.size for one in found), default=0)
        for one in found:
            if one.size == most and one.mode == "strong":
                yield card(seen, one)
        for verdict in seen.run.of(Verdict):
            if verdict.cell == f"strong-{most}":
                yield verdicts.card(seen, verdict)

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """The picture and its figures, what a step is made of, the arms, the gate, the prediction."""
        from reports.suites.parity import gate
        from reports.suites.scaling import figures as drawn

        yield section_of("speed-up", tell("Speed-up"), figures.make("speed-up", partial(drawn.speedup, seen)),
                         tables.speedups(seen))
        yield section_of("step", tell("Where a step goes"), figures.make("step", partial(drawn.steps, seen)),
                         tables.communication(seen))
        yield section_of("arms-by-ranks", tell("The arms at every size"), tables.arms(seen))
        yield gate.section(seen, figures)
        yield section_of("ranks-gate", tell("Whether ranks train as one process"), tables.gate(seen))
        yield prediction(seen)
        yield section_of("groups", tell("Groups"), tables.groups(seen), folded=True)

    def method(self, seen: RunView) -> Iterable[str]:
        """How ranks are measured, and what communication is."""
        return tell(METHOD), tell(COMMUNICATION), tell(GATE)

    def limits(self, seen: RunView) -> Iterable[str]:
        """Devices, one host, a small preset."""
        yield from devices(seen)
        if len({host for group in seen.run.of(GroupStarted) if group.size > 1 for host in group.hosts}) == 1:
            yield tell("All ranks ran on one host: this run says nothing about a network between hosts.")
        if seen.setting("preset") == "tiny":
            yield tell(TINY)


def card(seen: RunView, one: Scaled) -> VerdictCard:
    """What so many ranks bring an arm."""
    name = Part(seen.label(one.arm), one.arm)
    if one.speedup is None or one.efficiency is None:
        said = tell("What {ranks} bring {arm} is not known", ranks=plural(one.size, "rank"), arm=HOLE)
        return VerdictCard("?", headline(said, name), (sentence(tables.why(one)),), None, "", "refused")
    factor = with_interval(one.speedup.value, one.speedup.ci_low, one.speedup.ci_high)
    facts = [tell("Speed-up {factor} over one process, {blocks}; efficiency {efficiency}.", factor=factor,
                  blocks=plural(one.blocks, "block"), efficiency=percent(one.efficiency.value))]
    if one.exposed is not None:
        share = tables.percentage(one.exposed, one)
        facts.append(tell("Communication is {share} of a step ({limits}).", share=share.text, limits=share.note)
                     if share.note else tell("Communication is {share} of a step.", share=share.text))
    said = tell("{arm} trains {factor} times as fast on {ranks} ranks as on one, the batch shared", arm=HOLE,
                factor=number(one.speedup.value), ranks=one.size)
    return VerdictCard(f"{number(one.speedup.value)}{TIMES}", headline(said, name), tuple(facts), None, "",
                       "decided" if decided(one) else "open")


def headline(said: str, name: Part) -> tuple[Part, ...]:
    """A sentence in parts, with an arm in its hole."""
    before, after = said.split(HOLE)
    return tuple(part for part in (Part(before), name, Part(after)) if part.text)


def decided(one: Scaled) -> bool:
    """Whether the interval leaves 1 out."""
    return one.speedup is not None and one.speedup.ci_low is not None and one.speedup.ci_high is not None and (
        one.speedup.ci_low > 1 or one.speedup.ci_high < 1)


def prediction(seen: RunView) -> Section | None:
    """What the dashed lines rest on, and from where on more ranks bring nothing."""
    known = seen.run.of(Predicted)
    if not known:
        return None
    told = DIVIDED if any(one.fixed_ns is None for one in known) else PREDICTION
    return section_of("prediction", tell("Prediction"), Prose(tell(told)), Prose(tell(NETWORK)), tables.constants(seen),
                      *(Prose(paying(seen, one)) for one in known))


def paying(seen: RunView, one: Predicted) -> str:
    """From which size on more ranks bring nothing, as far as the prediction goes."""
    most = max((point.size for point in one.points if point.mode == "strong"), default=1)
    name, stops = seen.label(one.arm), one.stops_paying
    if stops is None:
        return tell("{arm}: predicted to gain from every doubling up to {ranks}, one for each image.", arm=name,
                    ranks=plural(most, "rank"))
    return tell("{arm}: predicted to gain nothing by more than {ranks} while the batch is shared.", arm=name,
                ranks=plural(stops, "rank"))
