"""From options to the list of things that will run: pure functions, printable before anything is measured."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from harness.options import BenchConfig
from harness.part import Asked, Metrics, Part, Suite, Timed
from harness.record.events import ArmEntry, ArmSlot
from harness.record.run import joined
from harness.stats.interval import ALPHA, MARGIN
from harness.stats.looks import Looks
from harness.suites.registry import SUITES
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from impls.recipe.precision import ORDER, WORDS, Precision
from impls.registry import Arm, Device
from messages import recorded, shown, tell

SLOTS: tuple[ArmSlot, ...] = get_args(ArmSlot)
Turn = TypeVar("Turn")
# The block of lines that tell what came before any.
BEFORE_BLOCKS = -1
EXTRA_SHARE = 0.25


@dataclass(frozen=True)
class Comparison:
    """Two slots whose times are compared; `selfcheck` when both are the same arm on purpose."""

    a: ArmSlot
    b: ArmSlot
    selfcheck: bool = False


@dataclass(frozen=True)
class BlockPlan:
    """One block: fresh processes of every arm.

    Attributes:
        block: its number, from 0.
        order_seed: recorded seed of the order in which the arms take their turns.
        repeats: the dirty block that it stands for, or None.
    """

    block: int
    order_seed: int
    repeats: int | None = None


@dataclass(frozen=True)
class Share:
    """The blocks of one run that is measured in parts, each in a journal of its own; by default all of them.

    Attributes:
        number: which part this is, from 0: it has blocks number, number + of, ...
        of: how many parts there are.
        blocks: of all parts together.
    """

    number: int = 0
    of: int = 1
    blocks: int = 0

    @property
    def own(self) -> int:
        """How many blocks this part has."""
        return len(range(self.number, self.blocks, self.of))


@dataclass(frozen=True)
class Plan:
    """Everything that will run in one part of a suite.

    Attributes:
        suite: what is measured.
        part: which of its parts this is, with its own settings.
        arms: slot and arm, in the order of `--arms`; the self-check's second copies last.
        comparisons: what `paired` says, then every arm against itself.
        device: where all of them run.
        min_blocks: blocks that are needed, unless a look decides before.
        max_blocks: blocks that are run if the time allows, dirty ones' repeats excluded.
        pairs: stepwise windows of each arm in a block.
        schedule: resident, or sequential: one arm after another.
        seed: seed of the orders.
        time_limit_s: after which the run ends; None without a limit.
        first_block: number of its first block; blocks of one run never share a number.
        looks: after which it may end because its verdicts are sure.
        share: which blocks of the run this one measures, where it is a part of one.
    """

    suite: Suite
    part: Part
    arms: tuple[tuple[ArmSlot, Arm], ...]
    comparisons: tuple[Comparison, ...]
    device: Device
    min_blocks: int
    max_blocks: int
    pairs: int
    schedule: Literal["resident", "sequential"]
    seed: int
    time_limit_s: float | None
    first_block: int = 0
    looks: Looks = Looks()
    share: Share = Share()

    @property
    def timed(self) -> Timed | None:
        """Its part where that measures times, in blocks."""
        return self.part if isinstance(self.part, Timed) else None

    @property
    def block_numbers(self) -> range:
        """The numbers that its blocks may have: repeats, and one more where a resumed run has lost what it needs."""
        share = self.share
        # As many for every part, so that each knows the numbers of all.
        most = self.max_blocks if share.of == 1 else -(-share.blocks // share.of)
        each = most + int(most * EXTRA_SHARE) + 1
        return range(self.first_block + share.number, self.first_block + share.of * each, share.of)

    @property
    def case_prefix(self) -> str:
        """What the cases beside its blocks begin with, where another part of the suite has cases of the same name."""
        return "" if type(self.part) is self.suite.parts[0] else f"{self.part.name}-"

    @property
    def slots(self) -> tuple[ArmSlot, ...]:
        """The slots in order."""
        return tuple(slot for slot, _ in self.arms)

    @property
    def groups(self) -> tuple[tuple[ArmSlot, ...], ...]:
        """The arms that comparisons join, which take turns in a block and are in memory together."""
        return joined(self.slots, [(comparison.a, comparison.b) for comparison in self.comparisons])

    @property
    def fewest_blocks(self) -> int:
        """Blocks that are measured in any case."""
        return self.next_look(0)

    def next_look(self, done: int) -> int:
        """How many blocks there are at the next look behind so many; where none is planned, those that are needed."""
        later = [blocks for blocks in self.looks.blocks if blocks > done]
        return later[0] if later else self.min_blocks if done < self.min_blocks else self.max_blocks

    @property
    def extra_blocks(self) -> int:
        """How many dirty blocks may be repeated at the end."""
        return int(self.max_blocks * EXTRA_SHARE)

    def arm(self, slot: ArmSlot) -> Arm:
        """The arm in a slot."""
        return dict(self.arms)[slot]

    def precision(self, comparison: Comparison) -> Precision | None:
        """The number format that the options of both arms ask for; None where they ask for different ones."""
        formats = {self.arm(slot).precision for slot in (comparison.a, comparison.b)}
        return formats.pop() if len(formats) == 1 else None

    def turns(self, block: BlockPlan) -> list[list[ArmSlot]]:
        """Who is in memory together, one group after another, in the order of a block.

        The block's seed decides which group begins and, in each, which arm.
        """
        order = turn_order(self.slots, block.order_seed, 0)
        if self.schedule == "sequential":
            return [[slot] for slot in order]
        first = sorted(self.groups, key=lambda group: min(map(order.index, group)))
        return [turn_order(group, block.order_seed, 0) for group in first]

    def block(self, number: int, repeats: int | None = None) -> BlockPlan:
        """The plan of block `number`."""
        return BlockPlan(number, order_seed(self.seed, number), repeats)

    def entries(self) -> list[ArmEntry]:
        """The arms for the journal."""
        return [ArmEntry(slot=slot, name=arm.name) for slot, arm in self.arms]

    def alternation(self, metrics: Metrics, cells: Sequence[str] = (), sweep: dict[str, Any] | None = None
                    ) -> dict[str, Any]:
        """What is fixed before blocks are measured.

        Args:
            metrics: what they are judged by.
            cells: settings that are compared one by one, where there are several.
            sweep: what is measured over a range once, and never judged.
        """
        return {
            "metric": metrics.main.name, "further_metrics": [metric.name for metric in metrics.further],
            "margin": MARGIN, "alpha": ALPHA,
            "looks": list(self.looks.blocks) or 1, "spent_at_looks": self.looks.levels(),
            "blocks": {"least": self.min_blocks, "most": self.max_blocks, "repeats": self.extra_blocks},
            "pairs": self.pairs, "window": recorded(
                "one step where a step takes 0.1 s or more, else as many as fill 0.1 s"),
            "schedule": self.schedule, "seed": self.seed, "time_limit_s": self.time_limit_s,
            "multiple_comparisons": (recorded("Holm over the comparisons and the cells") if cells else
                                     recorded("Holm over the comparisons")),
            "comparisons": [{"a": c.a, "b": c.b, "selfcheck": c.selfcheck, "precision": self.precision(c)}
                            for c in self.comparisons],
            "block_numbers": [self.first_block, self.block_numbers.stop - 1],
            "cells": list(cells), "sweep": sweep,
        }


def make_plans(asked: Asked) -> tuple[Plan, ...]:
    """The plans of a run, one for each part of its suite, in their order.

    Raises:
        UsageError: too many arms, an arm that cannot run on the device, or nothing to compare.
    """
    plans: list[Plan] = []
    for part in SUITES[asked.options.suite].parts:
        first = max((plan.block_numbers.stop for plan in plans), default=0)
        plans.append(_planned(asked, part, first))
    return tuple(plans)


def _planned(asked: Asked, part: type[Part], first_block: int) -> Plan:
    config, named, suite = asked.options, asked.options.compared, SUITES[asked.options.suite]
    if len(named) < part.needs.arms:
        raise UsageError(tell("--arms {arms}: suite {suite} compares arms: give at least two", arms=config.arms,
                              suite=suite.name))
    doubled = [*named, *named] if config.selfcheck and issubclass(part, Timed) else list(named)
    if len(doubled) > len(SLOTS):
        most = len(SLOTS) // 2 if config.selfcheck else len(SLOTS)
        raise UsageError(tell("--arms {arms}: {count} arms, at most {most} fit into one run", arms=config.arms,
                              count=len(named), most=most))
    for arm in named:
        fault = arm.device_fault(asked.device)
        if fault:
            raise UsageError(f"--device {asked.device}: {fault}")  # English
    slots = SLOTS[: len(doubled)]
    # A run that goes on compares what it declared, also where that was paired by another rule.
    told = [Comparison(one["a"], one["b"]) for one in asked.recorded.get("comparisons", ()) if not one["selfcheck"]]
    comparisons = told or [Comparison(slots[a], slots[b]) for a, b in paired(named)]
    if len(doubled) > len(named):
        comparisons += [Comparison(slots[i], slots[len(named) + i], selfcheck=True) for i in range(len(named))]
    planned = part.planned(asked)
    looks = _looks(asked, planned, comparisons)
    number, of = config.part_of
    share = Share(number, of, config.blocks or 0)
    blocks = share.own if of > 1 else config.blocks
    return Plan(
        suite=suite, part=planned, arms=tuple(zip(slots, doubled, strict=True)),
        comparisons=tuple(comparisons), device=asked.device,
        min_blocks=blocks or part.blocks[0],
        max_blocks=blocks or max(looks.blocks, default=part.blocks[1]),
        pairs=config.pairs or part.pairs, schedule=config.schedule, seed=config.seed,
        time_limit_s=None if config.time_limit is None else config.time_limit * 60, first_block=first_block,
        looks=looks, share=share)


def _looks(asked: Asked, part: Part, comparisons: Sequence[Comparison]) -> Looks:
    """One at the end where the user says how many blocks, there is nothing to compare, or a spread is asked for."""
    if asked.options.blocks or not isinstance(part, Timed) or not comparisons or asked.options.selfcheck:
        return Looks()
    if asked.recorded:
        return Looks.read((asked.recorded.get("by_part") or {}).get(part.name, asked.recorded).get("looks"))
    return part.looks


def paired(arms: Sequence[Arm]) -> list[tuple[int, int]]:
    """Which arms are compared, as positions in `arms`, the earlier one first.

    Each with the first arm of its own number format, since arms of different ones cannot be judged. An arm that is
    alone in its format is compared with the first of all, or as that with the second: its ratio describes what a format
    brings.
    """
    formats = [arm.precision for arm in arms]
    count, pairs = Counter(formats), []
    for number, name in enumerate(formats[1:], 1):
        first = 0 if count[name] == 1 else formats.index(name)
        pairs += [(first, number)] if first != number else []
    alone = len(arms) > 1 and not any(0 in pair for pair in pairs)
    return [(0, 1), *pairs] if alone else pairs


def declared(plans: Sequence[Plan], recipe: ExperimentConfig) -> dict[str, Any]:
    """What a run fixes before its first measurement; of several parts, all of each and the words of the first."""
    of = {plan.part.name: plan.part.declared(plan) for plan in plans}
    together: dict[str, Any] = {}
    for said in reversed(of.values()):
        together = {**together, **{key: value for key, value in said.items() if value or key not in together}}
    sizes = {plan.part.name: plan.part.batch_sizes(recipe) for plan in plans}
    return {**together, **({"by_part": of} if len(plans) > 1 else {}), "parts": list(of), "batch_sizes": sizes}


def order_seed(seed: int, block: int) -> int:
    """A recorded 31-bit seed for the order of one block, unrelated between blocks."""
    return int.from_bytes(hashlib.sha256(f"order/{seed}/{block}".encode()).digest()[:4], "big") >> 1


def turn_order(slots: Sequence[Turn], seed: int, pair: int) -> list[Turn]:
    """Who runs when in one pair: A B, B A, ... from a start chosen by the seed; with more arms the turns rotate.

    Every second cycle runs backwards, so that with three or more arms nobody always follows the same neighbour.
    """
    count = len(slots)
    first = (seed + pair) % count
    order = [*slots[first:], *slots[:first]]
    return order[::-1] if count > 2 and (pair // count) % 2 else order


def describe(plan: Plan, experiment: ExperimentConfig) -> str:
    """The plan for people, as printed by `--dry-run`."""
    places = {"suite": plan.suite.name, "summary": tell(plan.suite.summary)}
    lines = [tell("suite {suite}, part {part}: {summary}", part=plan.part.name, **places)
             if len(plan.suite.parts) > 1 else tell("suite {suite}: {summary}", **places),
             tell("device {device}", device=plan.device)]
    lines += [f"  {slot}  {arm.name}" for slot, arm in plan.arms]
    lines += [tell("  compare {a} with {b}{what}", a=c.a, b=c.b, what=_what(plan, c)) for c in plan.comparisons]
    lines += [*plan.part.described(experiment),
              *(tell("note: {note}", note=note) for note in plan.part.notes(experiment))]
    if plan.timed:
        if plan.share.of > 1:
            lines.append(tell("part {number} of {parts}, from 0, of a run of {blocks} blocks", number=plan.share.number,
                              parts=plan.share.of, blocks=plan.share.blocks))
        told = {"least": plan.fewest_blocks, "pairs": plan.pairs, "schedule": plan.schedule,
                "repeats": plan.extra_blocks}
        lines.append(
            tell("{least} to {most} blocks of {pairs} pairs, {schedule}, at most {repeats} repeats of disturbed blocks",
                 most=plan.max_blocks, **told) if plan.max_blocks > plan.fewest_blocks else
            tell("{least} blocks of {pairs} pairs, {schedule}, at most {repeats} repeats of disturbed blocks", **told))
        if plan.looks.blocks:
            at = ", ".join(f"{blocks} ({100 * alpha:.3g} %)"
                           for blocks, alpha in zip(plan.looks.blocks, plan.looks.levels(), strict=True))
            lines.append(tell("looks at so many blocks, and what each may spend of {alpha} %: {looks}; the first that "
                              "decides every comparison ends the blocks", alpha=f"{100 * ALPHA:g}", looks=at))
        if plan.schedule == "resident" and len(plan.groups) > 1:
            lines.append(tell("{arms} arms, in memory at once are only those that are compared, at most {most}; a "
                              "block takes one such group after another", arms=len(plan.arms),
                              most=max(map(len, plan.groups))))
        for number in plan.block_numbers[: plan.max_blocks]:
            block = plan.block(number)
            order = tell(", then ").join("".join(group) for group in plan.turns(block))
            lines.append(tell("  block {block}: first pair {order}, order seed {seed}", block=number, order=order,
                              seed=block.order_seed))
    lines.append(tell("experiment {preset}, configuration {sha}", preset=experiment.preset,
                      sha=experiment.sha256()[:12]))
    return "\n".join(lines)


def _what(plan: Plan, comparison: Comparison) -> str:
    """What a comparison is about, where that must be said."""
    formats = {plan.arm(slot).precision for slot in (comparison.a, comparison.b)}
    several = len({arm.precision for _, arm in plan.arms}) > 1
    kinds = [tell(" against ").join(shown(WORDS[name]) for name in ORDER if name in formats)] if several else []
    kinds += [tell("self-check")] if comparison.selfcheck else []
    return tell(" ({kinds})", kinds=tell(", ").join(kinds)) if kinds else ""


def dry_run(config: BenchConfig, experiment: ExperimentConfig, plans: Sequence[Plan], device_reason: str,
            channels: int | None = None, aliases: Mapping[str, str] | None = None) -> str:
    """All plans and the resolved configuration, as printed by `--dry-run`.

    Args:
        config: what the user said.
        experiment: the recipe that it amounts to.
        plans: what would run.
        device_reason: why on this device.
        channels: of the network's images; None where the data set decides.
        aliases: arms as they were asked for -> those that run, where one stands for another.
    """
    resolved = {"bench": config.model_dump(mode="json"), "experiment": experiment.model_dump(mode="json"),
                "declared": declared(plans, experiment), "threads": config.cpu_threads}
    for plan in plans:
        resolved |= {name: own.model_dump(mode="json")["train"] for name, own in plan.part.recipes().items()}
    described = "\n".join(describe(plan, experiment) for plan in plans)
    if config.dataset == "auto" and channels is None and any(plan.part.takes_images(experiment) for plan in plans):
        described += "\n" + tell("data set: auto, chosen when the run starts; on grey images the network has 1 channel")
    described += "".join(f"\n{name} = {arm}" for name, arm in (aliases or {}).items())
    return f"{described}\n{tell('device: {reason}', reason=device_reason)}\n{json.dumps(resolved, indent=2)}"
