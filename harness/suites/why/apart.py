"""What is measured apart from the blocks, once: waiting, the loader, sampling; and what the record says of starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.plan import Comparison
from harness.record.events import Apart, ArmSlot, PairRecorded, PartName, Phases, Share, StartUp, Window, WorkerStarted
from harness.record.run import RecordedRun
from harness.stats.interval import Interval, t_interval
from harness.stats.share import SHARE_MARGIN, gap_of, ratio_apart, word_of
from harness.suites.why.shares import ALIKE, SEE_FAILED, TWO_BLOCKS, even, whole_steps
from messages import marked, recorded, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from impls.recipe.config import ExperimentConfig

What = Literal["waiting", "loader", "sampling"]
WHAT: dict[What, str] = {"waiting": marked("waiting"), "loader": marked("loader"), "sampling": marked("sampling")}
ROUNDS: dict[What, int] = {"waiting": 3, "loader": 4, "sampling": 3}
CUT_ROUNDS = 6
# A free-running window waits once, at its end: it needs steps enough to make that little.
WINDOW_S, EPOCH_S, CALLS_S = 1.0, 0.5, 0.25
# Without its first step an epoch must still have some.
LEAST_EPOCH = 4
SAMPLED_STEPS = 5
MATCHED = marked("train.randomness matched takes resident batches only")
# What each way of running costs, by its sign: other less plain, or the reverse.
COSTS = {"loader": 1, "waiting": -1}


class Round(NamedTuple):
    """One round of one arm, in nanoseconds per step."""

    plain_ns: float
    other_ns: float


def measure(block: Block, arm: Started) -> None:
    """All of it, of one arm, each a case of its own; what is built for it takes the trainer's place."""
    took = []
    works: dict[What, Callable[[Block, Started], None]] = {
        "waiting": _waiting, "loader": _loader, "sampling": _sampling}
    for what, work in works.items():
        block.bench.progress.status(tell("{arm}: {what}, apart", arm=arm.session.arm.name, what=tell(WHAT[what])))
        began = block.bench.clock()
        done = block.beside(what, arm, partial(work, block, arm))
        took.append(f"{tell(WHAT[what])} {block.bench.clock() - began:.0f} s")
        if not done:
            break
    block.bench.progress.say(tell("apart, {arm}: {times}", arm=arm.session.arm.name, times=tell(", ").join(took)))


def shares(run: RecordedRun, pair: Comparison, part: PartName, refused: str | None = None) -> list[Share]:
    """What the loader would add to the gap, what waiting holds of it, and why threads are not among the causes.

    Args:
        run: what the part recorded.
        pair: whose gap it is.
        part: the part's name.
        refused: why the two must not be compared; None where they may.
    """
    found = [_share(run, pair, part, what, refused) for what in ("loader", "waiting")]
    return [*found, _line(pair, part, "threads", "not-measured", reason=recorded(
        "an arm takes its threads when it starts"), next_action=recorded(
            "run the suite again with another --threads, and compare the shares"))]


def start_up(run: RecordedRun, pair: Comparison, part: PartName) -> StartUp | None:
    """What starting costs both arms, from cold caches where such starts were recorded; None without a start of each."""
    starts = {slot: [one for one in run.of(WorkerStarted) if one.arm == slot and one.role in ("measure", "cold-start")]
              for slot in (pair.a, pair.b)}
    if not all(starts.values()):
        return None
    cold = any(one.cache == "cold" for of in starts.values() for one in of)
    # An arm that compiles nothing starts alike with any cache.
    chosen = {slot: [one for one in of if not cold or one.cache == "cold"] or of for slot, of in starts.items()}
    a_ns, b_ns = (median(one.spawn_ns + one.import_ns + one.build_ns + one.first_step_ns for one in chosen[slot])
                  for slot in (pair.a, pair.b))
    steps = [typical_ns(run, slot) for slot in (pair.a, pair.b)]
    known = steps[0] is not None and steps[1] is not None and not even(run, pair)
    gap = (steps[0] or 0.0) - (steps[1] or 0.0) if known else 0.0
    return StartUp(part=part, arm_a=pair.a, arm_b=pair.b, cold=cold, a_ns=a_ns, b_ns=b_ns,
                   steps=math.ceil(abs(a_ns - b_ns) / abs(gap)) if gap else None)


def typical_ns(run: RecordedRun, slot: ArmSlot) -> float | None:
    """The median step of an arm's measured windows; None without any."""
    windows = [window for window in run.of(Window) if window.arm == slot and window.kind == "stepwise"]
    found = [ns for window in windows for ns in window.step_ns]
    return median(found) if found else None


