"""What a training's checkpoints will take on the disk, said before the work begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from impls.tools.cost import free_bytes, megabytes
from impls.tools.train.loop import Plan
from impls.tools.train.options import TrainOptions


@dataclass(frozen=True)
class Disk:
    """Checkpoints to come, and the room for them.

    Attributes:
        folder: on the disk that they are written to.
        size_bytes: of one.
        count: how many of them there are at most at once, so far as they come by steps.
        free_bytes: what is left on the disk.
        every_min: minutes between further ones, all of which stay; None where there are none.
    """

    folder: Path
    size_bytes: int
    count: int
    free_bytes: int
    every_min: float | None = None

    @classmethod
    def of(cls, folder: Path, plan: Plan, step: int, parameters: int, config: ExperimentConfig,
           options: TrainOptions) -> Disk:
        """What a training will write into `folder`, which need not exist yet.

        Args:
            folder: of the training, or the one above it.
            plan: when it writes.
            step: where it begins.
            parameters: of its network.
            config: its recipe.
            options: which checkpoints stay.
        """
        # Weights, two moments and, where they are kept, averaged weights, each in float32.
        size = 4 * (3 if config.train.ema_decay is None else 4) * parameters
        count = plan.checkpoints_after(step)
        every = options.checkpoint_minutes or None
        if options.only_checkpoint_max or options.keep_last:
            # The newest is there before the oldest goes; beside them stays the best.
            most = 2 if options.only_checkpoint_max else options.keep_last + 2
            count, every = (min(count, most) if every is None else most), None
        free, place = free_bytes(folder)
        return cls(place, size, count, free, every)

    def require_one(self) -> None:
        """Refuse a training of which nothing would be left.

        Raises:
            UsageError: not even one checkpoint fits.
        """
        if self.size_bytes > self.free_bytes:
            raise UsageError(f"{self.folder}: a checkpoint takes {megabytes(self.size_bytes)}, the disk has "
                             f"{megabytes(self.free_bytes)} left: make room, or choose another --log-root")

    def sentence(self) -> str:
        """How much is needed and how much there is, as a warning where that is too little."""
        need = f"{self.count} checkpoint{'' if self.count == 1 else 's'} of {megabytes(self.size_bytes)}"
        need += " at once" if self.every_min is None else f", and one more every {self.every_min:g} minutes,"
        if self.count * self.size_bytes > self.free_bytes:
            return (f"warning: {need} do not fit into the {megabytes(self.free_bytes)} left in {self.folder}: choose a "
                    "smaller --keep-last (0 keeps all), or --only-checkpoint-max")
        most = "at most " if self.every_min is None else ""
        return f"on the disk {most}{need.rstrip(',')}; {megabytes(self.free_bytes)} are free"
