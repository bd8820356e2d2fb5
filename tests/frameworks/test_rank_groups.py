"""Ranks of a framework under the runner, by its own launcher: once, all that suite `scaling` asks of them."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
import rank_worker
from rank_starts import require_launcher
from small_training import images

from harness.processes import janitor
from harness.processes.ranks import launch_of
from harness.processes.scratch import Scratch
from harness.processes.session import WorkerFailedError
from harness.processes.workers import LocalSessions
from harness.protocol import group, life, timing, training
from impls.registry import parse_arm

LIMIT_S = 300
STEPS = 10
ARMS = {"pytorch": "pytorch", "jittor": "jittor:onednn"}


@pytest.fixture
def started(framework, tmp_path, monkeypatch):
    """A function that starts one process, or a group of two, with its trainer built."""
    require_launcher(framework)
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    arm, data = parse_arm(ARMS[framework]), tmp_path / "images.npy"
    np.save(data, images(40))
    with Scratch() as scratch:
        sessions = LocalSessions(1, scratch)

        def start(size):
            by = None if size == 1 else launch_of(arm, "auto", size)
            session = sessions.start("A", arm, tmp_path / f"log-{size}", by=by)
            session.ask(life.Prewarm(arm=arm.name, device="cpu"), LIMIT_S)
            assert session.ask(life.Create(arm=arm.name, device="cpu", threads=1), LIMIT_S).info["threads"] == 1
            build(session, 12)
            return session

        def build(session, batch):
            recipe = rank_worker.chosen()
            recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"batch_size": batch})})
            return session.ask(life.Build(experiment=recipe.model_dump(mode="json"), data_path=str(data)), LIMIT_S)

        start.build = build
        yield start
        sessions.close()
        assert not janitor.marked(str(scratch.path))


def digests(session):
    return [told.sha256 for told in session.ask_all(group.ReadDigests(), LIMIT_S)]


def test_a_group_trains_as_one_process_with_and_without_averaging_and_dies_by_name(started):
    with started(1) as one:
        one.ask(timing.Stepwise(steps=STEPS), LIMIT_S)
        alone = one.ask(training.ReadLosses(), LIMIT_S).losses
    with pytest.raises(WorkerFailedError, match="rank 1 on .* is gone") as fault, started(2) as two:
        times = two.ask(timing.Stepwise(steps=STEPS), LIMIT_S)
        assert len(times.step_ns) == STEPS and min(times.step_ns) > 0
        np.testing.assert_allclose(two.ask(training.ReadLosses(), LIMIT_S).losses, alone, rtol=1e-5)
        first, second = digests(two)
        assert first == second and set(first) == {"params", "ema", "exp_avg", "exp_avg_sq"}
        two.ask(group.Average(on=False), LIMIT_S)
        two.ask(timing.Stepwise(steps=2), LIMIT_S)
        first, second = digests(two)
        assert all(first[what] != second[what] for what in first)
        two.ask(training.ReadLosses(), LIMIT_S)
        # A trainer of another batch, in the same processes: it begins with the first rank's weights.
        started.build(two, 24)
        two.ask(group.Average(on=True), LIMIT_S)
        two.ask(timing.Stepwise(steps=2), LIMIT_S)
        first, second = digests(two)
        assert first == second
        for floats in (256, 100_000):
            told = two.ask(group.Reduce(floats=floats, rounds=5), LIMIT_S)
            assert len(told.round_ns) == 5 and min(told.round_ns) > 0
        victim = two.pids[1]
        threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()
        two.ask(timing.Stepwise(steps=100_000), LIMIT_S)
    assert fault.value.cause == "crash"
