"""Windows of whole sampled batches: every cell in turn, the arms alternating; and the sweep over batch sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from harness.bench import HAND_OVER_S, SLOW_LIMIT_S, Bench
from harness.blocks.warmup import Started
from harness.blocks.windows import metered
from harness.protocol import sampling
from harness.record.events import ArmSlot, Trap, Window
from harness.suites.sampling.cells import Cell, cheapest
from impls.registry import Device

# What the windows of one cell take in a block, all arms together, unless two pairs take longer.
CELL_S: dict[Device, float] = {"cpu": 6.0, "cuda": 30.0}
LEAST_PAIRS, MOST_PAIRS = 2, 40
# The first network calls compile whatever a whole batch needs.
REHEARSED_CALLS = 3
SWEEP_PAIRS = 2

Kind = Literal["sample", "sweep"]


def pairs_of(cell: Cell, arms: Mapping[ArmSlot, Started], device: Device) -> int:
    """Pairs of windows that a cell gets in a block: as many as fit into its time."""
    pair_s = sum(cell.steps * arm.typical_ns / 1e9 for arm in arms.values())
    return max(LEAST_PAIRS, min(MOST_PAIRS, math.floor(CELL_S[device] / pair_s) if pair_s else MOST_PAIRS))


def seed_of(seed: int, block: int, pair: int) -> int:
    """The noise of one pair: the same for all arms, another one for every pair."""
    return (seed + 1_000_003 * block + pair) % 2**63


class Batches:
    """The windows of whole batches in one block.

    Args:
        bench: the run.
        block: the block's number.
        live: the arms that have not failed in it, by slot.
        guarded: does one arm's work so that its failure ends this arm alone.
        turns: who runs when in a pair.
    """

    def __init__(self, bench: Bench, block: int, live: Mapping[ArmSlot, Started], guarded: Callable[..., None],
                 turns: Callable[[list[ArmSlot], int], list[ArmSlot]]) -> None:
        self._bench, self._block, self._live, self._guarded, self._turns = bench, block, live, guarded, turns

    def windows(self, group: list[ArmSlot]) -> None:
        """Measure every cell at the main batch size."""
        images = self._bench.experiment.sample.batch_size
        for cell in self._bench.plan.cells:
            pairs = pairs_of(cell, self._live, self._bench.plan.device)
            self._alternate(group, cell, images, pairs, "sample")

    def sweep(self, group: list[ArmSlot]) -> None:
        """Measure the cheapest cell at other batch sizes, once in a run."""
        for images in self._bench.plan.sweep:
            self._alternate(group, cheapest(self._bench.plan.cells), images, SWEEP_PAIRS, "sweep")

    def _alternate(self, group: list[ArmSlot], cell: Cell, images: int, pairs: int, kind: Kind) -> None:
        for slot in group:
            self._on(slot, self._rehearse, cell, images)
        for pair in range(pairs):
            for position, slot in enumerate(self._turns(group, pair)):
                self._on(slot, self._window, cell, images, pair, position, kind)

    def _on(self, slot: ArmSlot, work: Callable[..., None], cell: Cell, images: int, *args: object) -> None:
        if slot in self._live:
            self._bench.progress.status(f"{self._live[slot].session.arm.name}: {cell.name}, {images} images")
            self._guarded(slot, work, cell, images, *args)

    def _rehearse(self, slot: ArmSlot, cell: Cell, images: int) -> None:
        calls = min(REHEARSED_CALLS, cell.steps)
        self._live[slot].session.ask(
            sampling.Batch(method=cell.method, steps=cell.steps, images=images, seed=0, calls=calls), SLOW_LIMIT_S)

    def _window(self, slot: ArmSlot, cell: Cell, images: int, pair: int, position: int, kind: Kind) -> None:
        bench, arm, steps = self._bench, self._live[slot], cell.steps
        seed = seed_of(bench.experiment.seed, self._block, pair)
        limit_s = arm.limit_s(steps * math.ceil(images / bench.experiment.sample.batch_size))
        bench.sleep(HAND_OVER_S)
        with metered(bench, slot, self._block, steps) as done:
            span = arm.session.ask(
                sampling.Batch(method=cell.method, steps=steps, images=images, seed=seed), limit_s)
            done(span)
        bench.writer.append(Window(kind=kind, arm=slot, block=self._block, pair=pair, position=position,
                                   start_ns=span.start_ns, end_ns=span.end_ns, steps=steps, step_ns=[],
                                   cell=cell.name, images=images))


def spring_trap(bench: Bench, block: int, arm: Started) -> None:
    """A DDIM batch of as many calls as the cheapest cell has, timed without synchronising.

    Raises:
        WorkerFailedError: the arm cannot go on.
    """
    cell, images = cheapest(bench.plan.cells), bench.experiment.sample.batch_size
    times = arm.session.ask(sampling.SpringTrap(steps=cell.steps, images=images, seed=bench.experiment.seed),
                            arm.limit_s(cell.steps))
    bench.writer.append(Trap(arm=arm.session.slot, block=block, cell=f"ddim-{cell.steps}", images=images,
                             unsynchronised_ns=times.unsynchronised_ns, synchronised_ns=times.synchronised_ns))
