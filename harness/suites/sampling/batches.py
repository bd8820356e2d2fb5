"""Windows of whole sampled batches, the arms alternating, and the trap of timing them without waiting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

from harness.bench import SLOW_LIMIT_S
from harness.blocks.block import Block
from harness.blocks.warmup import Started
from harness.blocks.windows import metered
from harness.protocol import sampling
from harness.record.events import ArmSlot, Trap, Window
from harness.suites.sampling.cells import Cell
from impls.registry import Device
from messages import tell

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


def alternate(block: Block, cell: Cell, images: int, pairs: int, kind: Kind) -> None:
    """Measure one cell in alternating windows, after a rehearsal of every arm."""
    what = tell("{cell}, {images} images", cell=cell.name, images=images)
    block.each(partial(_rehearse, block, cell, images), what)
    for pair in range(pairs):
        block.turn(pair, partial(_window, block, cell, images, kind), what)


def _rehearse(block: Block, cell: Cell, images: int, slot: ArmSlot) -> None:
    calls = min(REHEARSED_CALLS, cell.steps)
    block.live[slot].session.ask(
        sampling.Batch(method=cell.method, steps=cell.steps, images=images, seed=0, calls=calls),
        SLOW_LIMIT_S)


def _window(block: Block, cell: Cell, images: int, kind: Kind, slot: ArmSlot, pair: int, position: int) -> None:
    bench, arm, steps = block.bench, block.live[slot], cell.steps
    seed = seed_of(bench.experiment.seed, block.number, pair)
    limit_s = arm.limit_s(steps * math.ceil(images / bench.experiment.sample.batch_size))
    span = metered(block, slot, sampling.Batch(method=cell.method, steps=steps, images=images, seed=seed), limit_s)
    block.append(Window(kind=kind, arm=slot, block=block.number, pair=pair, position=position, start_ns=span.start_ns,
                        end_ns=span.end_ns, steps=steps, step_ns=[], cell=cell.name, images=images))


def spring_trap(block: Block, arm: Started, cell: Cell) -> None:
    """A DDIM batch of as many calls as a cell has, timed without synchronising.

    Raises:
        WorkerFailedError: the arm cannot go on.
    """
    bench, images = block.bench, block.bench.experiment.sample.batch_size
    times = arm.session.ask(sampling.SpringTrap(steps=cell.steps, images=images, seed=bench.experiment.seed),
                            arm.limit_s(cell.steps))
    block.append(Trap(arm=arm.session.slot, block=block.number, cell=f"ddim-{cell.steps}", images=images,
                      unsynchronised_ns=times.unsynchronised_ns, synchronised_ns=times.synchronised_ns))
