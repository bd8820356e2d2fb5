"""The loop on several ranks: clocks that disagree, wishes to stop, and faults of one of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scripted_trainer import ScriptedTrainer
from test_training_loop import CONFIG, Told
from thread_ranks import every_rank

from impls.errors import UsageError
from impls.tools.team import Settled, Team
from impls.tools.train.loop import Plan, Training
from impls.tools.train.options import parse
from impls.tools.train.run import train as train_as_asked

SIZE = 3


class RankTrainer(ScriptedTrainer):
    """Its steps and losses speak of all ranks, as those of a framework do."""

    def __init__(self, group):
        super().__init__(CONFIG, np.zeros((40, 4, 4, 3), np.uint8))
        self.group = group

    def step(self):
        self.group.total(np.zeros(7))
        super().step()

    def losses(self):
        own = super().losses()
        return (self.group.total(np.array(own)) / SIZE).tolist()


def train(plan, stop=lambda rank, step: False, fails=None, images=2):
    """What every rank was told, and how it ended; each has a clock of its own speed."""
    tolds = [Told() for _ in range(SIZE)]
    trainings = {}

    def work(group):
        rank = group.ranks.rank
        trainer, told = RankTrainer(group), tolds[rank]
        if fails is not None:
            told.checkpoint = lambda state, loss: fails(rank, state.step)
        together = Team(group)
        training = trainings[rank] = Training(
            trainer, CONFIG, plan, np.zeros((images, 4, 4, 3), np.uint8), told, lambda: stop(rank, trainer.steps),
            clock=lambda: trainer.steps * (0.03, 0.4, 10)[rank], team=together)
        with together.ending_together():
            return training.run()

    ends = every_rank(SIZE, work)
    return tolds, ends, {training.step for training in trainings.values()}


def test_only_the_first_ranks_clock_counts_and_only_it_writes():
    tolds, ends, steps = train(Plan(9, 4, checkpoint_epochs=2, sample_epochs=2, checkpoint_s=0.5))
    assert ends == [True] * SIZE and steps == {36}
    alone, *others = tolds
    # By its clock of 0.03 s a step: after 17 steps without a checkpoint another one.
    assert [step for step, _ in alone.saved] == [18, 36] and alone.drawn == [18, 36]
    assert [line.step for line in alone.lines] == list(range(1, 37))
    assert [len(told.reads) for told in others] == [len(alone.reads)] * 2
    assert all(told.saved == told.drawn == told.epochs == [] for told in others)
    tolds, _, _ = train(Plan(100, 1, checkpoint_s=0.5))
    assert [step for step, _ in tolds[0].saved] == [18, 36, 54, 72, 90, 100]


@pytest.mark.parametrize("who", range(SIZE))
def test_all_end_after_the_same_step_whoever_is_told_to_stop(who):
    tolds, ends, steps = train(Plan(9, 4), stop=lambda rank, step: rank == who and step >= 5)
    assert ends == [False] * SIZE and steps == {5}
    assert [step for step, _ in tolds[0].saved] == [5] and tolds[1].saved == []
    assert [line.step for line in tolds[0].lines] == [1, 2, 3, 4, 5]


def test_a_checkpoint_that_cannot_be_written_ends_all_and_is_said_once():
    def fails(rank, step):
        raise UsageError("the disk is full")

    _, ends, steps = train(Plan(9, 4, checkpoint_steps=4), fails=fails)
    assert isinstance(ends[0], Settled) and str(ends[0]) == "the disk is full"
    assert [type(end) for end in ends[1:]] == [SystemExit] * 2 and steps == {4}


@pytest.mark.parametrize("stop_at", [None, 5])
def test_the_last_checkpoint_that_cannot_be_written_finds_the_others_still_there(stop_at):
    def fails(rank, step):
        if rank == 0:
            raise UsageError("the disk is full")

    _, ends, steps = train(Plan(9, 4), stop=lambda rank, step: step == stop_at, fails=fails)
    assert isinstance(ends[0], Settled) and str(ends[0]) == "the disk is full"
    assert [type(end) for end in ends[1:]] == [SystemExit] * 2 and steps == {stop_at or 36}


def test_a_loss_that_is_not_finite_ends_all_and_is_said_once(monkeypatch):
    def losses(self):
        own = np.array(ScriptedTrainer.losses(self)) * (np.nan if self.group.ranks.rank == 1 else 1)
        return (self.group.total(own) / SIZE).tolist()

    monkeypatch.setattr(RankTrainer, "losses", losses)
    _, ends, _ = train(Plan(1, 4))
    assert "the loss is nan at step 1" in str(ends[0])
    assert [type(end) for end in ends[1:]] == [SystemExit] * 2


@pytest.mark.parametrize(("words", "fault"), [(["--num-epochs", "3"], "--num-epochs than rank 0: 3 instead of 500"),
                                              (["--max-steps", "3"], "--max-steps than rank 0: 3 instead of None")])
def test_ranks_that_differ_are_refused_before_they_build_a_network(words, fault):
    def work(group):
        options, _ = parse(words if group.ranks.rank == 1 else [])
        data = SimpleNamespace(sha256="0" * 64, open=lambda: pytest.fail("opened"))
        train_as_asked(options, CONFIG, None, None, data, None, None, Team(group))

    for end in every_rank(2, work):
        assert isinstance(end, UsageError) and f"has another {fault}" in str(end)
