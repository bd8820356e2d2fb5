"""Several ranks: they compute what one process computes, and the tools' files are those of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rank_worker
from rank_starts import LIMIT_S, ROOT, Ranks, environment, launched, require_launcher
from test_sample_processes import checkpoint  # noqa: F401
from test_sample_processes import finish as drawn
from test_sample_processes import start as draw
from test_train_processes import SETTINGS, losses, start

from impls.store.checkpoint import load_state, read_note

STEPS = 10
SHORT = {**SETTINGS, "batch_size": 8, "max_steps": 12, "checkpoint_steps": 4, "keep_last": 0}
CASES = {"pytorch": [("pytorch", 2), ("pytorch", 3), ("pytorch", 4)],
         "jittor": [("jittor", 2), ("jittor", 4), ("jittor:onednn", 2), ("jittor:onednn", 4)]}


@pytest.fixture(autouse=True)
def startable(framework):
    require_launcher(framework)


def pytest_generate_tests(metafunc):
    if "arm" in metafunc.fixturenames:
        metafunc.parametrize(("arm", "size"), CASES.get(metafunc.config.getoption("--framework"), []))


def test_ranks_train_as_one_process_and_are_equal_bit_for_bit(fw, arm, size, tmp_path):
    options = tuple(arm.partition(":")[2].split("+")) if ":" in arm else ()
    _, alone = rank_worker.trained(fw.backend.create(options, "cpu", 1), STEPS)
    done = launched(fw.name, size, [rank_worker.__file__, arm, str(STEPS), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(size)]
    assert [one["size"] for one in told] == [size] * size
    assert len({json.dumps(one["hashes"]) for one in told}) == 1
    assert all(one["losses"] == told[0]["losses"] for one in told)
    np.testing.assert_allclose(told[0]["losses"], alone, rtol=1e-5)
    assert alone[-1] < alone[0]


class Started:
    """A tool on two ranks, by the framework's launcher."""

    def __init__(self, name, module, words):
        self.name, words = name, ["-m", module, *map(str, words)]
        self.ranks = Ranks(2, words) if name == "pytorch" else None
        self.done = None if self.ranks else launched(name, 2, words)

    def finish(self):
        """What the first rank says on stdout."""
        if self.done is not None:
            assert self.done.returncode == 0, self.done.stderr
            return self.done.stdout
        codes, outs, errs = self.ranks.ends()
        assert codes == [0, 0], errs
        assert outs[1] == errs[1] == ""
        return outs[0]


def train(fw, *words):
    return Path(Started(fw.name, "impls.train", words).finish().strip())


def worst(left: Path, right: Path) -> float:
    """The largest difference of two checkpoints' arrays, over the largest number of each where that is no rounding."""
    (one, _), (other, _) = load_state(left), load_state(right)
    assert one.step == other.step
    return max(float(np.abs(array - getattr(other, part)[name]).max() / max(np.abs(array).max(), 1e-3))
               for part in ("params", "ema") for name, array in getattr(one, part).items())


def test_a_training_goes_on_at_another_number_of_ranks_and_back(fw, tmp_path):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({**SHORT, "experiment": {**SHORT["experiment"], "model": {
        **SHORT["experiment"]["model"], "dropout": 0.0}}}))
    common = ("--backend", fw.name, "--config_path", settings)
    whole = train(fw, *common, "--log_root", tmp_path / "whole")
    middle = whole.parent / "step-00000004.safetensors"
    assert read_note(middle).ranks == 2 and len(losses(whole.parents[1])) == 12
    one = start("--model_path", middle, "--max_steps", 8, "--log_root", tmp_path / "one")
    out, err = one.communicate(timeout=LIMIT_S)
    assert one.returncode == 0 and "ranks 2 -> 1: the last digits" in err
    (only,) = (tmp_path / "one").iterdir()
    back = train(fw, "--model_path", only, "--max_steps", 12)
    assert worst(back, whole) < 1e-5
    assert [step for step, _ in losses(only)] == list(range(1, 13))
    one, two = ([loss for _, loss in losses(folder)] for folder in (only, whole.parents[1]))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    exact = train(fw, "--model_path", whole.parent / "step-00000008.safetensors", "--log_root", tmp_path / "exact")
    assert worst(exact, whole) == 0


def test_two_ranks_draw_the_images_of_one_process(fw, checkpoint, tmp_path):  # noqa: F811
    options = ("--num_images", "7", "--batch_size", "2", "--steps", "5")
    drawn(draw(fw.name, checkpoint, tmp_path / "one", *options))
    words = ["--backend", fw.name, "--model_path", checkpoint, "--test", "--no-log", "--device", "cpu", "--sample_root",
             tmp_path / "two", "--config_path", tmp_path / "one.json", *options]
    assert "7 images, 7 of them drawn now" in Started(fw.name, "impls.sample", words).finish()
    one, two = (np.load(tmp_path / name / "images.npy") for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)
    assert len(list((tmp_path / "two" / "shards").iterdir())) == 4


