"""`--thorough`: steps of both arms without attention, clipping or averaged weights, and what that takes off a gap.

A second opinion, and a rough one: a step without something also lacks what is beside it. Normalisation cannot be left
out, for a recipe without it is another network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

from harness.blocks.windows import WINDOW_S
from harness.plan import Comparison
from harness.record.events import ArmSlot, LeftOut, PartName, Share
from harness.record.run import RecordedRun
from harness.stats.share import gap_of, midmean, share_of, word_of
from harness.suites.why.shares import NARROWER, crossing, whole_steps
from harness.suites.why.swaps import ROUNDS, WARM, expected, skipped, slower, trainer_s, tried
from impls.recipe.config import ExperimentConfig, merged
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.blocks.block import Block

METHOD = "left-out"
# What is left out -> what of the recipe says so.
WITHOUT: Mapping[str, dict[str, dict[str, Any]]] = {
    "attention": {"model": {"attention_resolutions": [], "middle_attention": False}},
    "clipping": {"train": {"grad_clip": None}},
    "averaged weights": {"train": {"ema_decay": None}},  # English
}


def recipes(recipe: ExperimentConfig) -> dict[str, ExperimentConfig]:
    """What is left out -> the recipe without it; not what it lacks already."""
    found = {cause: merged(recipe, changes, cause) for cause, changes in WITHOUT.items()}
    return {cause: one for cause, one in found.items() if one != recipe}


def measure(block: Block) -> None:
    """Each of them in both arms of every pair of which one is slower, behind the swaps."""
    pairs = [pair for pair in block.bench.plan.comparisons if not pair.selfcheck and slower(block, pair) is not None]
    for cause, recipe in recipes(block.bench.experiment).items():
        for slot in dict.fromkeys(slot for pair in pairs for slot in (pair.a, pair.b)):
            if slot in block.live and (slot, cause) not in block.bench.abandoned:
                block.bench.check_time(recorded("in block {block}", block=block.number))
                block.bench.progress.status(tell("{arm}: steps without {what}", arm=block.bench.plan.arm(slot).name,
                                                 what=tell(cause)))
                tried(block, slot, cause, partial(_leave_out, block, slot, cause, recipe), "without")


def seconds(block: Block) -> float:
    """About how long `measure` takes in a block whose arms are warm."""
    slots = {slot for pair in expected(block) for slot in pair}
    return len(recipes(block.bench.experiment)) * sum(trainer_s(block, slot) for slot in slots)


def left_out(run: RecordedRun, pair: Comparison, part: PartName, refused: str | None = None) -> list[Share]:
    """A share for everything that was left out of both arms; none where nothing was, or there is no gap to divide up.

    Args:
        run: what the part recorded.
        pair: whose gap it is.
        part: the part's name.
        refused: why the two must not be compared; None where they may.
    """
    steps = whole_steps(run, pair)
    if refused is not None or len(steps.blocks) < 2 or gap_of(steps.a_ns, steps.b_ns).fault is not None:
        return []
    gaps = dict(zip(steps.blocks, steps.gaps_ns, strict=True))
    timed = {line.cause for line in run.of(LeftOut) if line.arm in (pair.a, pair.b)}
    why = {cause: skipped(run, pair.a, cause) or skipped(run, pair.b, cause) for cause in WITHOUT}
    return [_share(pair, part, cause, _saved(run, pair.a, cause), _saved(run, pair.b, cause), gaps, why[cause])
            for cause in WITHOUT if cause in timed or why[cause]]


def _share(pair: Comparison, part: PartName, cause: str, a: Mapping[int, float], b: Mapping[int, float],
           gaps: Mapping[int, float], why: str | None) -> Share:
    blocks = [block for block in gaps if block in a and block in b]
    line = {"part": part, "arm_a": pair.a, "arm_b": pair.b, "method": METHOD, "cause": cause, "blocks": len(blocks)}
    if len(blocks) < 2:
        return Share.model_validate({
            **line, **dict.fromkeys(("a_ns", "b_ns", "share", "ci_low", "ci_high")), "word": "not-measured",
            "reason": why or recorded("fewer than two blocks in which both arms stepped without it"),
            "next_action": recorded("see the skipped cases and their logs")})
    found = share_of([a[block] - b[block] for block in blocks], [gaps[block] for block in blocks])
    word = word_of(found)
    open_ = word == "inconclusive"
    return Share.model_validate({
        **line, "a_ns": mean(a[block] for block in blocks), "b_ns": mean(b[block] for block in blocks),
        "share": found.mean, "ci_low": found.low, "ci_high": found.high, "word": word,
        "reason": crossing() if open_ else None, "next_action": NARROWER if open_ else None})


def _saved(run: RecordedRun, slot: ArmSlot, cause: str) -> dict[int, float]:
    """Nanoseconds of a step that leaving it out saves, by block."""
    return {line.block: midmean(line.plain_ns) - midmean(line.without_ns) for line in run.of(LeftOut)
            if line.arm == slot and line.cause == cause}


def _leave_out(block: Block, slot: ArmSlot, cause: str, recipe: ExperimentConfig) -> None:
    from harness.bench import SLOW_LIMIT_S, plain
    from harness.protocol.training import Swap

    bench, arm = block.bench, block.live[slot]
    steps = arm.steps_for(WINDOW_S)
    times = arm.session.ask(
        Swap(arm=arm.session.arm.name, experiment=plain(recipe), device=bench.plan.device, threads=bench.threads,
             data_path=str(bench.data_path), warm=WARM, rounds=ROUNDS, steps=steps),
        SLOW_LIMIT_S + arm.limit_s(WARM + 2 * ROUNDS * steps))
    block.append(LeftOut(part=block.part.name, arm=slot, block=block.number, cause=cause, plain_ns=times.plain_ns,
                         without_ns=times.swapped_ns))
