"""Which sentences of a run may be quoted, whole and with their intervals, and which may not, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import Alignment, Finding, Guess, ParityResult, Quality, Share, Verdict
from messages import marked, plural, shown, tell
from reports.chapters.answer import verdicts
from reports.suites.registry import chapters_of
from reports.text import number, sentence
from reports.view.run import RunView, is_self_check
from reports.view.words import DECIDED, reason_words

# A sentence each, whole, with what stands in it by name.
PARITY_PASSED = marked(
    "{other} computes what {one} does, from the same weights and batches: losses of {steps} differ by at most {loss} "
    "relative, the gradients by at most {gradient}."
)
PARITY_FAILED = marked("{other} does not compute what {one} does: {reason}.")
NOT_CHECKED = marked("not checked")
NO_REASON = marked("no reason was recorded")
# Why not.
NOT_ENDED = marked("the run is {status}: it says less than it was to say")
DAMAGED = marked("{lines} of the journal cannot be read")
UNDECIDED = marked("it decides nothing: {reason}")
UNLIKE = marked("the arms must not be compared: {reason}")
SAME_ARM = marked("it is the same arm twice, which tells the noise of the machine")
FOUND = marked("the run has an error: {message}")
GUESSED = marked("the figures that it rests on decide nothing: {reason}")

SAID_SHARES = ("explains", "does-not-explain", "works-against")


@dataclass(frozen=True)
class Quote:
    """A sentence.

    Attributes:
        text: whole, with what it holds for.
        why_not: why it must not be quoted; None where it may be.
    """

    text: str
    why_not: str | None = None


def quotes(seen: RunView) -> list[Quote]:
    """Every sentence that a run could be quoted with: verdicts, parity, layers, image quality, reasons of a gap."""
    run = seen.run
    return [
        *(verdict_quote(part, verdict) for _, part in chapters_of(seen) for verdict in ordered(part)),
        *(parity_quote(seen, result) for result in run.of(ParityResult)),
        *(layers_quote(seen, one) for one in run.of(Alignment)),
        *(quality_quote(seen, one) for one in run.of(Quality)),
        *(share_quote(seen, one) for one in run.of(Share)),
        *(guess_quote(seen, one) for one in run.of(Guess)),
    ]


def limits(seen: RunView) -> list[str]:
    """What a run says nothing about."""
    return list(dict.fromkeys(limit for chapter, _ in chapters_of(seen) for limit in chapter.limits(seen)))


def ordered(seen: RunView) -> list[Verdict]:
    """The verdicts of a part: the main metric first, what covers all cells before each, self-checks last."""
    return sorted(seen.run.of(Verdict),
                  key=lambda one: (is_self_check(one), one.kind != seen.unit.windows, one.cell is not None))


def verdict_quote(seen: RunView, verdict: Verdict) -> Quote:
    """A verdict, with its ratio, interval, blocks, and where it was measured."""
    card = verdicts.card(seen, verdict)
    evidence = verdicts.evidence(seen, verdict, *verdicts.oriented(verdict))
    text = " ".join(map(sentence, (card.sentence, evidence, verdicts.setting(seen))))
    return Quote(text, not_quotable(seen, verdict))


def not_quotable(seen: RunView, verdict: Verdict) -> str | None:
    """Why a verdict must not be quoted; None where it may be."""
    reason = reason_words(verdict.reason) or tell(NO_REASON)
    if verdict.word == "not-comparable":
        return tell(UNLIKE, reason=recorded_reason(verdict.reason))
    if is_self_check(verdict) or verdicts.same_name(seen, verdict):
        return tell(SAME_ARM)
    if verdict.word not in DECIDED:
        more = f"; {shown(verdict.next_action)}" if verdict.next_action else ""
        return tell(UNDECIDED, reason=f"{reason[:1].lower()}{reason[1:]}{more}")
    return unread(seen) or erroneous(seen, (verdict.arm_a, verdict.arm_b))


def unread(seen: RunView) -> str | None:
    """Why nothing of a run should be quoted: it did not end, or its journal is damaged."""
    if seen.run.status not in ("complete", "failed"):
        return tell(NOT_ENDED, status=tell(seen.run.status))
    damage = seen.run.damage
    return tell(DAMAGED, lines=plural(len(damage), "line")) if damage else None


def erroneous(seen: RunView, slots: Iterable[str]) -> str | None:
    """An error that the run found about these arms, or about itself."""
    about = {None, *slots}
    found = [one for one in seen.run.of(Finding) if one.severity == "error" and one.arm in about]
    return tell(FOUND, message=shown(found[0].message)) if found else None


def layers_quote(seen: RunView, one: Alignment) -> Quote:
    """Where two arms part, layer by layer."""
    why = shown(one.reason) if one.word == "not-traced" and one.reason else None
    return Quote(sentence(one.sentence(seen.run.arms)), unread(seen) or why)


def parity_quote(seen: RunView, result: ParityResult) -> Quote:
    """Whether two arms compute the same."""
    one, other = seen.label(result.arm_a), seen.label(result.arm_b)
    if not result.passed:
        return Quote(tell(PARITY_FAILED, one=one, other=other, reason=recorded_reason(result.reason)), unread(seen))
    losses = [abs(value) for value in result.loss_rel_diff]
    loss, gradient = max(losses, default=None), result.gradient_worst_rel
    text = tell(
        PARITY_PASSED, one=one, other=other, steps=plural(len(losses), "matched step"),
        loss=tell(NOT_CHECKED) if loss is None else number(loss, 2),
        gradient=tell(NOT_CHECKED) if gradient is None else number(gradient, 2))
    return Quote(text, unread(seen) or (tell(SAME_ARM) if one == other else None))


def quality_quote(seen: RunView, one: Quality) -> Quote:
    """A distance with its interval and number of images."""
    distance = next((figure for figure in one.figures if figure.metric == "fd"), None)
    found = distance is not None and distance.value is not None
    lost = None if found else recorded_reason(distance.reason if distance else None)
    warned = shown(one.warnings[0]) if one.warnings else None
    return Quote(sentence(one.sentence(seen.label(one.arm))), unread(seen) or lost or warned)


def share_quote(seen: RunView, one: Share) -> Quote:
    """What a cause holds of a gap."""
    decided = one.word in SAID_SHARES and one.ci_low is not None
    why = None if decided else tell(UNDECIDED, reason=shown(one.reason or one.word))
    return Quote(sentence(one.sentence(seen.run.arms)), unread(seen) or why)


def guess_quote(seen: RunView, one: Guess) -> Quote:
    """A common guess held against the run."""
    decided = one.word in ("holds", "does-not-hold")
    why = None if decided else tell(GUESSED, reason=shown(str(one.reason)))
    return Quote(sentence(one.sentence(seen.run.arms)), unread(seen) or why)


def recorded_reason(reason: str | None) -> str:
    """Why, as it was recorded; or that it was not."""
    return shown(reason) if reason else tell(NO_REASON)
