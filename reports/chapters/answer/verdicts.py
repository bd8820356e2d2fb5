"""Recorded verdicts in plain words: who is how much faster, at what, how sure, and what to do next."""

from __future__ import annotations

import math

from harness.record.events import SELF_CHECK, BlockState, DatasetRecorded, Verdict
from messages import plural, shown, tell
from reports.page.blocks import Part, VerdictCard
from reports.text import DASH, commas, number, percent, semicolons, sentence, with_interval
from reports.view.run import RunView, is_self_check
from reports.view.windows import pairs_in_blocks
from reports.view.words import (
    batch_words,
    cell_words,
    gain,
    level_words,
    look_words,
    margin_words,
    metric_name,
    outcome,
    pair_words,
    precision_words,
    reason_words,
    turned,
)

FIGURES = {"equivalent": "=", "not-comparable": "\N{NOT EQUAL TO}"}
TONES = {"A-faster": "decided", "B-faster": "decided", "equivalent": "even", "inconclusive": "open"}


def per_what(view: RunView, kind: str | None, cell: str | None) -> str | None:
    """What windows of a kind compare, in words; None where that is not known."""
    known = view.unit.per.get(kind or "")
    if known is None:
        return None
    said = tell(known)
    if not comes_in_cells(view, kind):
        return said
    if view.batch_size:
        said = tell("{per} of {images}", per=said, images=plural(view.batch_size, "image"))
    if cell is not None:
        return commas([said, cell_words(cell)])
    several = plural(len(view.cells), "cell") if view.cells else tell("all cells")
    return commas([said, tell("geometric mean over {cells}", cells=several)])


def ranked(view: RunView) -> list[Verdict]:
    """The recorded verdicts: the main metric, over all cells before each, then others; self-checks last."""

    def rank(verdict: Verdict) -> tuple[bool, bool, bool]:
        return is_self_check(verdict), verdict.kind != view.unit.windows, verdict.cell is not None

    return sorted(view.run.of(Verdict), key=rank)


def cards(view: RunView) -> tuple[VerdictCard, ...]:
    """One card per recorded verdict, in their order."""
    return tuple(card(view, verdict) for verdict in ranked(view))


def comes_in_cells(view: RunView, kind: str | None) -> bool:
    """Whether windows of this kind are about one cell each; they don't pair up by number alone."""
    return bool(view.unit.cell) and kind == view.unit.windows


def over_cells(view: RunView, verdict: Verdict) -> bool:
    """Whether a verdict covers all cells together."""
    return comes_in_cells(view, verdict.kind) and verdict.cell is None


def is_detail(view: RunView, verdict: Verdict) -> bool:
    """Whether a verdict is about one cell and another one tells of all cells together."""
    return verdict.cell is not None and any(over_cells(view, one) for one in view.run.of(Verdict))


def is_minor(view: RunView, verdict: Verdict) -> bool:
    """Whether another verdict on the same arms comes first: of all cells, of the main metric; or none, of a check."""
    first = next(one for one in ranked(view) if (one.arm_a, one.arm_b) == (verdict.arm_a, verdict.arm_b))
    return is_self_check(verdict) or first is not verdict


def noise_floor(view: RunView, verdict: Verdict) -> str | None:
    """Half the width of the self-check's interval for the same metric and first arm, as a share."""
    for check in view.run.of(Verdict):
        same = check.metric == verdict.metric + SELF_CHECK and check.cell == verdict.cell
        if is_self_check(check) and same and check.arm_a == verdict.arm_a:
            width = half_width(check)
            return (tell("Noise floor of this machine, from the arm against itself: {width}", width=width) if width
                    else None)  # fmt: skip
    return None


def half_width(verdict: Verdict) -> str | None:
    """Half the interval's width on the logarithmic scale, in per cent."""
    low, high = verdict.ci_low, verdict.ci_high
    if not low or not high or low <= 0 or not math.isfinite(high):
        return None
    return percent(math.log(high / low) / 2)


def oriented(verdict: Verdict) -> tuple[str, str, float | None, float | None, float | None]:
    """Slots and ratio turned so that the ratio is above 1 where one arm was decided to be faster.

    Returns:
        numerator slot, denominator slot, ratio, low end, high end of the interval.
    """
    above, ratio, low, high = turned(verdict.word, verdict.ratio, verdict.ci_low, verdict.ci_high)
    arms = (verdict.arm_a, verdict.arm_b) if above == "A" else (verdict.arm_b, verdict.arm_a)
    return (*arms, ratio, low, high)


def facing(verdict: Verdict, turned: bool) -> tuple[float, float, float]:
    """Ratio, low and high end of a verdict that has a ratio, B / A where turned; an end not known is the ratio."""
    ratio, ends = verdict.ratio or 1.0, (verdict.ci_low, verdict.ci_high)
    low, high = (end if end is not None and math.isfinite(end) and end > 0 else ratio for end in ends)
    return (1 / ratio, 1 / high, 1 / low) if turned else (ratio, low, high)


