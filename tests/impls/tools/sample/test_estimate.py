"""What a set for evaluation will take: the room is counted, the time is tried, and a disk too small is refused."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scripted_sampler import ScriptedSampler

from impls.recipe.config import merged, preset
from impls.tools.cost import duration
from impls.tools.sample import estimate
from impls.tools.sample.loop import Request

CONFIG = merged(preset("tiny"), {"model": {"image_size": 8}, "diffusion": {"T": 20}}, "test")
EACH = 3 * 8 * 8


@pytest.mark.parametrize(("seconds", "words"), [
    (0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (700, "12 min"), (5_400, "1.5 h"), (50_000, "14 h"),
    (172_800, "2.0 days")])
def test_times_are_told_in_two_digits(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def disk(monkeypatch):
    """A disk of which a test says how much is free."""
    free = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    return free


def test_a_disk_too_small_is_one_line_before_the_framework_is_there(sampled, scripted, disk, tmp_path):
    disk.free = 3 * 100_000 * EACH + estimate.SPARE_BYTES - 1
    code, out, errors = sampled("--test", "--num_images", 100_000, "--no-log")
    assert (code, scripted.last, len(errors)) == (2, None, 1)
    told = f"--sample_root {tmp_path / 'out'}: 100000 images take 59.6 MB there, the disk of {tmp_path} has 59.6 MB"
    assert told in errors[0]
    assert "make room, or choose another --sample_root" in errors[0] and "NFE" not in out
    assert not (tmp_path / "out").exists()
    # Pictures for people are fewer, and not counted.
    assert sampled("--num_images", 2, "--no-log")[0] == 0


def test_what_is_drawn_already_needs_no_room(sampled, disk, tmp_path):
    options = ("--test", "--num_images", 40, "--batch_size", 10, "--no-log")
    disk.free = 3 * 40 * EACH + estimate.SPARE_BYTES
    code, out, _ = sampled(*options)
    assert code == 0 and "on the disk 2.0 MB; 2.0 MB are free" in out
    disk.free -= 40 * EACH
    assert sampled(*options)[0] == 0
    disk.free -= 3 * 40 * EACH
    assert sampled(*options)[0] == 2


class Clocked(ScriptedSampler):
    """Takes 100 s for the first network call, as one that compiles, and 2 s for each of the others."""

    now = 0.0

    def sample(self, n, seed, method="ddpm", steps=None, eta=0.0, on_step=None, **more):
        def on_call(call, read):
            Clocked.now += 100 if call == 1 else 2
            on_step(call, read)

        return super().sample(n, seed, method, steps, eta, on_call, **more)


@pytest.mark.parametrize(("steps", "calls"), [(None, 3), (10, 3), (2, 2)])
def test_a_call_is_tried_without_the_first_one(steps, calls):
    sampler = Clocked(CONFIG)
    request = Request("ddim" if steps else "ddpm", steps, 0.0, "uniform", 3)
    assert estimate.call_s(sampler, request, request.nfe(20), 4, lambda: Clocked.now) == 2
    assert sampler.reads == [1, calls] and sampler.asked == [range(4)]
    assert estimate.call_s(Clocked(CONFIG), Request("ddim", 1, 0.0, "uniform", 3), 1, 4, lambda: Clocked.now) is None


def test_the_forecast_counts_every_call():
    words = "about 2.8 h: 50 batches of 100 network calls on each of 2 ranks, 2 s a call"
    assert estimate.forecast(2.0, 50, 100, 2) == words


def test_it_is_tried_where_it_is_little_of_the_work_and_changes_no_image(sampled, scripted, tmp_path):
    few, many = ("--num_images", 36, "--batch_size", 4), ("--num_images", 40, "--batch_size", 4)
    code, out, _ = sampled("--test", "--no-log", *few, root="few")
    assert code == 0 and "about" not in out and len(scripted.last.asked) == 9
    code, out, _ = sampled("--test", "--no-log", *many, root="many")
    assert code == 0 and "10 batches of 20 network calls, " in out and len(scripted.last.asked) == 11
    one, other = (np.load(tmp_path / name / "images.npy") for name in ("few", "many"))
    np.testing.assert_array_equal(one, other[:36])