def rounds(run: RecordedRun, slot: ArmSlot, what: What) -> list[Round]:
    """What was recorded of an arm, round by round."""
    return [Round(one.plain_ns / one.steps, one.other_ns / one.steps)
            for one in run.of(Apart) if one.arm == slot and one.what == what]


def ratio(above: list[float], below: list[float]) -> Interval | None:
    """Geometric mean of the rounds' ratios with its interval; None with fewer than two rounds."""
    count = min(len(above), len(below))
    if count < 2:
        return None
    found = t_interval([math.log(one / other) for one, other in zip(above[:count], below[:count], strict=True)])
    return Interval(*(math.exp(value) for value in found))


def _share(run: RecordedRun, pair: Comparison, part: PartName, what: What, refused: str | None) -> Share:
    of_a, of_b = rounds(run, pair.a, what), rounds(run, pair.b, what)
    count = min(len(of_a), len(of_b))
    if refused is not None:
        return _line(pair, part, what, "not-measured", reason=refused, next_action=ALIKE)
    if count < 2:
        why, action = recorded("fewer than two rounds of each arm"), SEE_FAILED
        if what == "loader":
            action = recorded("see the failed cases and their logs; an epoch needs two steps, too")
        if what == "loader" and run.last(PairRecorded):
            why = recorded("the batches of a pair lie on the device, and no loader makes them")
            action = recorded("time your own loader alone")
        elif what == "loader" and _matched(run):
            why, action = MATCHED, recorded("leave train.randomness native")
        return _line(pair, part, what, "not-measured", reason=why, next_action=action)
    steps, sign = whole_steps(run, pair), COSTS[what]
    if len(steps.blocks) < 2:
        return _line(pair, part, what, "not-measured", reason=recorded("fewer than two blocks of both arms"),
                     next_action=TWO_BLOCKS)
    costs_a, costs_b = ([sign * (one.other_ns - one.plain_ns) for one in of[:count]] for of in (of_a, of_b))
    times = mean(costs_a), mean(costs_b)
    gap = gap_of(steps.a_ns, steps.b_ns)
    if gap.fault is not None:
        return _line(pair, part, what, gap.word, times, reason=gap.fault)
    # Of the blocks' gap, as by every other method: here the arms did not take turns.
    found = ratio_apart([a - b for a, b in zip(costs_a, costs_b, strict=True)], steps.gaps_ns)
    word = word_of(found)
    wide = word == "inconclusive"
    crossing = recorded("its interval over {rounds} rounds crosses {margin} of the gap", rounds=count,
                        margin=f"{SHARE_MARGIN:.0%}")
    return _line(pair, part, what, word, times, found, crossing if wide else None,
                 recorded("repeat on a quieter machine") if wide else None, count)


def _line(pair: Comparison, part: PartName, cause: str, word: str, times: tuple[float, float] | None = None,
          found: Interval | None = None, reason: str | None = None, next_action: str | None = None,
          count: int = 0) -> Share:
    a_ns, b_ns = times or (None, None)
    return Share.model_validate({
        "part": part, "arm_a": pair.a, "arm_b": pair.b, "method": "apart", "cause": cause, "a_ns": a_ns, "b_ns": b_ns,
        "share": found and found.mean, "ci_low": found and found.low, "ci_high": found and found.high, "blocks": count,
        "word": word, "reason": reason, "next_action": next_action})


def _matched(run: RecordedRun) -> bool:
    train: Mapping[str, Any] = (run.started.experiment if run.started else {}).get("train", {})
    return train.get("randomness") == "matched"


def _waiting(block: Block, arm: Started) -> None:
    from harness.protocol.timing import Free, Stepwise

    steps = arm.steps_for(WINDOW_S)
    for number in range(ROUNDS["waiting"]):
        plain = other = 0
        # Turn about, so that neither always comes first.
        for which in (0, 1) if number % 2 else (1, 0):
            if which:
                plain = sum(arm.session.ask(Stepwise(steps=steps), arm.limit_s(steps)).step_ns)
            else:
                span = arm.session.ask(Free(steps=steps), arm.limit_s(steps))
                other = span.end_ns - span.start_ns
        _record(block, arm, "waiting", number, steps, plain, other)


