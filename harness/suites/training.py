"""How fast do the arms train? Optimisation steps in alternating and in free windows, losses, and whole epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import Self

from harness.part import Asked, Metrics
from harness.record.events import ArmSlot, Epoch, Window
from harness.record.findings import EPOCH_PART
from harness.suites.parity.part import DEFAULT_STEPS, GATE_STEPS, STEP_TIME, TrainingSteps, gate_of
from messages import recorded, tell

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.blocks.block import Block
    from harness.blocks.warmup import Started
    from harness.record.run import RecordedRun
    from impls.registry import Device

# Energy counters are too coarse for less than 5 s on a GPU.
FREE_WINDOW_S: dict[Device, float] = {"cpu": 2.0, "cuda": 5.0}
FREE_PAIRS = 1
DEFAULT_EPOCHS = 2
# An epoch of the slowest arm takes about this long, unless --epochs asks for whole ones. On a CPU the first verdict
# waits for it, so there it is no longer than a free window.
EPOCH_S: dict[Device, float] = {"cpu": 2.0, "cuda": 60.0}


@dataclass(frozen=True)
class Training(TrainingSteps):
    """Blocks of optimisation steps; parity is the gate.

    Attributes:
        epochs: whole epochs through the framework's own loader; None for a few, shortened so that they end soon.
    """

    name: ClassVar[str] = "training"
    takes: ClassVar[frozenset[str]] = frozenset({"selfcheck", "pair"})
    pairs: ClassVar[int] = 40
    metrics: ClassVar[Metrics] = STEP_TIME
    beside: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: int | None = None

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """`--steps` are those of a window."""
        # A pair has batches, but no data set to go through.
        epochs = asked.options.epochs if asked.options.pair is None else 0
        return cls(gate_of(asked, GATE_STEPS), asked.options.step_count, epochs)

    def windows(self, block: Block) -> None:
        """Windows that are synchronised at their ends only, as in a real training."""
        for pair in range(FREE_PAIRS):
            block.turn(pair, partial(self._free, block), tell("free-running"))

    def windows_s(self, device: Device, arms: int) -> float:
        """One window after another."""
        return arms * FREE_PAIRS * FREE_WINDOW_S[device]

    def _free(self, block: Block, slot: ArmSlot, pair: int, position: int) -> None:
        from harness.blocks.windows import metered
        from harness.protocol.timing import Free

        arm = block.live[slot]
        steps = arm.steps_for(FREE_WINDOW_S[block.bench.plan.device])
        span = metered(block, slot, Free(steps=steps), arm.limit_s(steps))
        block.append(Window(kind="free", arm=slot, block=block.number, pair=pair, position=position,
                            start_ns=span.start_ns, end_ns=span.end_ns, steps=steps, step_ns=[]))

    def once(self, block: Block, arm: Started) -> None:
        """Whole epochs through the framework's own loader, by a second trainer in the same process.

        No step runs before the first epoch, so that these epochs are the loader's own; the first one pays for its
        start.
        """
        steps, _ = self.epoch_steps(block.bench, block.fresh)
        if steps:
            block.bench.progress.status(tell("{arm}: epochs", arm=arm.session.arm.name))
            block.beside("epochs", arm, partial(self._epochs, block, arm, steps))

    def once_together(self, block: Block) -> None:
        """Say where epochs were shortened."""
        steps, shortened = self.epoch_steps(block.bench, block.fresh)
        if shortened:
            images, batch = block.bench.images, block.bench.experiment.train.batch_size
            block.bench.ledger.find(EPOCH_PART.found(
                recorded("an epoch here is {part} of {images} images, so that it stays short", part=steps * batch,
                         images=images), block=block.number))

    def has_once(self, recorded: RecordedRun, slot: ArmSlot) -> bool:
        """Whether there are epochs, where any are wanted."""
        return self.epochs == 0 or any(epoch.arm == slot for epoch in recorded.of(Epoch))

    def epoch_steps(self, bench: Bench, arms: Mapping[ArmSlot, Started]) -> tuple[int, bool]:
        """Optimisation steps of an epoch, the same for every arm, and whether that is only part of the data."""
        whole = bench.images // bench.experiment.train.batch_size
        if self.epochs is not None:
            return (whole if self.epochs else 0), False
        fitting = min(arm.steps_for(EPOCH_S[bench.plan.device]) for arm in arms.values())
        steps = min(whole, max(5, fitting))
        return steps, steps < whole

    def _epochs(self, block: Block, arm: Started, steps: int) -> None:
        from harness.bench import SLOW_LIMIT_S
        from harness.protocol.training import Epochs

        bench, train = block.bench, block.bench.experiment.train
        recipe = bench.experiment.model_copy(update={"train": train.model_copy(update={"loader": "native"})})
        count = DEFAULT_EPOCHS if self.epochs is None else self.epochs
        bench.build(arm.session, recipe, images=steps * train.batch_size)
        times = arm.session.ask(Epochs(epochs=count, steps=steps), SLOW_LIMIT_S + count * arm.limit_s(steps))
        for number, epoch in enumerate(times.epochs):
            block.append(Epoch(arm=arm.session.slot, block=block.number, epoch=number, loader="native",
                               num_workers=train.num_workers, images=steps * train.batch_size, **epoch.model_dump()))


class GatedTraining(Training):
    """A training beside parts that sample: `--steps` is theirs, and the gate is a parity suite's whole check."""

    @classmethod
    def planned(cls, asked: Asked) -> Self:
        """With windows of as many steps as fill their time."""
        return cls(gate_of(asked, DEFAULT_STEPS, None), None, asked.options.epochs)
