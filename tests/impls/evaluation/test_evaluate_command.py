"""The command line in this process, with a scripted network: its contract, its cache, its pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_evaluation import draw, frechet

from harness.record.events import quality
from impls.evaluation import networks as extractors
from impls.evaluation import results
from impls.evaluation.intervals import partition
from impls.evaluation.networks import features as kept_features
from impls.tools.evaluate import options as evaluate_options
from impls.tools.evaluate import reference as evaluate


def features(images):
    mean = images.astype(np.float64).reshape(len(images), 2, images.shape[1] // 2, 2, -1, 3).mean((2, 4))
    return 0.1 * mean.transpose(0, 3, 1, 2).reshape(len(images), -1)


def figure(one, metric):
    return next(figure for figure in one["figures"] if figure["metric"] == metric)


def test_the_json_has_what_the_journal_needs(evaluated, files, images, tmp_path):
    code, found, out, _ = evaluated(*files, "--images", images("more.npz", draw(64, 3, shift=20)),
                                    "--images", images("other.npz", draw(40, 4)), "--nearest", tmp_path / "near")
    assert code == 0
    line = quality.ReferenceFeatures(**found["features"], **found["reference"])
    assert (line.extractor, line.label, line.feature_size, line.input_size) == ("quarters", "FD quarters", 12, 2)
    assert (line.dataset, line.split, line.images, line.cached) == (
        "real.npz", "all 200 images of the file", 200, False)
    for one in found["sets"]:
        nearest, path = one.pop("nearest"), one.pop("path")
        quality.NearestImages(arm="A", cell="c", **nearest)
        made = quality.Quality(arm="A", cell="c", train_steps=None, extractor="quarters", label="FD quarters", **one)
        assert [entry.metric for entry in made.figures] == ["fd", "fd-extrapolated", "kid", "is", "precision", "recall"]
        assert path in out and f"{figure(one, 'fd')['value']:.4g}" in out
        for entry in made.figures:
            assert entry.metric == "is" or entry.ci_low <= entry.value <= entry.ci_high
        assert made.ladder[-1].images == one["images"]
        assert made.ladder[-1].value == pytest.approx(figure(one, "fd")["value"], rel=1e-5)
        assert "Inception's classes" in figure(one, "is")["reason"]
    (difference,) = found["differences"]
    quality.QualityDifference(arm_a="A", arm_b="B", cell="c", train_steps=None, label="l", matched_weights=True,
                              **{key: difference[key] for key in ("images", "value", "ci_low", "ci_high")})
    assert (difference["a"], difference["b"], difference["images"]) == (0, 1, 64)
    first, second = (figure(found["sets"][i], "fd")["value"] for i in (0, 1))
    assert difference["value"] == first - second
    assert difference["ci_low"] < difference["value"] < difference["ci_high"] < 0
    assert "FD quarters of set 0 less that of set 1" in out


def test_the_distance_is_that_of_the_images(evaluated, files):
    _, found, _, _ = evaluated(*files, "--batch_size", 7)
    wanted = frechet(features(draw(64, 1)), features(draw(200, 2)))
    assert figure(found["sets"][0], "fd")["value"] == pytest.approx(wanted, rel=1e-5)
    assert found["sets"][0]["ladder"][0]["images"] == 16


def test_equal_sets_differ_by_nothing_and_the_pairing_narrows_the_interval(evaluated, files, images):
    drawn = draw(64, 1)
    nearly = np.clip(drawn.astype(int) + np.random.default_rng(0).integers(-3, 4, drawn.shape), 0, 255).astype(np.uint8)
    _, found, _, _ = evaluated(*files, "--images", images("same.npz", drawn), "--images", images("near.npz", nearly))
    same, near = found["differences"]
    assert (same["value"], same["ci_low"], same["ci_high"]) == (0, 0, 0)
    alone = figure(found["sets"][0], "fd")
    assert near["ci_high"] - near["ci_low"] < 0.2 * (alone["ci_high"] - alone["ci_low"])


def test_grey_images_npy_files_and_repeated_options_are_understood(evaluated, tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    np.savez(tmp_path / "colour.npz", images=grey.repeat(3, 3), labels=np.arange(30))
    code, found, _, _ = evaluated(f"--images={tmp_path / 'grey.npy'}", "--reference", tmp_path / "colour.npz",
                                  "--images", tmp_path / "colour.npz")
    assert code == 0 and [one["images"] for one in found["sets"]] == [30, 30]
    assert found["sets"][0]["figures"] == found["sets"][1]["figures"]
    assert figure(found["sets"][0], "fd")["value"] == pytest.approx(0, abs=1e-4)


def test_a_grey_reference_is_the_same_as_its_three_channels(evaluated, images, tmp_path, cache):
    """Also for the cache, and beside coloured images in the pictures of neighbours."""
    grey = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    one, three = images("one.npz", grey), images("three.npz", grey.repeat(3, 3))
    found = [evaluated("--images", images("drawn.npz", draw(20, 1)), "--reference", path, "--nearest",
                       tmp_path / path.stem, "--nearest_images", 2) for path in (one, three)]
    assert [code for code, *_ in found] == [0, 0]
    assert found[0][1]["reference"]["images_sha256"] == found[1][1]["reference"]["images_sha256"]
    assert found[1][1]["reference"]["cached"] and len(list((cache / "features").iterdir())) == 1
    assert found[0][1]["sets"][0]["figures"] == found[1][1]["sets"][0]["figures"]
    shown = [(tmp_path / path.stem / "nearest-0.png").read_bytes() for path in (one, three)]
    assert shown[0] == shown[1]


def test_quiet_says_nothing_but_the_table(evaluated, files):
    code, found, out, errors = evaluated(*files, "--quiet")
    assert (code, errors) == (0, []) and out == results.table(results.Evaluation(**found)) + "\n"


def test_tiny_sets_say_what_they_lack(evaluated, images, files):
    _, found, out, _ = evaluated("--images", images("two.npz", draw(2, 5)), *files[2:])
    reasons = {entry["metric"]: entry["reason"] for entry in found["sets"][0]["figures"]}
    assert "needs 8" in reasons["fd-extrapolated"] and "needs 4" in reasons["recall"]
    assert reasons["fd"] == reasons["kid"] == "no interval: needs 16 images"
    assert any("KID" in text and "no full rank" in text for text in found["sets"][0]["warnings"]) and "n/a" in out


def test_reference_images_are_the_first_ones(evaluated, files):
    _, found, _, _ = evaluated(*files, "--reference_images", 50)
    wanted = frechet(features(draw(64, 1)), features(draw(200, 2)[:50]))
    assert figure(found["sets"][0], "fd")["value"] == pytest.approx(wanted, rel=1e-5)
    assert found["reference"]["split"] == "the first 50 of 200 images of the file"


def test_a_data_set_is_a_reference(evaluated, images, cache):
    drawn = images("noise.npz", np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8))
    code, found, _, _ = evaluated("--images", drawn, "--reference", "digits", "--reference_images", 40)
    assert code == 0 and found["reference"]["dataset"] == "digits"
    assert found["reference"]["split"] == "the first 40 of 1,797 training images, without flips"


def test_the_cache_spares_the_network_and_changes_nothing(evaluated, files, quarters, cache):
    _, first, _, _ = evaluated(*files, "--batch_size", 10)
    assert quarters.calls == 20 + 7
    _, second, out, _ = evaluated(*files, "--batch_size", 10)
    assert quarters.calls == 20 + 7 + 7 and "features from the cache" in out
    assert second["reference"]["cached"] and second["reference"]["images_per_s"] is None
    assert [one["figures"] for one in first["sets"]] == [one["figures"] for one in second["sets"]]
    (path,) = (cache / "features").iterdir()
    np.testing.assert_allclose(load_file(path)["features"], features(draw(200, 2)), rtol=1e-5)
    assert path.stat().st_mode & 0o044 == 0o044 & ~_umask()


def _umask() -> int:
    import os

    found = os.umask(0)
    os.umask(found)
    return found


def _foreign(path):
    """Another extractor's features under this name, with a right checksum."""
    array = np.ones((200, 12), np.float32)
    save_file({"features": array}, path, {"identity": "{}", "sha256": kept_features._digest(array)})


