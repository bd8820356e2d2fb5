"""The loop with a scripted trainer and a scripted clock: what is told, written and drawn when."""

from __future__ import annotations

import numpy as np
import pytest
from scripted_trainer import ScriptedTrainer

from impls.errors import UsageError
from impls.recipe.config import merged, preset
from impls.recipe.scaling import LossScale
from impls.tools.train.loop import Plan, Training

CONFIG = merged(preset("tiny"), {"train": {"batch_size": 4, "warmup_steps": 10}}, "test")


class Told:
    """Outputs that only remember."""

    def __init__(self):
        self.lines, self.epochs, self.saved, self.drawn, self.reads, self.rates = [], [], [], [], [], []

    def steps(self, lines, images_per_s):
        self.lines += lines
        self.reads.append(len(lines))
        self.rates.append(images_per_s)

    def epoch(self, line):
        self.epochs.append(line)

    def checkpoint(self, state, validation_loss):
        self.saved.append((state.step, validation_loss))

    def samples(self, state):
        self.drawn.append(state.step)


def run(plan, step=0, stop_at=None, config=CONFIG, held_out=2, step_s=0.01, trainer=None):
    """A training; its outputs, and whether it came to its end."""
    trainer = trainer or ScriptedTrainer(config, np.zeros((40, 4, 4, 3), np.uint8))
    trainer.steps = step
    told, now = Told(), [0.0]

    def clock():
        return now[0]

    def on_step(_):
        now[0] += step_s

    trainer.on_step = on_step
    training = Training(trainer, config, plan, np.zeros((held_out, 4, 4, 3), np.uint8), told,
                        lambda: stop_at is not None and trainer.steps >= stop_at, step, clock)
    return told, training.run()


def test_every_step_is_told_once_in_order():
    told, complete = run(Plan(9, 3))
    assert complete
    assert [line.step for line in told.lines] == list(range(1, 28))
    assert [line.epoch for line in told.lines] == [1] * 9 + [2] * 9 + [3] * 9
    assert [line.lr for line in told.lines] == pytest.approx([2e-4 * min(1, step / 10) for step in range(1, 28)])


@pytest.mark.parametrize(("plan", "saved", "drawn"), [
    (Plan(9, 4), [36], []),
    (Plan(9, 4, checkpoint_epochs=2), [18, 36], []),
    (Plan(9, 4, checkpoint_epochs=3, sample_epochs=2), [27, 36], [18, 36]),
    (Plan(9, 4, checkpoint_steps=10), [10, 20, 30, 36], []),
    (Plan(9, 2, checkpoint_epochs=1, checkpoint_steps=6, sample_epochs=1), [6, 9, 12, 18], [9, 18]),
    (Plan(9, 4, max_steps=13, checkpoint_epochs=1), [9, 13], []),
    (Plan(9, 1, max_steps=100), [9], []),
])
def test_checkpoints_and_samples_come_when_they_are_due(plan, saved, drawn):
    told, _ = run(plan)
    assert [step for step, _ in told.saved] == saved
    assert told.drawn == drawn
    assert [line.step for line in told.epochs] == [*range(9, plan.last_step, 9), plan.last_step]
    assert [plan.checkpoints_after(step) for step in range(40)] == [sum(one > step for one in saved)
                                                                    for step in range(40)]


def test_a_plan_without_end_is_counted_at_once():
    plan = Plan(25_000, 10**9, checkpoint_epochs=5, checkpoint_steps=1000)
    assert plan.checkpoints_after(0) == 25_000 * 10**9 // 1000


@pytest.mark.parametrize(("plan", "saved"), [
    # A step takes a second.
    (Plan(9, 4, checkpoint_s=10), [10, 20, 30, 36]),
    (Plan(9, 4, checkpoint_s=9.5, checkpoint_epochs=2), [10, 18, 28, 36]),
    (Plan(9, 4, checkpoint_s=100), [36]),
    (Plan(9, 1, checkpoint_s=0.5), list(range(1, 10))),
])
def test_so_much_time_since_the_last_checkpoint_makes_a_further_one(plan, saved):
    told, _ = run(plan, step_s=1.0)
    assert [step for step, _ in told.saved] == saved
    # It changes nothing else.
    assert [line.step for line in told.epochs] == [9 * epoch for epoch in range(1, plan.num_epochs + 1)]
    assert told.lines == run(Plan(9, plan.num_epochs), step_s=1.0)[0].lines
    assert told.rates == pytest.approx([4] * len(told.rates))


