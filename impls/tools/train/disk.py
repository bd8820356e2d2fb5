"""What a training's checkpoints will take on the disk, said before the work begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from impls.tools.cost import free_bytes, megabytes
from impls.tools.train.loop import Plan
from impls.tools.train.options import TrainOptions
from messages import tell


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
            raise UsageError(tell("{folder}: a checkpoint takes {needed}, the disk has {free} left: make room, or "
                                  "choose another --log-root", folder=self.folder,
                                  needed=megabytes(self.size_bytes), free=megabytes(self.free_bytes)))

    def sentence(self) -> str:
        """How much is needed and how much there is, as a warning where that is too little."""
        size, free = megabytes(self.size_bytes), megabytes(self.free_bytes)
        need = (tell("{count} checkpoint of {size}", count=self.count, size=size) if self.count == 1 else
                tell("{count} checkpoints of {size}", count=self.count, size=size))
        fits = self.count * self.size_bytes <= self.free_bytes
        if self.every_min is None:
            if fits:
                return tell("on the disk at most {checkpoints} at once; {free} are free", checkpoints=need, free=free)
            return tell("warning: {checkpoints} at once do not fit into the {free} left in {folder}: choose a smaller "
                        "--keep-last (0 keeps all), or --only-checkpoint-max", checkpoints=need, free=free,
                        folder=self.folder)
        minutes = f"{self.every_min:g}"
        if fits:
            return tell("on the disk {checkpoints}, and one more every {minutes} minutes; {free} are free",
                        checkpoints=need, minutes=minutes, free=free)
        return tell("warning: {checkpoints}, and one more every {minutes} minutes, do not fit into the {free} left in "
                    "{folder}: choose a smaller --keep-last (0 keeps all), or --only-checkpoint-max",
                    checkpoints=need, minutes=minutes, free=free, folder=self.folder)
