"""From words to a job: everything is worked out once, however many parts need it."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from harness import cli, options
from harness.options import BenchConfig, parse
from harness.processes import workers
from harness.progress import Progress
from harness.run import execute
from harness.run import resolve as resolving
from harness.run.execute import _dataset
from harness.run.resolve import fitted, resolve
from harness.suites import training
from impls import registry
from impls.data import datasets
from impls.errors import DataError, UsageError


@pytest.mark.parametrize(("suite", "recipes"), [("train-speed", 1), ("sample-speed", 1), ("parity", 1), ("quality", 2),
                                                ("all", 2)])
def test_a_dry_run_parses_the_arms_once_and_resolves_every_recipe_once(suite, recipes, monkeypatch, capsys):
    called = Counter()

    def counted(module, name):
        work = getattr(module, name)

        def counting(*args, **more):
            called[name] += 1
            return work(*args, **more)

        monkeypatch.setattr(module, name, counting)

    counted(registry, "specs")
    counted(options, "parse_arms")
    counted(options, "preset")
    assert cli.main(["--suite", suite, "--device", "cpu", "--dry-run"]) == 0
    assert '"experiment"' in capsys.readouterr().out
    assert called == {"parse_arms": 1, "specs": 1, "preset": recipes}


def test_a_part_may_refuse_any_option_not_only_weights(monkeypatch, capsys):
    def refusal(options):
        return None if options.pairs is None else "--pairs: this part has its own"

    monkeypatch.setattr(training.Training, "refusal", refusal)
    words = ["--suite", "train-speed", "--device", "cpu", "--dry-run"]
    assert cli.main([*words, "--pairs", "4"]) == 2
    assert capsys.readouterr().err == "run_bench.py: error: --pairs: this part has its own\n"
    assert cli.main(words) == 0


def job(tmp_path, *words, model=None):
    """What a command line amounts to, with a file that says something of the network."""
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"experiment": {"model": model or {}}}))
    return resolve(*parse(["--device", "cpu", "--config", str(file), *words]), [], Progress(quiet=True))


def networks(job):
    """Image channels of every recipe of a run, and of the images that it would prepare."""
    own = [recipe for plan in job.plans for recipe in plan.part.recipes().values()]
    return {recipe.model.image_channels for recipe in (job.recipe, *own)}, _dataset(job, Progress(quiet=True)).shape[2]


@pytest.mark.parametrize("suite", ["train-speed", "parity", "quality", "all"])
def test_grey_images_get_a_network_of_one_channel(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    grey = job(tmp_path, "--suite", suite, "--dataset", "digits")
    assert networks(grey) == ({1}, 1) and fitted(grey, 1) is grey
    assert grey.recipe.model.model_copy(update={"image_channels": 3}) == options.preset("tiny").model
    assert networks(job(tmp_path, "--suite", suite, "--dataset", "digits", model={"image_channels": 3})) == ({3}, 3)
    assert networks(job(tmp_path, "--suite", suite, "--dataset", "synthetic")) == ({3}, 3)


def test_images_that_are_found_when_a_run_starts_decide_then(tmp_path, capsys):
    auto = job(tmp_path, "--suite", "quality", model={"dropout": 0.0})
    assert auto.channels is None and auto.recipe.model.image_channels == 3 and fitted(auto, 3) is auto
    later = fitted(auto, 1)
    recipes = [later.recipe, *later.plans[0].part.recipes().values()]
    assert [(one.model.image_channels, one.model.dropout) for one in recipes] == [(1, 0.0)] * 2
    assert cli.main(["--suite", "quality", "--device", "cpu", "--dry-run"]) == 0
    assert "data set: auto, chosen when the run starts; on grey images the network has 1 channel" in (
        capsys.readouterr().out)


def test_sampling_follows_a_data_set_that_is_named(tmp_path):
    assert job(tmp_path, "--suite", "sample-speed", "--dataset", "digits").recipe.model.image_channels == 1
    assert job(tmp_path, "--suite", "sample-speed").recipe.model.image_channels == 3


def test_colour_for_a_network_of_one_channel_is_refused(tmp_path):
    grey = job(tmp_path, "--suite", "parity", "--dataset", "synthetic", model={"image_channels": 1})
    with pytest.raises(DataError, match="synthetic has images of 3 channels, the network is for 1"):
        datasets.prepare("synthetic", cache_dir=tmp_path, echo=lambda _: None, channels=grey.channels)


@pytest.mark.parametrize(("words", "line"), [
    (["--suite", "sample-speed", "--steps", "10,,50"], "a number is missing beside a comma"),
    (["--suite", "sample-speed", "--model-path", "no-such-weights"], "no-such-weights: no such file"),
    (["--suite", "quality", "--eta", "-1"], "eta")])
def test_what_is_refused_is_refused_before_a_framework_is_asked(words, line, monkeypatch, tmp_path):
    def started(*arguments, **more):
        raise AssertionError("a worker is started")

    monkeypatch.setattr(resolving.gpu, "fault", lambda: None)
    monkeypatch.setattr(workers, "LocalSessions", started)
    with pytest.raises(UsageError, match=line):
        resolve(*parse([*words, "--out", str(tmp_path)]), [], Progress(quiet=True))
    with pytest.raises(AssertionError, match="a worker is started"):
        resolve(*parse(["--out", str(tmp_path)]), [], Progress(quiet=True))


@pytest.mark.parametrize(("words", "line"), [
    (["--suite", "quality", "--features", "nope"], "--features nope: unknown: choose auto or one of inception-v3"),
    (["--suite", "all", "--features", "nope"], "--features nope: unknown"),
    (["--suite", "quality", "--inception-weights", "FOLDER/none.pth"], "FOLDER/none.pth: no such file"),
    (["--suite", "quality", "--inception-weights", "FOLDER"], "FOLDER: no such file"),
    (["--suite", "quality", "--inception-sha256", "12ab"], "12ab: expected 64 hexadecimal digits"),
    (["--suite", "quality", "--features", "efficientnet-lite0", "--inception-weights", "FILE"], "mean nothing to"),
    (["--data-root", "FOLDER/none"], "data folder FOLDER/none: no such folder"),
    (["--suite", "sample-speed", "--data-root", "FILE"], "data folder FILE: no such folder"),
    (["--out", "FILE"], "--out FILE: cannot write there (Not a directory): give a writable folder"),
    (["--out", "FILE/deep/er"], "--out FILE/deep/er: cannot write there (Not a directory)"),
    (["--out", "FOLDER/closed/er"], "--out FOLDER/closed/er: cannot write there (Permission denied)")])
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_files_and_names_are_refused_before_anything_begins(words, line, dry, monkeypatch, tmp_path, capsys):
    def begun(*arguments, **more):
        raise AssertionError("the run begins")

    folder, file = tmp_path / "there", tmp_path / "file"
    (folder / "closed").mkdir(parents=True)
    file.touch()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder / "closed" and allowed(path, mode))
    monkeypatch.setattr(execute, "execute", begun)

    def named(text):
        return text.replace("FOLDER", str(folder)).replace("FILE", str(file))

    assert cli.main(["--device", "cpu", *map(named, words), *dry]) == 2
    told = capsys.readouterr()
    assert named(line) in told.err and told.err.count("\n") == 1 and not told.out


def test_a_run_that_goes_on_needs_its_files_and_no_folder_for_new_ones(tmp_path):
    go = BenchConfig(resume=str(tmp_path), out=str(tmp_path / "file" / "er"), data_root=str(tmp_path))
    (tmp_path / "file").touch()
    resolving.check_places(go)
    with pytest.raises(DataError, match="no such folder"):
        resolving.check_places(go.model_copy(update={"data_root": str(tmp_path / "none")}))


def test_arms_that_exist_on_cuda_alone_are_asked_there(monkeypatch, tmp_path):
    def started(*arguments, **more):
        raise AssertionError("a worker is started")

    monkeypatch.setattr(resolving.gpu, "fault", lambda: None)
    monkeypatch.setattr(workers, "LocalSessions", started)
    words = ["--device", "cuda", "--arms", "pytorch:tf32,jittor:tf32", "--out", str(tmp_path)]
    with pytest.raises(AssertionError, match="a worker is started"):
        resolve(*parse(words), [], Progress(quiet=True))


def test_arms_that_exist_on_cuda_alone_are_refused_with_what_keeps_them_from_it(monkeypatch, tmp_path):
    monkeypatch.setattr(resolving.gpu, "fault", lambda: "the GPU is full")
    words = ["--arms", "pytorch:tf32,jittor:tf32", "--out", str(tmp_path)]
    with pytest.raises(UsageError, match="pytorch:tf32: option 'tf32' exists only on CUDA; .*the GPU is full$"):
        resolve(*parse(words), [], Progress(quiet=True))
    with pytest.raises(UsageError, match="--device cpu: pytorch:tf32: option 'tf32' exists only on CUDA$"):
        resolve(*parse([*words, "--device", "cpu"]), [], Progress(quiet=True))