def _loader(block: Block, arm: Started) -> None:
    bench = block.bench
    batch = bench.experiment.train.batch_size
    steps = min(bench.images // batch, max(LEAST_EPOCH, arm.steps_for(EPOCH_S)))
    if steps < 2 or bench.experiment.train.randomness != "native":
        return
    found: dict[str, list[tuple[int, int | None]]] = {"resident": [], "native": []}
    half = ROUNDS["loader"] // 2
    # Turn about, with as few trainers as that takes: building one, and starting its loader, takes longer than an epoch.
    for loader, rounds_ in (("native", half), ("resident", 2 * half), ("native", half)):
        train = bench.experiment.train.model_copy(update={"loader": loader})
        recipe = bench.experiment.model_copy(update={"train": train})
        found[loader] += _later_epochs(block, arm, recipe, steps, rounds_)
    for number, ((plain, _), (other, first)) in enumerate(zip(found["resident"], found["native"], strict=True)):
        _record(block, arm, "loader", number, steps - 1, plain, other, first)


def _later_epochs(block: Block, arm: Started, recipe: ExperimentConfig, steps: int,
                  count: int) -> list[tuple[int, int | None]]:
    """How long all steps but the first of an epoch take, and until that one's batch was there, of so many epochs.

    The epoch before them pays for the loader's start and for the trainer's first steps.
    """
    from harness.bench import SLOW_LIMIT_S
    from harness.protocol.training import Epochs

    block.bench.build(arm.session, recipe, images=steps * recipe.train.batch_size)
    asked = Epochs(epochs=1 + count, steps=steps)
    epochs = arm.session.ask(asked, SLOW_LIMIT_S + arm.limit_s((1 + count) * steps)).epochs
    return [(epoch.end_ns - epoch.step_start_ns[1], epoch.gap_ns) for epoch in epochs[1:]]


def _sampling(block: Block, arm: Started) -> None:
    from harness.bench import SLOW_LIMIT_S, plain
    from harness.processes.session import WorkerFailedError
    from harness.protocol.life import BuildSampler
    from harness.protocol.sampling import Batch, SpringTrap

    bench, seed = block.bench, block.bench.experiment.seed
    recipe, steps = sampler_recipe(bench), min(SAMPLED_STEPS, bench.experiment.diffusion.T)
    images = recipe.sample.batch_size
    try:
        arm.session.ask(BuildSampler(experiment=plain(recipe)), SLOW_LIMIT_S)
    except WorkerFailedError as error:
        # An arm that draws no images is explained without.
        if error.cause == "usage":
            return
        raise
    batch = Batch(method="ddim", steps=steps, images=images, seed=seed)
    trap = SpringTrap(steps=steps, images=images, seed=seed)
    # The first ones compile what they need.
    arm.session.ask(batch, SLOW_LIMIT_S)
    arm.session.ask(trap, SLOW_LIMIT_S)
    for number in range(ROUNDS["sampling"]):
        span = arm.session.ask(batch, SLOW_LIMIT_S)
        asked = arm.session.ask(trap, SLOW_LIMIT_S).unsynchronised_ns
        _record(block, arm, "sampling", number, steps, span.end_ns - span.start_ns, asked)
    _cut_calls(block, arm, math.ceil(steps * CALLS_S * 1e9 / max(1, span.end_ns - span.start_ns)))


def sampler_recipe(bench: Bench) -> ExperimentConfig:
    """That of a sampler beside a training: as many images as suite sample-speed takes."""
    from harness.suites.sampling.cells import DEFAULT_BATCH

    update = {"batch_size": DEFAULT_BATCH[bench.plan.device], "randomness": "native"}
    return bench.experiment.model_copy(update={"sample": bench.experiment.sample.model_copy(update=update)})


def _cut_calls(block: Block, arm: Started, calls: int) -> None:
    """Network calls, whole and cut, in turn."""
    from harness.bench import SLOW_LIMIT_S
    from harness.protocol.timing import Phased, Stepwise

    # The first ones compile what cutting needs.
    arm.session.ask(Stepwise(steps=2), SLOW_LIMIT_S)
    arm.session.ask(Phased(steps=2), SLOW_LIMIT_S)
    for number in range(CUT_ROUNDS):
        whole: list[int] = []
        cut: dict[str, list[int]] = {}
        for which in (0, 1) if number % 2 else (1, 0):
            if which:
                whole = arm.session.ask(Stepwise(steps=calls), SLOW_LIMIT_S).step_ns
            else:
                cut = arm.session.ask(Phased(steps=calls), SLOW_LIMIT_S).phase_ns
        block.append(Phases(part=block.part.name, arm=arm.session.slot, block=block.number,
                            of="network call", pair=number, position=0, whole_ns=whole, phase_ns=cut))  # English


def _record(block: Block, arm: Started, what: What, number: int, steps: int, plain_ns: int, other_ns: int,
            first_ns: int | None = None) -> None:
    block.append(Apart(part=block.part.name, arm=arm.session.slot, block=block.number, what=what, round=number,
                       steps=steps, plain_ns=plain_ns, other_ns=other_ns, first_ns=first_ns))