def card(view: RunView, verdict: Verdict) -> VerdictCard:
    """One verdict as a card."""
    slow, fast, ratio, low, high = oriented(verdict)
    per = per_what(view, verdict.kind, verdict.cell) or tell("in {metric}", metric=metric_name(verdict.metric))
    what = commas(part for part in (per, precision_words(verdict.precision)) if part)
    detail = is_detail(view, verdict)
    a, b = Part(view.label(verdict.arm_a), verdict.arm_a), Part(view.label(verdict.arm_b), verdict.arm_b)
    said = outcome(verdict.word, a, b, verdict.ratio, verdict.ci_low, verdict.ci_high, what, same_name(view, verdict))
    headline = tuple(Part(piece) if isinstance(piece, str) else piece for piece in said)
    figure = FIGURES.get(verdict.word, "?")
    if verdict.word in ("A-faster", "B-faster") and ratio is not None:
        figure = gain(ratio, low, high)
    elif verdict.word == "inconclusive" and same_name(view, verdict):
        figure = "\N{ALMOST EQUAL TO}"
    more = verdict.further_blocks
    blocks = (tell("To decide it, about {blocks} would be needed", blocks=plural(more, "further block")) if more
              else None)  # fmt: skip
    main = verdict.kind == view.unit.windows and not detail
    facts = (
        evidence(view, verdict, slow, fast, ratio, low, high),
        pair_words(verdict.precision) if main else None,
        reason_words(verdict.reason),
        means(verdict, slow),
        None if detail else certainty(verdict),
        blocks,
        same_arm(view, verdict),
        noise_floor(view, verdict),
        cells(view, verdict),
        None if detail else setting(view),
    )
    return VerdictCard(
        figure,
        headline,
        tuple(sentence(fact) for fact in facts if fact),
        sentence(shown(verdict.next_action)) if verdict.next_action else None,
        verdict.word,
        TONES.get(verdict.word, "refused"),
        is_minor(view, verdict),
    )


def cells(view: RunView, verdict: Verdict) -> str | None:
    """What a cell is, where a verdict covers all of them."""
    if not over_cells(view, verdict) or not view.cells:
        return None
    return tell("A cell is {what}: {cells}", what=tell(view.unit.cell), cells=commas(view.cells))


def evidence(
    view: RunView, verdict: Verdict, above: str, below: str, ratio: float | None, low: float | None, high: float | None
) -> str:
    """The ratio with its interval, blocks, pairs and margin."""
    what = tell("Time of {slow} / time of {fast}", slow=view.label(above), fast=view.label(below))
    pairs, blocks = pairs_per_block(view, verdict), plural(verdict.blocks, "block")
    if pairs:
        blocks = tell("{blocks} of {pairs}", blocks=blocks, pairs=pairs)
    margin, alpha = (value if isinstance(value, float) else None for value in map(view.declared, ("margin", "alpha")))
    if ratio is None:
        return tell("{what}: no ratio recorded, {blocks}", what=what, blocks=blocks)
    level = level_words(verdict.alpha, verdict.look_alpha or alpha, look_words(verdict))
    found = tell("{what}: {ratio}, {interval} over {blocks}", what=what, ratio=with_interval(ratio, low, high),
                 interval=level, blocks=blocks)  # fmt: skip
    if margin is None:
        return found
    return semicolons([found, tell("declared margin {margin}", margin=margin_words(margin))])


def pairs_per_block(view: RunView, verdict: Verdict) -> str | None:
    """How many pairs of windows the blocks of a verdict have: "40 pairs", or "38-40 pairs"."""
    sizes = pairs_in_blocks([arm.table(verdict.kind or "") for arm in view.arms], verdict.cell)
    if not sizes:
        return None
    several = str(min(sizes)) if len(sizes) == 1 else f"{min(sizes)}{DASH}{max(sizes)}"
    pairs = tell("{several} pair", several=several) if several == "1" else tell("{several} pairs", several=several)
    return tell("{pairs} per cell", pairs=pairs) if over_cells(view, verdict) else pairs


def means(verdict: Verdict, above: str) -> str | None:
    """The ratio of means, turned like the ratio; what a job pays, spikes included."""
    mean = verdict.mean_ratio
    if mean is None or not math.isfinite(mean) or mean <= 0:
        return None
    mean = mean if above == verdict.arm_a else 1 / mean
    return tell("Ratio of mean times, spikes included: {ratio}", ratio=f"{mean:.3f}")


def certainty(verdict: Verdict) -> str | None:
    """The exact sign-flip p-value, where the run has one."""
    p = verdict.sign_flip_p
    if p is None or not math.isfinite(p):
        return None
    return tell("Exact sign-flip test: p = {p}", p=number(p, 2))


def same_name(view: RunView, verdict: Verdict) -> bool:
    """Whether both sides of a verdict are the same arm."""
    one, other = view.arm(verdict.arm_a), view.arm(verdict.arm_b)
    return one is not None and other is not None and one.name == other.name


def same_arm(view: RunView, verdict: Verdict) -> str | None:
    """Says so when an arm was measured against itself."""
    if not same_name(view, verdict):
        return None
    width = half_width(verdict)
    if width:
        return tell("This is the same arm twice (A/A), so any difference is noise: half of the interval's width, "
                    "{width}, is this machine's noise floor", width=width)  # fmt: skip
    return tell("This is the same arm twice (A/A), so any difference is noise")


def setting(view: RunView) -> str:
    """Where and with what it was measured: device, preset, batch, data."""
    parts: list[str | None] = [tell(" and ").join(device.upper() for device in view.devices) or None]
    preset, batch, run = view.setting("preset"), batch_words(view.batch_sizes), view.run
    data = run.last(DatasetRecorded)
    own = tell("pair {name}", name=view.pair.name) if view.pair else None
    parts += [own or (tell("preset {name}", name=preset) if preset else None), batch, data.name if data else None]
    dirty = sum(1 for state in run.of(BlockState) if state.dirty)
    if dirty:
        parts.append(tell("{blocks} (kept and flagged)", blocks=plural(dirty, "disturbed block")))
    if not any(parts):
        return tell("Setting not recorded")
    return tell("Measured on {setting}", setting=commas(part for part in parts if part))