def test_two_ranks_find_the_distance_of_one_process(fw, monkeypatch, tmp_path):
    if fw.name != "pytorch":
        pytest.skip("feature networks are PyTorch's")
    place = ROOT / "tests" / "impls" / "evaluation"
    site = tmp_path / "site" / "quarters-1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: quarters\nVersion: 1.0\n")
    (site / "entry_points.txt").write_text("[ddpm_bench.features]\nquarters = scripted_features:SPEC\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site.parent), str(place)]))
    drawn = np.random.default_rng(0).integers(0, 256, (330, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "drawn.npz", images=drawn[:130])
    np.savez(tmp_path / "real.npz", images=drawn[100:])
    words = ["--features", "quarters", "--device", "cpu", "--batch_size", "16", "--images", tmp_path / "drawn.npz",
             "--reference", tmp_path / "real.npz"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    one = subprocess.run([sys.executable, "-m", "impls.evaluate", *map(str, words), "--json", tmp_path / "one.json"],
                         cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert one.returncode == 0, one.stderr
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    for cached in (False, True):
        Started(fw.name, "impls.evaluate", [*words, "--json", tmp_path / "two.json"]).finish()
        alone, together = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
        assert together["reference"].pop("cached") is cached and not alone["reference"].pop("cached")
        for found in (alone, together):
            found["reference"].pop("images_per_s"), found["sets"][0].pop("images_per_s")
        assert alone == together and alone["sets"][0]["figures"][0]["value"] > 0


class Gloo:
    """Instead of PyTorch's: a thread holds what was summed until it is waited for."""

    def __init__(self, module, monkeypatch):
        self.held, self.waits, self.left_with, self.broken = [], [], [], False
        self.may_let_go = threading.Event()
        self.thread = threading.Thread(target=self.let_go)
        for name, scripted in [("init_process_group", lambda *_words, **_more: None), ("all_reduce", self.all_reduce),
                               ("destroy_process_group", lambda: self.left_with.append(len(self.held)))]:
            monkeypatch.setattr(module.distributed, name, scripted)
        monkeypatch.setattr(module.time, "sleep", self.sleep)

    def all_reduce(self, tensor):
        if self.broken:
            raise RuntimeError("Connection closed by peer")
        self.held.append(tensor)

    def let_go(self):
        self.may_let_go.wait(LIMIT_S)
        self.held.clear()

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.may_let_go.set()
        self.thread.join(LIMIT_S)


@pytest.fixture
def gloo(fw, monkeypatch):
    """A scripted gloo, and a group that meets by it."""
    if fw.name != "pytorch":
        pytest.skip("gloo's threads are PyTorch's")
    from impls.pytorch import group as module
    from impls.ranks import Ranks as Place

    scripted = Gloo(module, monkeypatch)
    return scripted, module.Group(Place(0, 2, 0, 2, "torchrun"), module.torch.device("cpu"))


def test_a_group_is_left_only_after_its_threads_have_let_go(gloo):
    scripted, group = gloo
    scripted.thread.start()
    np.testing.assert_array_equal(group.total(np.arange(3.0)), np.arange(3.0))
    reduce = group.all_reducer(5)
    reduce()
    group.close()
    # Waited for: at the end of Python such a thread would abort the process, whose work is done.
    assert len(scripted.waits) == 1 and scripted.left_with == [0]


def test_a_rank_whose_fellow_has_died_leaves_at_once(gloo):
    scripted, group = gloo
    scripted.broken = True
    try:
        group.total(np.arange(3.0))
    except RuntimeError:
        # As it is left in practice, while the error, and what it holds, is on its way.
        group.close()
    assert scripted.waits == [] and scripted.left_with == [0]


def test_a_signal_to_one_rank_ends_all_after_the_same_step(fw, tmp_path):
    if fw.name != "pytorch":
        pytest.skip("mpirun ends its ranks itself where one gets a signal")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({**SHORT, "max_steps": 100_000, "checkpoint_steps": None}))
    ranks = Ranks(2, ["-m", "impls.train", "--backend", "pytorch", "--config_path", str(settings), "--log_root",
                      str(tmp_path / "logs")])
    until = time.monotonic() + LIMIT_S
    while not any(path.stat().st_size for path in tmp_path.glob("logs/*/log.jsonl")):
        assert time.monotonic() < until and ranks.processes[0].poll() is None, ranks.ends()
        time.sleep(0.01)
    ranks.processes[1].send_signal(signal.SIGTERM)
    codes, _, errs = ranks.ends()
    assert codes == [130, 130] and "interrupted after step" in errs[0] and errs[1] == ""
    (folder,) = (tmp_path / "logs").iterdir()
    (kept,) = (folder / "checkpoints").iterdir()
    assert load_state(kept)[0].step == len(losses(folder)) > 0


@pytest.mark.parametrize(("words", "line"), [
    (["--backend", "pytorch", "--batch_size", "7"], "batch size 7: does not divide among 2 ranks: choose 6 or 8"),
    (["--backend", "jittor"], "torchrun does not fit jittor: start it by: mpirun -np 2 --bind-to none python -m "),
    (["--backend", "pytorch", "--loader", "native"], "2 ranks would draw the same images"),
])
def test_wrong_starts_are_refused_by_the_first_rank_alone(fw, words, line, tmp_path):
    if fw.name != "pytorch":
        pytest.skip("started as torchrun does it")
    words = [*words, "--dataset_name", "digits", "--device", "cpu", "--preset", "tiny"]
    words += ["--log_root", str(tmp_path / "logs")]
    ranks = Ranks(2, ["-m", "impls.train", *words])
    ranks.processes[0].wait(LIMIT_S)
    # As a launcher does when a rank has failed.
    if ranks.processes[1].poll() is None:
        ranks.processes[1].terminate()
    codes, _, errs = ranks.ends()
    # The other one may have been so early that it did not listen to signals yet.
    assert codes[0] == 2 and codes[1] in (2, -signal.SIGTERM) and errs[1] == ""
    assert [one for one in errs[0].splitlines() if "error:" in one][0].count(line) == 1
    assert not (tmp_path / "logs").exists()
