"""What a training leaves in its folder and shows on the terminal."""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm

from impls.backend import Arrays, Images, TrainerState
from impls.errors import UsageError
from impls.pictures.curve import save_curve
from impls.pictures.event_files import Events, open_events
from impls.pictures.images import save_grid
from impls.recipe.config import ExperimentConfig
from impls.store.checkpoint import Note, save_state
from impls.store.trainfolder import TrainFolder, prune
from impls.store.trainlog import EpochLine, Line, StepLine, TrainLog
from impls.tools.train.loop import Plan
from impls.tools.train.options import TrainOptions
from messages import tell

# Drawing takes longer than a short epoch.
CURVE_EVERY_S = 30.0
# The images of a set of weights, or None when somebody asked for the end in between.
Draw = Callable[[Arrays], Images | None]


class NoOutputs:
    """Those of a rank that is not the first."""

    def steps(self, lines: Sequence[StepLine], images_per_s: float) -> None:
        """Nothing."""

    def epoch(self, line: EpochLine) -> None:
        """Nothing."""

    def checkpoint(self, state: TrainerState, validation_loss: float | None) -> None:
        """Nothing."""

    def samples(self, state: TrainerState) -> None:
        """Nothing."""


class FolderOutputs:
    """See `impls.tools.train.loop.Outputs`.

    Args:
        folder: where everything goes.
        config: of the experiment.
        plan: of the training.
        note: what the checkpoints say about the training; the validation loss is filled in.
        draw: draws samples.
        options: which checkpoints stay, and whether anything but these is written.
        earlier: the trace up to the step where this process begins.
        step: that step.
    """

    def __init__(self, folder: TrainFolder, config: ExperimentConfig, plan: Plan, note: Note, draw: Draw,
                 options: TrainOptions, earlier: Sequence[Line], step: int) -> None:
        self.folder, self.config, self.plan, self.note, self.draw = folder, config, plan, note, draw
        self.options = options
        losses = [line for line in earlier if isinstance(line, StepLine)]
        self.step_numbers = array("q", [line.step for line in losses])
        self.losses = array("d", [line.loss for line in losses])
        self.epoch_losses: list[float] = []
        self.epochs = [line for line in earlier if isinstance(line, EpochLine)]
        self.latest = step if step and folder.checkpoint(step).exists() else None
        self.curve_drawn_s, self.curve_is_old = time.monotonic(), False
        self.told: set[str] = set()
        live = sys.stderr.isatty()
        with ExitStack() as stack:
            self.bar: tqdm[Any] = stack.enter_context(tqdm(
                total=plan.last_step, initial=step, unit=tell("step"), desc=tell("training"),
                mininterval=0.1 if live else 10.0, dynamic_ncols=live, leave=live))
            self.events = open_events(folder.path, self.say) if options.log else Events(None)
            stack.callback(self.events.close)
            self.log = TrainLog(folder.log) if options.log else None
            if self.log is not None:
                stack.callback(self.log.close)
            self.stack = stack.pop_all()

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=sys.stderr)

    def steps(self, lines: Sequence[StepLine], images_per_s: float) -> None:
        """Write the losses down and move the bar."""
        if not lines:
            return
        self.step_numbers.extend(line.step for line in lines)
        self.losses.extend(line.loss for line in lines)
        self.epoch_losses += [line.loss for line in lines]
        self.curve_is_old = True
        if self.log is not None:
            self.log.add(lines)
        for line in lines:
            self.events.scalar("loss", line.loss, line.step)
            self.events.scalar("lr", line.lr, line.step)
        last = lines[-1]
        self.bar.set_postfix_str(tell("epoch {epoch}/{epochs}, loss {loss}, {speed} img/s", epoch=last.epoch,
                                      epochs=self.plan.num_epochs, loss=f"{last.loss:.4f}",
                                      speed=f"{images_per_s:.0f}"), refresh=False)
        self.bar.update(len(lines))

    def epoch(self, line: EpochLine) -> None:
        """Write the validation down, say it, and draw the curve now and then."""
        self.epochs.append(line)
        fresh, self.epoch_losses = self.epoch_losses, []
        text = tell("epoch {epoch}/{epochs}, step {step}: loss {loss}", epoch=line.epoch,
                    epochs=self.plan.num_epochs, step=line.step, loss=f"{sum(fresh) / len(fresh):.4f}")
        for name, label in (("validation_loss", tell("held out")),
                            ("validation_loss_ema", tell("held out, averaged weights"))):
            value = getattr(line, name)
            if value is not None:
                text += tell(", {label} {loss}", label=label, loss=f"{value:.4f}")
                self.events.scalar(name, value, line.step)
        if line.loss_scale is not None and line.skipped is not None:
            text += tell(", loss scale {scale}, {skipped} steps left out so far",
                         scale=f"{line.loss_scale:g}", skipped=line.skipped)
            self.events.scalar("loss_scale", line.loss_scale, line.step)
            self.events.scalar("skipped", line.skipped, line.step)
        self.events.scalar("images_per_s", line.images_per_s, line.step)
        self.say(tell("{text}, {speed} images/s", text=text, speed=f"{line.images_per_s:.0f}"))
        if self.log is not None:
            self.log.add([line])
            self.events.flush()
            if time.monotonic() - self.curve_drawn_s >= CURVE_EVERY_S:
                self._save_curve()

    def checkpoint(self, state: TrainerState, validation_loss: float | None) -> None:
        """Write a checkpoint, then remove those that nobody wants any more."""
        if self.log is not None:
            self.log.sync()
        note = self.note.model_copy(update={"validation_loss": validation_loss})
        save_state(self.folder.checkpoint(state.step), state, self.config, note)
        self.latest = state.step
        only_newest = self.options.only_checkpoint_max
        prune(self.folder.checkpoints, 1 if only_newest else self.options.keep_last or None, keep_best=not only_newest)

    def samples(self, state: TrainerState) -> None:
        """Draw a grid of samples with the averaged weights where there are any."""
        if self.log is None:
            return
        try:
            images = self.draw(state.params if state.ema is None else state.ema)
            if images is not None:
                save_grid(self.folder.samples(state.step), images)
        except UsageError as error:
            self._without("samples", error)

    def close(self, failed: bool) -> None:
        """Finish the curve, unless the training ended by an error that may hit the curve too, and close all files."""
        try:
            if self.log is not None and self.curve_is_old and not failed:
                self._save_curve()
        finally:
            self.stack.close()

    def _save_curve(self) -> None:
        try:
            save_curve(self.folder.curve, self.step_numbers, self.losses, self.epochs)
        except Exception as error:
            # Whatever the drawing library meets on this machine: the training is worth more than its picture.
            self._without(self.folder.curve.name, error)
        self.curve_drawn_s, self.curve_is_old = time.monotonic(), False

    def _without(self, picture: str, error: Exception) -> None:
        """Tell, the same only once, that the training goes on without a picture."""
        what = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        line = tell("{picture} could not be drawn: {fault}; the training goes on without it", picture=picture,
                    fault=" ".join(what.split()))
        if line not in self.told:
            self.told.add(line)
            self.say(line)