def test_only_checkpoints_at_an_epochs_end_know_a_validation_loss():
    told, _ = run(Plan(9, 2, checkpoint_steps=6))
    at = dict(told.saved)
    assert at[6] is None and at[12] is None
    assert at[18] == told.epochs[-1].validation_loss_ema is not None


def test_without_averaged_weights_the_raw_loss_counts():
    config = merged(CONFIG, {"train": {"ema_decay": None}}, "test")
    told, _ = run(Plan(9, 1), config=config)
    assert told.epochs[0].validation_loss_ema is None
    assert told.saved == [(9, told.epochs[0].validation_loss)]


def test_without_held_out_images_nothing_is_validated():
    told, _ = run(Plan(9, 1), held_out=0)
    assert (told.epochs[0].validation_loss, told.epochs[0].validation_loss_ema) == (None, None)
    assert told.saved == [(9, None)]


def test_losses_are_read_now_and_then():
    """Every 50 fast steps, every half second of slow ones, and before whatever is written."""
    assert run(Plan(120, 1), step_s=0.001)[0].reads == [50, 50, 20]
    assert run(Plan(20, 1), step_s=0.2)[0].reads == [3] * 6 + [2]
    assert run(Plan(20, 1, checkpoint_steps=7), step_s=0.001)[0].reads == [7, 7, 6]


def test_the_rate_counts_training_alone():
    """A step of 4 images takes 0.01 s; a checkpoint takes as long as it likes."""
    told, _ = run(Plan(100, 2, checkpoint_steps=10))
    assert told.rates == pytest.approx([400] * len(told.rates))
    assert [line.images_per_s for line in told.epochs] == pytest.approx([400, 400])


def test_a_wish_to_stop_ends_after_the_step_with_a_checkpoint_and_without_samples():
    told, complete = run(Plan(9, 4, sample_epochs=1), stop_at=5)
    assert not complete
    assert (told.saved, told.drawn, told.epochs) == ([(5, None)], [], [])
    assert [line.step for line in told.lines] == [1, 2, 3, 4, 5]
    told, complete = run(Plan(9, 4, checkpoint_epochs=1, sample_epochs=1), stop_at=9)
    assert not complete
    assert [step for step, _ in told.saved] == [9]
    assert told.drawn == [] and len(told.epochs) == 1


def test_a_wish_that_comes_with_the_last_step_changes_nothing():
    told, complete = run(Plan(9, 1), stop_at=9)
    assert complete and [step for step, _ in told.saved] == [9]


def test_what_goes_on_counts_from_its_step():
    told, _ = run(Plan(9, 2, checkpoint_epochs=1), step=7)
    assert [line.step for line in told.lines] == list(range(8, 19))
    assert [step for step, _ in told.saved] == [9, 18]
    told, complete = run(Plan(9, 2), step=18)
    assert complete and told.lines == [] and told.saved == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_training_ends_and_saves_nothing(value):
    trainer = ScriptedTrainer(CONFIG, np.zeros((40, 4, 4, 3), np.uint8))
    sound = trainer.losses
    trainer.losses = lambda: [loss if i < 3 else value for i, loss in enumerate(sound())]
    told = Told()
    with pytest.raises(UsageError, match=f"the loss is {value} at step 4"):
        Training(trainer, CONFIG, Plan(9, 2), np.zeros((0, 4, 4, 3), np.uint8), told, lambda: False).run()
    assert [line.step for line in told.lines] == [1, 2, 3]
    assert told.saved == []


def test_an_epoch_tells_how_the_loss_is_scaled_where_it_is():
    class Scaled(ScriptedTrainer):
        def loss_scale(self):
            return LossScale(scale=65536 / 2**self.steps, skipped=self.steps)

    told, _ = run(Plan(3, 2), trainer=Scaled(CONFIG, np.zeros((40, 4, 4, 3), np.uint8)))
    assert [(line.loss_scale, line.skipped) for line in told.epochs] == [(8192.0, 3), (1024.0, 6)]
    told, _ = run(Plan(3, 2))
    assert [(line.loss_scale, line.skipped) for line in told.epochs] == [(None, None)] * 2
