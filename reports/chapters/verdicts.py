"""Recorded verdicts in plain words: who is how much faster, at what, how sure, and what to do next."""

from __future__ import annotations

import math
from collections import Counter

from harness.record.events import SELF_CHECK, BlockState, DatasetRecorded, Verdict
from impls.recipe.precision import WORDS
from messages import plural
from reports.page.blocks import Part, VerdictCard
from reports.text import DASH, number, percent, sentence, with_interval
from reports.view.run import RunView, is_self_check
from reports.view.words import (
    batch_words,
    cell_words,
    gain,
    level_words,
    look_words,
    margin_words,
    outcome,
    pair_words,
    reason_words,
    turned,
)

FIGURES = {"equivalent": "=", "not-comparable": "\N{NOT EQUAL TO}"}
TONES = {"A-faster": "decided", "B-faster": "decided", "equivalent": "even", "inconclusive": "open"}


def per_what(view: RunView, kind: str | None, cell: str | None) -> str | None:
    """What windows of a kind compare, in words; None where that is not known."""
    said = view.unit.per.get(kind or "")
    if said is None or not comes_in_cells(view, kind):
        return said
    batch = f"{said} of {plural(view.batch_size, 'image')}" if view.batch_size else said
    several = f"{plural(len(view.cells), 'cell')}" if view.cells else "all cells"
    return f"{batch}, {cell_words(cell) if cell is not None else f'geometric mean over {several}'}"


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
            return f"Noise floor of this machine, from the arm against itself: {width}" if width else None
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
    what = per_what(view, verdict.kind, verdict.cell) or f"in {verdict.metric}"
    what += f", {WORDS[verdict.precision]}" if verdict.precision else ""
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
    blocks = f"To decide it, about {plural(more, 'further block')} would be needed" if more else None
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
        sentence(verdict.next_action) if verdict.next_action else None,
        verdict.word,
        TONES.get(verdict.word, "refused"),
        is_minor(view, verdict),
    )


def cells(view: RunView, verdict: Verdict) -> str | None:
    """What a cell is, where a verdict covers all of them."""
    if not over_cells(view, verdict) or not view.cells:
        return None
    return f"A cell is {view.unit.cell}: {', '.join(view.cells)}"


def evidence(
    view: RunView, verdict: Verdict, above: str, below: str, ratio: float | None, low: float | None, high: float | None
) -> str:
    """The ratio with its interval, blocks, pairs and margin."""
    what = f"Time of {view.label(above)} / time of {view.label(below)}"
    pairs = pairs_per_block(view, verdict)
    blocks = plural(verdict.blocks, "block") + (f" of {pairs}" if pairs else "")
    margin, alpha = (value if isinstance(value, float) else None for value in map(view.declared, ("margin", "alpha")))
    if ratio is None:
        return f"{what}: no ratio recorded, {blocks}"
    within = f"; declared margin {margin_words(margin)}" if margin is not None else ""
    level = level_words(verdict.alpha, verdict.look_alpha or alpha, look_words(verdict))
    return f"{what}: {with_interval(ratio, low, high)}, {level} over {blocks}{within}"


def pairs_per_block(view: RunView, verdict: Verdict) -> str | None:
    """How many pairs of windows the blocks of a verdict have: "40 pairs", or "38-40 pairs"."""
    windows = {(w.block, w.cell, w.pair) for arm in view.arms for w in arm.windows(verdict.kind or "")}
    counts = Counter((block, cell) for block, cell, _ in windows if verdict.cell in (None, cell))
    sizes = sorted(set(counts.values()))
    if not sizes:
        return None
    several = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}{DASH}{sizes[-1]}"
    return f"{several} pair{'' if several == '1' else 's'}{' per cell' if over_cells(view, verdict) else ''}"


def means(verdict: Verdict, above: str) -> str | None:
    """The ratio of means, turned like the ratio; what a job pays, spikes included."""
    mean = verdict.mean_ratio
    if mean is None or not math.isfinite(mean) or mean <= 0:
        return None
    mean = mean if above == verdict.arm_a else 1 / mean
    return f"Ratio of mean times, spikes included: {mean:.3f}"


def certainty(verdict: Verdict) -> str | None:
    """The exact sign-flip p-value, where the run has one."""
    p = verdict.sign_flip_p
    return f"Exact sign-flip test: p = {number(p, 2)}" if p is not None and math.isfinite(p) else None


def same_name(view: RunView, verdict: Verdict) -> bool:
    """Whether both sides of a verdict are the same arm."""
    one, other = view.arm(verdict.arm_a), view.arm(verdict.arm_b)
    return one is not None and other is not None and one.name == other.name


def same_arm(view: RunView, verdict: Verdict) -> str | None:
    """Says so when an arm was measured against itself."""
    if not same_name(view, verdict):
        return None
    width = half_width(verdict)
    floor = f": half of the interval's width, {width}, is this machine's noise floor" if width else ""
    return f"This is the same arm twice (A/A), so any difference is noise{floor}"


def setting(view: RunView) -> str:
    """Where and with what it was measured: device, preset, batch, data."""
    parts: list[str | None] = [" and ".join(device.upper() for device in view.devices) or None]
    preset, batch, run = view.setting("preset"), batch_words(view.batch_sizes), view.run
    data = run.last(DatasetRecorded)
    own = f"pair {view.pair.name}" if view.pair else None
    parts += [own or (f"preset {preset}" if preset else None), batch, data.name if data else None]
    dirty = sum(1 for state in run.of(BlockState) if state.dirty)
    parts.append(f"{plural(dirty, 'disturbed block')} (kept and flagged)" if dirty else None)
    return "Measured on " + ", ".join(part for part in parts if part) if any(parts) else "Setting not recorded"
