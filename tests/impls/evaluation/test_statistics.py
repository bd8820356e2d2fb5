"""Published statistics: the distance of the images that they were made of, and refusals of what are none."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_evaluation import draw

from impls.errors import UsageError
from impls.evaluation import networks as extractors
from impls.evaluation.inputs import open_reference
from impls.evaluation.inputs.statistics import Published, read_statistics
from impls.tools.evaluate.options import parse
from impls.tools.evaluate.reference import fitting


def features(images):
    mean = images.astype(np.float64).reshape(len(images), 2, images.shape[1] // 2, 2, -1, 3).mean((2, 4))
    return 0.1 * mean.transpose(0, 3, 1, 2).reshape(len(images), -1)


def figure(one, metric):
    return next(entry for entry in one["figures"] if entry["metric"] == metric)


@pytest.fixture
def published(tmp_path):
    """Statistics of the real images of the fixture `files`, as pytorch-fid writes them."""
    seen = features(draw(200, 2))
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=seen.mean(0), sigma=np.cov(seen, rowvar=False))
    return path


def test_the_distance_is_that_of_the_images_themselves(evaluated, files, published, cache):
    _, images, _, _ = evaluated(*files)
    code, found, out, _ = evaluated(*files[:2], "--reference", published)
    one, other = images["sets"][0], found["sets"][0]
    assert code == 0 and [entry["metric"] for entry in other["figures"]] == [e["metric"] for e in one["figures"]]
    for metric in ("fd", "fd-extrapolated"):
        for key in ("value", "ci_low", "ci_high"):
            assert figure(other, metric)[key] == pytest.approx(figure(one, metric)[key], rel=1e-5)
    for metric in ("kid", "precision", "recall"):
        assert figure(other, metric)["value"] is None and "statistics alone" in figure(other, metric)["reason"]
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    assert found["reference"]["sha256"] == digest and found["reference"]["feature_size"] == 12
    assert digest in out and "nothing in the file of statistics tells which network" in other["warnings"][0]
    assert "KID                              n/a" in out


def test_the_reference_alone_can_be_checked(evaluated, published):
    code, found, _, _ = evaluated("--reference-only", "--reference", published)
    assert code == 0 and found["reference"]["dataset"] == "statistics.npz" and found["sets"] == []


def test_images_beside_statistics_are_what_is_looked_at(published, tmp_path):
    with np.load(published) as found:
        np.savez(tmp_path / "both.npz", arr_0=draw(30), mu=found["mu"], sigma=found["sigma"])
    said = []
    reference = open_reference(str(tmp_path / "both.npz"), None, said.append)
    assert reference.source.count == 30 and "the images are taken, the statistics are not" in said[0]


def test_single_precision_is_near_enough(published):
    with np.load(published) as found:
        np.savez(published, mu=found["mu"].astype(np.float32), sigma=found["sigma"].astype(np.float32))
    assert read_statistics(published).fitted().trace > 0


@pytest.mark.parametrize(("mu", "sigma", "wanted"), [
    (np.zeros(11), np.eye(12), "mu has shape (11,) and sigma (12, 12), expected (d,) and (d, d)"),
    (np.zeros((12, 1)), np.eye(12), "mu has shape (12, 1)"),
    (np.zeros(12), np.ones(12), "sigma (12,)"),
    (np.zeros(0), np.zeros((0, 0)), "mu has shape (0,)"),
    (np.zeros(12), np.full((12, 12), np.nan), "sigma holds NaN or infinity"),
    (np.full(12, np.inf), np.eye(12), "mu holds NaN or infinity"),
    (np.zeros(12), np.eye(12) + np.eye(12, k=1), "sigma is not symmetric"),
    (np.zeros(12), np.diag([1.0] * 11 + [-0.1]), "sigma has a negative eigenvalue (-0.1, the largest is 1)"),
    (np.zeros(12, int), np.eye(12), "mu is int64, expected float64"),
    (np.array([None] * 12), np.eye(12), "holds Python objects, which are never unpickled"),
    (np.zeros(10), np.eye(10), "statistics of 10 features, quarters has 12"),
], ids=range(11))
def test_what_are_no_statistics(evaluated, files, tmp_path, monkeypatch, mu, sigma, wanted):
    monkeypatch.setattr(extractors, "create", lambda *_: pytest.fail("a network was built"))
    path = tmp_path / "wrong.npz"
    np.savez(path, mu=mu, sigma=sigma)
    code, found, _, errors = evaluated(*files[:2], "--reference", path)
    assert (code, found, len(errors)) == (2, None, 1) and wanted in errors[0] and str(path) in errors[0]


@pytest.mark.parametrize("words", [["--nearest", "near"], ["--reference_images", 20]])
def test_what_needs_the_real_images_is_refused(evaluated, files, published, words):
    code, _, _, errors = evaluated(*files[:2], "--reference", published, *words)
    assert code == 2 and f"{words[0]}: needs the real images" in errors[0]


@pytest.mark.parametrize(("d", "wanted"), [(2048, "inception-v3-compat"), (1280, "efficientnet-lite0")])
def test_auto_takes_the_network_of_as_many_features(d, wanted):
    said = []
    some = Published(Path("some.npz"), "0" * 64, np.zeros(d), np.zeros((1, 1)))
    assert fitting(parse(["--images", "x"]), some, said.append).name == wanted
    assert said == [f"features {wanted}: some.npz has statistics of {d} features"]
    with pytest.raises(UsageError, match="some.npz: statistics of 1280 features, inception-v3-compat has 2048"):
        fitting(parse(["--images", "x", "--inception_weights", __file__]), replace(some, mean=np.zeros(1280)),
                said.append)
