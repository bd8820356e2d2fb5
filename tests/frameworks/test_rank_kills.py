"""`kill -9` of a rank, or of what started the ranks, at any moment: nothing is left behind, and nothing is lost."""

from __future__ import annotations

import json
import random
import subprocess
import time
import uuid
from pathlib import Path

import psutil
import pytest
from rank_starts import ROOT, environment, launched, prefix, require_launcher
from test_train_processes import SETTINGS, losses

from impls.store.checkpoint import load_state
from impls.store.trainfolder import checkpoints

MARK = "RANKS_OF_TEST"
ORPHANS_S = 10
# torchrun asks its ranks to end, and makes them after 30 s.
LAUNCHER_S = 40


@pytest.fixture(autouse=True)
def launcher(framework):
    require_launcher(framework)


class Job:
    """A training on two ranks by its launcher, in a session of its own."""

    def __init__(self, framework: str, *words: object) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [*prefix(framework, 2), "-m", "impls.train", *map(str, words)], cwd=ROOT, start_new_session=True,
            env=environment(**{MARK: self.mark}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def processes(self) -> list[psutil.Process]:
        """All that the launcher has started, and itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def ranks(self) -> list[psutil.Process]:
        """Its ranks, as far as there are any yet."""
        return [child for child in psutil.Process(self.process.pid).children() if "impls.train" in child.cmdline()]

    def kill(self, rank: bool, choice: random.Random) -> str:
        """Kill a rank, else the launcher; which one it was."""
        ranks = self.ranks() if rank else []
        if not ranks:
            self.process.kill()
            self.process.wait()
            return "launcher"
        choice.choice(ranks).kill()
        # Its end is the launcher's affair.
        self.process.wait(LAUNCHER_S)
        return "rank"

    def left(self) -> list[psutil.Process]:
        """What is still there after ten seconds."""
        until = time.monotonic() + ORPHANS_S
        while (found := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        return found


def newest(root: Path) -> Path | None:
    """The folder of the training, once it has a checkpoint."""
    return next((folder for folder in root.glob("*") if checkpoints(folder / "checkpoints")), None)


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_left_and_nothing_lost(framework, request, tmp_path):
    settings, root, moments = tmp_path / "settings.json", tmp_path / "logs", random.Random(11)
    settings.write_text(json.dumps({**SETTINGS, "max_steps": 100_000, "num_epochs": 1000}))
    new = ("--backend", framework, "--config_path", settings, "--log_root", root)
    starts_s, killed = 0.0, []
    for number in range(request.config.getoption("--kills")):
        folder = newest(root)
        job = Job(framework, "--model_path", folder) if folder else Job(framework, *new)
        # The first one when it steps; so long the others may take until they do, on a machine as busy as this one.
        began = time.monotonic()
        while not starts_s and not any(path.stat().st_size for path in root.glob("*/log.jsonl")):
            assert job.process.poll() is None
            time.sleep(0.05)
        starts_s = starts_s or time.monotonic() - began
        time.sleep(moments.uniform(0.0, 1.3 * starts_s if killed else 2.0))
        assert job.process.poll() is None, f"ended by itself with {job.process.returncode}"
        killed.append(job.kill(number % 2 == 0, moments))
        print(f"killed a {killed[-1]}, {time.monotonic() - began:.1f} s after its start", flush=True)
        left = job.left()
        for process in left:
            process.kill()
        assert not left, f"after the {killed[-1]} was killed: {[process.cmdline() for process in left]}"
        for path in (folder for folder in root.glob("*/checkpoints/*.safetensors")):
            load_state(path)
    folder = newest(root)
    step = load_state(checkpoints(folder / "checkpoints")[-1])[0].step + 6 if folder else 9
    words = ("--model_path", folder) if folder else new
    done = launched(framework, 2, ["-m", "impls.train", *map(str, words), "--max_steps", str(step)])
    assert done.returncode == 0, done.stderr
    folder = newest(root)
    whole = launched(framework, 2, ["-m", "impls.train", *map(str, new[:-1]), str(tmp_path / "whole"), "--max_steps",
                                    str(step)])
    assert whole.returncode == 0, whole.stderr
    (other,) = (tmp_path / "whole").iterdir()
    assert [number for number, _ in losses(folder)] == list(range(1, step + 1)) and losses(folder) == losses(other)
    left, right = (load_state(checkpoints(each / "checkpoints")[-1])[0] for each in (folder, other))
    assert left.step == right.step == step
    for name, array in left.params.items():
        assert (array == right.params[name]).all(), name
    print(f"{step} steps")
