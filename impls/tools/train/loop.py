"""The training loop, the same for every framework: epochs, losses, validation, checkpoints, sample grids."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from impls.backend import Images, Trainer, TrainerState, loss_scale_of
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig
from impls.store.trainlog import EpochLine, StepLine
from impls.tools.team import Team
from messages import tell

# Reading losses waits for the device, so that it idles for a moment: now and then, not at every step.
READ_EVERY_STEPS, READ_EVERY_S = 50, 0.5


@dataclass(frozen=True)
class Plan:
    """When a training does what. Step n is the one after which n are done; epochs count from 1.

    Attributes:
        steps_per_epoch: optimisation steps of an epoch.
        num_epochs: epochs in total.
        max_steps: steps in total at most; None for no such limit.
        checkpoint_epochs: epochs between checkpoints; 0 for none but the last.
        checkpoint_steps: steps between further checkpoints; None for none.
        sample_epochs: epochs between grids of samples; 0 for none.
        checkpoint_s: seconds since the last checkpoint after which a step is followed by one; None for none.
    """

    steps_per_epoch: int
    num_epochs: int
    max_steps: int | None = None
    checkpoint_epochs: int = 0
    checkpoint_steps: int | None = None
    sample_epochs: int = 0
    checkpoint_s: float | None = None

    @property
    def last_step(self) -> int:
        """The step that ends the training."""
        steps = self.num_epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return (step - 1) // self.steps_per_epoch + 1

    def validates(self, step: int) -> bool:
        """Whether the held-out images are looked at after this step: at the end of an epoch and of the training."""
        return step % self.steps_per_epoch == 0 or step == self.last_step

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after this step, however long it took to get there."""
        if self.checkpoint_steps is not None and step % self.checkpoint_steps == 0:
            return True
        return step == self.last_step or self._every(step, self.checkpoint_epochs)

    def checkpoints_after(self, step: int) -> int:
        """How many checkpoints come after this step, without those by time."""
        last, many = max(self.last_step, step), self.checkpoint_steps or 0
        epochs = self.checkpoint_epochs * self.steps_per_epoch
        every = [one for one in (many, epochs) if one]
        # Those that both ask for are one; the last comes anyway.
        both = math.lcm(many, epochs)
        count = sum(last // one - step // one for one in every) - (last // both - step // both if both else 0)
        return count + (step < last and all(last % one for one in every))

    def draws(self, step: int) -> bool:
        """Whether samples are drawn after this step."""
        return self.sample_epochs > 0 and (step == self.last_step or self._every(step, self.sample_epochs))

    def _every(self, step: int, epochs: int) -> bool:
        return epochs > 0 and step % (epochs * self.steps_per_epoch) == 0


class Outputs(Protocol):
    """What a training tells and leaves behind."""

    def steps(self, lines: Sequence[StepLine], images_per_s: float) -> None:
        """Steps whose losses are known, and how fast the latest ones were."""
        ...

    def epoch(self, line: EpochLine) -> None:
        """An epoch's end."""
        ...

    def checkpoint(self, state: TrainerState, validation_loss: float | None) -> None:
        """A state to keep, with the loss on the held-out images where it was measured."""
        ...

    def samples(self, state: TrainerState) -> None:
        """Time to draw samples."""
        ...


class Training:
    """One training, or the rest of one.

    Args:
        trainer: at the step where it begins or goes on.
        config: of the experiment.
        plan: when what happens.
        held_out: images that are not trained on; may be none.
        outputs: told everything; of several ranks, that of the first.
        stopped: whether somebody asked for the end; a step that has begun is finished.
        step: steps done already.
        clock: seconds.
        team: the ranks that train together; None for one alone. Only the first one's clock counts, everybody's wish to
            stop does, and all hear of both before a step, since whoever is late or ahead would be waited for in vain.
    """

    def __init__(self, trainer: Trainer, config: ExperimentConfig, plan: Plan, held_out: Images, outputs: Outputs,
                 stopped: Callable[[], bool], step: int = 0, clock: Callable[[], float] = time.monotonic,
                 team: Team | None = None) -> None:
        self.trainer, self.config, self.plan, self.outputs = trainer, config, plan, outputs
        self.held_out, self.stopped, self.clock, self.team = held_out, stopped, clock, team
        self.leads, self.due = team is None or team.leads, [False, False]
        self.step = self.step_read = self.step_saved = step
        # Steps and seconds since the last line of an epoch; the work at its end is not training.
        self.steps_timed, self.seconds_timed, self.timed_until = 0, 0.0, clock()
        self.saved_at = self.timed_until

    def run(self) -> bool:
        """Train; whether the end of the plan was reached.

        Raises:
            UsageError: the loss is not a finite number any more, or something cannot be written.
        """
        while self.step < self.plan.last_step and not self._stops():
            self.trainer.step()
            self.step += 1
            self._after_step()
        if self.step_saved != self.step:
            self._read()
            self._save(None)
        if self.team is not None:
            # The first one writes last, and what is wrong then must find the others still here.
            self.team.agreed()
        return self.step >= self.plan.last_step

    def _stops(self) -> bool:
        if self.team is None:
            return self.stopped()
        stop, *self.due = self.team.agreed(self.stopped(), *(self.leads and due for due in self._due()))
        return stop

    def _due(self) -> list[bool]:
        """Whether the clock asks for losses, and for a checkpoint."""
        now, every = self.clock(), self.plan.checkpoint_s
        return [now - self.timed_until >= READ_EVERY_S, every is not None and now - self.saved_at >= every]

    def _after_step(self) -> None:
        plan, step = self.plan, self.step
        late, overdue = self._due() if self.team is None else self.due
        saves = plan.saves(step) or overdue
        milestone = plan.validates(step) or saves or plan.draws(step)
        if late or milestone or step - self.step_read >= READ_EVERY_STEPS:
            self._read()
        if not milestone:
            return
        validation_loss = self._validate() if plan.validates(step) else None
        if saves:
            self._save(validation_loss)
        if plan.draws(step) and self.leads and not self.stopped():
            self.outputs.samples(self.trainer.state())
        self.timed_until = self.clock()

    def _read(self) -> None:
        losses = self.trainer.losses()
        # Nobody looks at them here, but the trainer keeps them until they are asked for.
        self.trainer.loader_wait_ns()
        now = self.clock()
        seconds, self.timed_until = now - self.timed_until, now
        self.steps_timed += len(losses)
        self.seconds_timed += seconds
        rate = len(losses) * self.config.train.batch_size / max(seconds, 1e-9)
        lines = [StepLine(step, self.plan.epoch(step), loss, self.config.train.learning_rate(step - 1))
                 for step, loss in enumerate(losses, start=self.step_read + 1)]
        self.step_read = self.step
        sound = list(takewhile(lambda line: math.isfinite(line.loss), lines))
        self.outputs.steps(sound, rate)
        if len(sound) < len(lines):
            first = lines[len(sound)]
            raise UsageError(tell("the loss is {loss} at step {step}: the training has diverged: go on from an "
                                  "earlier checkpoint with a smaller --lr", loss=first.loss, step=first.step))

    def _validate(self) -> float | None:
        if not self.leads:
            return None
        raw = averaged = None
        if len(self.held_out):
            raw = self.trainer.validation_loss(self.held_out, use_ema=False)
            if self.config.train.ema_decay is not None:
                averaged = self.trainer.validation_loss(self.held_out, use_ema=True)
        images = self.steps_timed * self.config.train.batch_size
        rate = images / max(self.seconds_timed, 1e-9)
        self.steps_timed, self.seconds_timed = 0, 0.0
        scale = loss_scale_of(self.trainer)
        self.outputs.epoch(EpochLine(
            self.step, self.plan.epoch(self.step), averaged, raw, round(rate, 3),
            loss_scale=None if scale is None else scale.scale, skipped=None if scale is None else scale.skipped))
        return raw if averaged is None else averaged

    def _save(self, validation_loss: float | None) -> None:
        if self.leads:
            self.outputs.checkpoint(self.trainer.state(), validation_loss)
        self.step_saved, self.saved_at = self.step, self.clock()