def _poisoned(path):
    """NaN, with a right checksum and identity."""
    with kept_features.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    array = np.full((200, 12), np.nan, np.float32)
    save_file({"features": array}, path, {**metadata, "sha256": kept_features._digest(array)})


def _changed(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_foreign, _poisoned, _changed, lambda path: path.write_bytes(path.read_bytes()[:99]),
                                  lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\x80\x04.")])
def test_a_harmed_cache_is_computed_again(evaluated, files, cache, harm):
    _, first, _, _ = evaluated(*files)
    (path,) = (cache / "features").iterdir()
    good = load_file(path)["features"]
    harm(path)
    code, found, _, errors = evaluated(*files)
    assert code == 0 and not found["reference"]["cached"]
    assert any("computing the features again" in line and str(path) in line for line in errors)
    assert found["sets"][0]["figures"] == first["sets"][0]["figures"]
    np.testing.assert_array_equal(load_file(path)["features"], good)


def test_a_cache_that_cannot_be_written_is_no_fault(evaluated, files, cache):
    cache.mkdir(parents=True)
    (cache / "features").write_text("a file is in the way")
    code, found, _, errors = evaluated(*files)
    assert code == 0 and found and any("not kept" in line for line in errors)


def test_another_process_may_be_faster(tmp_path):
    """The same features appear while they are computed: neither minds, and one whole file is left."""
    made = extractors.Extracted(np.ones((3, 2), np.float32), None, 1.0)
    wanted = {"extractor": "quarters", "images": 3, "feature_size": 2}

    def compute():
        kept_features.cached(wanted, lambda: made, print, tmp_path)
        return made

    assert kept_features.cached(wanted, compute, pytest.fail, tmp_path)[1] == 1.0
    features, rate = kept_features.cached(wanted, lambda: pytest.fail("computed"), pytest.fail, tmp_path)
    assert rate is None and len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(features, made.features)


def test_nan_of_the_network_gets_nowhere(evaluated, files, cache, quarters, monkeypatch):
    monkeypatch.setattr(quarters, "weight", float("nan"))
    code, found, _, errors = evaluated(*files)
    assert (code, found) == (2, None) and "NaN" in errors[-1] and not (cache / "features").exists()


def test_copies_are_found_and_shown(evaluated, images, tmp_path):
    real = draw(60, 2)
    drawn = np.concatenate([real[[7, 31]], draw(20, 9)])
    _, found, _, _ = evaluated("--images", images("drawn.npz", drawn), "--reference", images("real.npz", real),
                               "--nearest", tmp_path / "near", "--nearest_images", 4)
    near = found["sets"][0]["nearest"]
    assert near["space"] == "features of quarters" and len(near["distances"]) == 4
    assert max(near["distances"][:2]) < 1e-3 * near["typical"] < near["distances"][2]
    ours, theirs = features(drawn[:4]), features(real)
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    np.testing.assert_allclose(near["distances"][2:], apart.min(1)[2:], rtol=1e-4)
    between = np.linalg.norm(theirs[:, None] - theirs[None], axis=2) + np.diag([np.inf] * 60)
    assert near["typical"] == pytest.approx(np.median(between.min(1)), rel=1e-4)
    with Image.open(near["picture"]) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (4 * 10 + 2, 18 + 3 * 10, 3)
    for row, rows in enumerate(np.argsort(apart, axis=1)[:, :3]):
        strip = pixels[2 + 10 * row : 10 + 10 * row]
        np.testing.assert_array_equal(strip[:, 2:10], drawn[row])
        for column, number in enumerate(rows):
            np.testing.assert_array_equal(strip[:, 18 + 10 * column : 26 + 10 * column], real[number])


def test_left_out_groups_are_the_same_for_every_set_of_a_size():
    assert [list(rows) for rows, _ in partition(64, 1).groups] == [list(rows) for rows, _ in partition(64, 1).groups]


def test_auto_takes_efficientnet_where_inception_cannot_be_had(evaluated, files):
    code, found, _, errors = evaluated(*files, features="auto")
    # The reference is too small for either; what was chosen is said before.
    assert (code, found) == (2, None) and "200 reference images are too few for inception-v3-compat" in errors[-2]
    assert "efficientnet-lite0 has 1280 features" in errors[-1]


@pytest.mark.parametrize(("dataset", "count", "reachable", "wanted"), [
    ("cifar10", 5000, True, "inception-v3-compat"), ("cifar10", 5000, False, "efficientnet-lite0"),
    ("cifar10", 1500, True, "efficientnet-lite0"), ("digits", 5000, True, "efficientnet-lite0")])
def test_auto_downloads_only_for_cifar10(cache, monkeypatch, dataset, count, reachable, wanted):
    def download(say):
        if not reachable:
            raise evaluate.DataError("no network")
        return cache

    monkeypatch.setattr(evaluate.inception_file, "download", download)
    said = []
    options = evaluate_options.parse(["--images", "x.npz"])
    assert evaluate.choose(options, dataset, count, said.append).name == wanted
    assert wanted in said[-1]


def test_auto_takes_inception_where_its_file_is(cache, monkeypatch):
    path = evaluate.inception_file.own_folder() / evaluate.inception_file.NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    said = []
    assert evaluate.choose(evaluate_options.parse(["--images", "x"]), "digits", 2049, said.append).name == (
        "inception-v3-compat")
    assert str(path) in said[0]


class Point:
    name, value = "quarters", "scripted_features:SPEC"

    def __init__(self, found):
        self.found = found

    def load(self):
        return self.found


def test_entry_points_add_networks(monkeypatch):
    import scripted_features

    monkeypatch.setattr("impls.plugins.entry_points", lambda group: {"ddpm_bench.features": [
        Point(scripted_features.SPEC)]}[group])
    assert extractors.find("quarters") is scripted_features.SPEC
    made = extractors.create(extractors.find("quarters"), extractors.WeightsRequest())
    assert made.network is scripted_features.NETWORK


@pytest.mark.parametrize("found", ["text", extractors.BUILT_IN[0], extractors.FeatureSpec("auto", "m", 2, 2)])
def test_entry_points_must_name_a_new_network(monkeypatch, found):
    monkeypatch.setattr("impls.plugins.entry_points", lambda group: [Point(found)])
    with pytest.raises(extractors.UsageError, match="expected a FeatureSpec with a name of its own"):
        extractors.specs()


def test_a_package_that_is_not_installed_is_a_clear_line():
    spec = extractors.FeatureSpec("gone", "no_such_package_here", 2, 2)
    with pytest.raises(extractors.UsageError, match="no_such_package_here.*install"):
        extractors.create(spec, extractors.WeightsRequest())


def test_the_json_is_strict(evaluated, files, tmp_path):
    evaluated(*files)
    json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
