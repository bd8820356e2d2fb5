"""Every `scheduler_config.json` is sampled as diffusers does, or refused in one line that names the key."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import diffusers_chains as peer
import numpy as np
from random_schedulers import request, scheduler_file
from small_sampling import last, sampler
from small_training import device

from impls.errors import UsageError
from impls.pictures.images import to_uint8
from impls.recipe.schedule import Schedule, steps_down
from impls.store.scheduler import read_scheduler
from impls.store.weights import load_weights
from impls.tools.sample.loop import load_into
from impls.tools.sample.options import experiment, parse, request_of


def diffusers_chains(cases, folder, *unet):
    """Final images and alpha-bar tables of diffusers' chains, by number of case; absent where diffusers raises."""
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    # One thread: so small a network is slower with more.
    done = subprocess.run(
        [sys.executable, peer.__file__, folder / "cases.json", folder / "out.npz", *unet],
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as arrays:
        return {number: (arrays[f"x{number}"], arrays[f"alphas_bar{number}"])
                for number in range(len(cases)) if f"x{number}" in arrays}


def accepted(text, case, folder):
    """The configuration of a file that can be sampled so.

    Raises:
        UsageError: it cannot.
    """
    path = folder / "scheduler_config.json"
    path.write_text(text, encoding="utf-8")
    diffusion, sample = read_scheduler(path)
    steps_down(diffusion.T, case["method"], case["steps"], sample.spacing, sample.steps_offset, sample.set_alpha_to_one)
    return diffusion, sample


def ours(fw, subject, chosen, case, alphas_bar):
    """The final images of our own chain, with diffusers' noise and the same network."""
    diffusion, sample = chosen
    place = device(subject)
    subject.config = subject.config.model_copy(update={"diffusion": diffusion, "sample": sample})
    subject.schedule = Schedule.from_config(diffusion)
    subject.noise = lambda _n, seed, _first: lambda t: fw.data.to_device(peer.noise(seed, t), *place)
    subject.network = lambda x, t: fw.data.to_device(
        peer.network(alphas_bar, np.array(x.numpy()), int(np.asarray(t.numpy()).reshape(-1)[0])), *place)
    return last(subject.chain(len(peer.IMAGES), case["seed"], case["method"], case["steps"], case["eta"],
                              sample.spacing))


def compare(fw, count, seed, odd, folder):
    """How many files of how many keys were equal or refused; fails where one was neither."""
    rng, cases, configurations, counts = random.Random(seed), [], [], Counter()
    for _ in range(count):
        (text, changed), case = scheduler_file(rng, odd), request(rng)
        try:
            configurations.append(accepted(text, case, folder))
        except UsageError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 600, message
            key = message.removeprefix(f"{folder / 'scheduler_config.json'}: ").split()[0].strip(":")
            counts[f"refused: {key}"] += 1
            assert changed or key == "sampling", (text, message)
        else:
            cases.append({"config": text, **case})
    theirs = diffusers_chains(cases, folder)
    subject = sampler(fw, loaded=False)
    for number, (case, chosen) in enumerate(zip(cases, configurations, strict=True)):
        assert number in theirs, ("diffusers refuses what we take", case)
        x, alphas_bar = theirs[number]
        assert np.isfinite(x).all(), case
        mine = ours(fw, subject, chosen, case, alphas_bar)
        levels = np.abs(to_uint8(mine).astype(int) - to_uint8(x).astype(int)).max()
        assert levels <= 1, (levels, case)
        counts["equal"] += 1
    return counts


def test_random_schedulers_are_sampled_as_diffusers_does_or_refused(fw, tmp_path):
    counts = compare(fw, 100, 1, 0.05, tmp_path)
    assert counts["equal"] > 30 and counts.total() == 100, counts


COMMON = {"num_train_timesteps": 20, "beta_end": 0.6}
FOLDERS = [
    ({"_class_name": "DDPMScheduler"}, {"method": "ddpm"}),
    ({"_class_name": "DDPMScheduler", "variance_type": "fixed_large", "clip_sample": False}, {"method": "ddpm"}),
    ({"_class_name": "DDIMScheduler", "clip_sample_range": 2.0}, {"method": "ddpm"}),
    ({"_class_name": "DDIMScheduler"}, {"steps": 5}),
    ({"_class_name": "DDIMScheduler"}, {"steps": 5, "recompute_eps": True}),
    ({"_class_name": "DDIMScheduler", "clip_sample": False}, {"steps": 5, "eta": 0.5}),
    ({"_class_name": "DDPMScheduler", "clip_sample_range": 2.0}, {"steps": 5}),
    ({"_class_name": "DDIMScheduler", "timestep_spacing": "leading", "steps_offset": 1}, {"steps": 3}),
    ({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "set_alpha_to_one": False}, {"steps": 3}),
    ({"_class_name": "DDIMScheduler", "timestep_spacing": "linspace", "steps_offset": 1}, {"steps": 3, "eta": 1.0}),
    ({"_class_name": "DDIMScheduler", "steps_offset": 2, "set_alpha_to_one": False}, {"steps": 5, "eta": 1.0}),
]


def test_a_diffusers_folder_gives_diffusers_images(fw, tmp_path):
    """The same weights, noise and file: the same images to one grey level, by the command that users have."""
    cases = [{"config": json.dumps({**COMMON, **file}), "method": "ddim", "steps": None, "eta": 0.0, "seed": 3, **case}
             for file, case in FOLDERS]
    theirs = diffusers_chains(cases, tmp_path, tmp_path / "unet")
    assert len(theirs) == len(cases)
    (tmp_path / "scheduler").mkdir()
    backend, images = fw.backend.create((), "cpu", 1), []
    for number, case in enumerate(cases):
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(case["config"], encoding="utf-8")
        words = ["--model_path", str(tmp_path), "--seed=3"]
        words += [f"--steps={case['steps']}", f"--eta={case['eta']}"] if case["method"] == "ddim" else []
        words += ["--clipped_eps=recomputed"] if case.get("recompute_eps") else []
        options, _ = parse(words)
        found = load_weights(tmp_path)
        chosen = experiment(options, {}, found.config)
        subject = backend.sampler(chosen)
        load_into(subject, found)
        asked = request_of(options, chosen.sample)
        drawn = subject.sample(2, asked.seed, asked.method, asked.steps, asked.eta, spacing=asked.spacing)
        levels = np.abs(drawn.astype(int) - to_uint8(theirs[number][0]).astype(int)).max()
        assert levels <= 1, (levels, case)
        images.append(drawn.tobytes())
    # Every setting is felt.
    assert len(set(images)) == len(cases)
