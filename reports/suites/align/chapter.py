"""The chapter on the first layer at which two arms part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import Alignment, PartName
from messages import choice, marked, plural, shown, tell
from reports.chapters.chapter import Chapter, devices
from reports.page.blocks import Part, Section, VerdictCard
from reports.page.figures import FigureMaker
from reports.page.told import FIRST, SECOND, headline
from reports.suites.align import tables, tree
from reports.text import commas, sentence
from reports.view.run import RunView

METHOD = marked(
    "Both arms start from the same weights and take the same batch, timesteps and noise, dropout off. Every "
    "module is looked into twice: as the network runs, and fed, when each call is made once more, alone, with the "
    "reference's inputs and gradients, so that one fault does not hide the next. A module whose inputs agree and whose "
    "outputs do not is the first culprit; then come the loss, gradients from the end to the beginning, the optimiser "
    "fed with the reference's gradients, and whole steps."
)
ALLOWED = marked(
    "What a layer may differ by is measured: sixteen times the largest difference of the reference from its own twins, "
    "one in float64 and one with weights, inputs and gradients off by 1e-7 of themselves, and eight roundings of the "
    "largest number. With a coarser number format it grows as that format's rounding does. Of each weight's update the "
    "1024 elements with the smallest gradients are compared, and 1024 spread evenly."
)
KINKED = marked(
    "A gradient that differs at few of its elements, one in a hundred or two of them, is no fault where each of them "
    "is seen at a kink, as of ReLU or max-pool: by rounding its number has another sign, or lies at a bound, or is the "
    "larger of two, in one arm alone; and where every module agrees when it is fed. What holds a kink or lies behind "
    "it is compared by norms: it may differ by sixteen times the share by which the gradient at the kink does, but by "
    "no more than half."
)


@dataclass(frozen=True)
class Align(Chapter):
    """Layers side by side."""

    part: PartName = marked("align")

    def cards(self, seen: RunView) -> Iterable[VerdictCard]:
        """Every pair: the culprit, or that all layers agree."""
        for one in seen.run.of(Alignment):
            yield card(seen, one)

    def sections(self, seen: RunView, figures: FigureMaker) -> Iterable[Section | None]:
        """Every pair: its tree, what it was held to, and all layers."""
        found = seen.run.of(Alignment)
        for number, one in enumerate(found):
            more = f"-{number + 1}" if number else ""
            names = tell(": {a} and {b}", a=seen.label(one.arm_a), b=seen.label(one.arm_b)) if len(found) > 1 else ""
            yield tree.section(seen, one, f"layers{more}", names)
            yield tables.training(one, f"training{more}", names)
            yield tables.layers(seen, one, f"all-layers{more}", names)

    def method(self, seen: RunView) -> Iterable[str]:
        """How layers are held against one another, and what is allowed."""
        yield from (tell(METHOD), tell(ALLOWED))
        if any(one.kinks for one in seen.run.of(Alignment)):
            yield tell(KINKED)

    def limits(self, seen: RunView) -> Iterable[str]:
        """What no module shows."""
        yield from devices(seen)
        yield tell("A function that no module calls is seen between two modules, not by itself.")


def card(seen: RunView, one: Alignment) -> VerdictCard:
    """What a pair's comparison says."""
    a, b = Part(seen.label(one.arm_a), one.arm_a), Part(seen.label(one.arm_b), one.arm_b)
    facts = [sentence(tell("What the arrays bear out: {hint}", hint=shown(hint))) for hint in one.hints]
    if one.word == "not-traced":
        text = tell("Layers of {a} and {b} were not compared", a=FIRST, b=SECOND)
        reason = shown(one.reason) if one.reason else tell("no reason recorded")
        return VerdictCard("?", headline(text, a, b), (sentence(reason),), None, one.word, "refused")
    if one.culprit is None:
        held = tell("{calls} compared, {figures} of training",
                    calls=plural(one.compared, "call of a module", "calls of modules"),
                    figures=plural(len(one.training), "figure"))
        text = tell("All layers of {a} and {b} agree", a=FIRST, b=SECOND)
        kinks = one.excused()
        said = (sentence(held), *([sentence(tell("No fault: {kink}", kink=kinks))] if kinks else []))
        return VerdictCard("=", headline(text, a, b), said, None, one.word, "even")
    facts.insert(0, sentence(tell("{stage}: {place}", stage=tell(STAGES[one.culprit.stage]),
                                  place=tree.place_of(one.culprit.place))))
    if one.further:
        facts.append(sentence(choice(len(one.further), "{n} more module differs when fed: {modules}",
                                     "{n} more modules differ when fed: {modules}",
                                     modules=commas(map(shown, one.further[:3])))))
    text = tell("{a} and {b} part first in {where}", a=FIRST, b=SECOND, where=shown(one.culprit.where))
    return VerdictCard("\N{NOT EQUAL TO}", headline(text, a, b), tuple(facts), None, one.word, "decided")


STAGES = {
    "input": marked("Going in"), "forward": marked("Forward: inputs agree, outputs do not"),
    "loss": marked("Outputs agree, the loss does not"),
    "backward": marked("Forward all agrees; backwards this is the first that does not"),
    "optimizer": marked("All layers agree, forward and backward; the update does not"),
    "steps": marked("Layers and optimiser agree; whole steps do not")}
