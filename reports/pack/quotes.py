"""Which sentences of a run may be quoted, whole and with their intervals, and which may not, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.record.events import Alignment, Finding, Guess, ParityResult, Quality, Share, Verdict
from messages import plural
from reports.chapters import verdicts
from reports.suites.registry import chapters_of
from reports.text import number, sentence
from reports.view.run import RunView, is_self_check
from reports.view.words import DECIDED, reason_words

# A sentence each, whole, with what stands in it by name.
PARITY_PASSED = (
    "{other} computes what {one} does, from the same weights and batches: losses of {steps} differ by at most {loss} "
    "relative, the gradients by at most {gradient}."
)
PARITY_FAILED = "{other} does not compute what {one} does: {reason}."
NOT_CHECKED = "not checked"
NO_REASON = "no reason was recorded"
# Why not.
NOT_ENDED = "the run is {status}: it says less than it was to say"
DAMAGED = "{lines} of the journal cannot be read"
UNDECIDED = "it decides nothing: {reason}"
UNLIKE = "the arms must not be compared: {reason}"
SAME_ARM = "it is the same arm twice, which tells the noise of the machine"
FOUND = "the run has an error: {message}"
GUESSED = "the figures that it rests on decide nothing: {reason}"

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
        *(Quote(sentence(one.sentence(run.arms)), unread(seen) or (one.reason if one.word == "not-traced" else None))
          for one in run.of(Alignment)),
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
    reason = reason_words(verdict.reason) or NO_REASON
    if verdict.word == "not-comparable":
        return UNLIKE.format(reason=verdict.reason or NO_REASON)
    if is_self_check(verdict) or verdicts.same_name(seen, verdict):
        return SAME_ARM
    if verdict.word not in DECIDED:
        more = f"; {verdict.next_action}" if verdict.next_action else ""
        return UNDECIDED.format(reason=f"{reason[:1].lower()}{reason[1:]}{more}")
    return unread(seen) or erroneous(seen, (verdict.arm_a, verdict.arm_b))


def unread(seen: RunView) -> str | None:
    """Why nothing of a run should be quoted: it did not end, or its journal is damaged."""
    if seen.run.status not in ("complete", "failed"):
        return NOT_ENDED.format(status=seen.run.status)
    damage = seen.run.damage
    return DAMAGED.format(lines=plural(len(damage), "line")) if damage else None


def erroneous(seen: RunView, slots: Iterable[str]) -> str | None:
    """An error that the run found about these arms, or about itself."""
    about = {None, *slots}
    found = [one for one in seen.run.of(Finding) if one.severity == "error" and one.arm in about]
    return FOUND.format(message=found[0].message) if found else None


def parity_quote(seen: RunView, result: ParityResult) -> Quote:
    """Whether two arms compute the same."""
    one, other = seen.label(result.arm_a), seen.label(result.arm_b)
    if not result.passed:
        return Quote(PARITY_FAILED.format(one=one, other=other, reason=result.reason or NO_REASON), unread(seen))
    losses = [abs(value) for value in result.loss_rel_diff]
    loss, gradient = max(losses, default=None), result.gradient_worst_rel
    text = PARITY_PASSED.format(
        one=one, other=other, steps=plural(len(losses), "matched step"),
        loss=NOT_CHECKED if loss is None else number(loss, 2),
        gradient=NOT_CHECKED if gradient is None else number(gradient, 2))
    return Quote(text, unread(seen) or (SAME_ARM if one == other else None))


def quality_quote(seen: RunView, one: Quality) -> Quote:
    """A distance with its interval and number of images."""
    distance = next((figure for figure in one.figures if figure.metric == "fd"), None)
    lost = (distance.reason if distance else None) or NO_REASON if distance is None or distance.value is None else None
    warned = one.warnings[0] if one.warnings else None
    return Quote(sentence(one.sentence(seen.label(one.arm))), unread(seen) or lost or warned)


def share_quote(seen: RunView, one: Share) -> Quote:
    """What a cause holds of a gap."""
    decided = one.word in SAID_SHARES and one.ci_low is not None
    why = None if decided else UNDECIDED.format(reason=one.reason or one.word)
    return Quote(sentence(one.sentence(seen.run.arms)), unread(seen) or why)


def guess_quote(seen: RunView, one: Guess) -> Quote:
    """A common guess held against the run."""
    decided = one.word in ("holds", "does-not-hold")
    return Quote(sentence(one.sentence(seen.run.arms)),
                 unread(seen) or (None if decided else GUESSED.format(reason=one.reason)))
